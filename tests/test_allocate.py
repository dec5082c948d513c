"""Compute-optimal N and D against the closed form (Hoffmann et al. 2022, eq. 4)."""

import numpy as np
import pytest

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Fit
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points
from scalegrow.plan.allocate import allocate


@pytest.mark.parametrize(("flops", "tpp"), [(1e20, 22.8), (5.76e23, 17.9), (1e24, 17.7), (1e26, 15.5)])
def test_tokens_per_parameter_of_the_exact_huber_fit(chinchilla: Fit, flops: float, tpp: float) -> None:
    assert allocate(chinchilla, flops).tpp.value == pytest.approx(tpp, abs=0.06)


def test_optimum_is_the_closed_form(chinchilla: Fit) -> None:
    """N = G (C/6)^(beta/(alpha+beta)), G = (alpha A / (beta B))^(1/(alpha+beta))."""
    law, C = chinchilla.law, 3e21
    a, b = law["alpha"], law["beta"]
    N = (a * law["A"] / (b * law["B"])) ** (1 / (a + b)) * (C / 6) ** (b / (a + b))
    found = allocate(chinchilla, C)
    assert found.n_params.value == pytest.approx(N, rel=1e-5)
    assert found.tokens.value == pytest.approx(C / 6 / N, rel=1e-5)
    assert found.loss.value == pytest.approx(law.predict(Points.of(N, C / 6 / N))[0], rel=1e-7)
    assert found.exponent.value == pytest.approx(b / (a + b), abs=1e-5)


def test_exponent_interval_is_the_published_one(chinchilla: Fit) -> None:
    """Besiroglu et al. 2024: a = .513 with standard error .02."""
    exponent = allocate(chinchilla, 1e21).exponent
    assert (exponent.high - exponent.low) / 3.92 == pytest.approx(0.02, abs=0.002)


def test_loss_interval_widens_outside(chinchilla: Fit) -> None:
    inside, outside = allocate(chinchilla, 1e21).loss, allocate(chinchilla, 1e25).loss
    assert outside.high - outside.low > 3 * (inside.high - inside.low)


def test_joint_fits_allocate_their_scratch_arm(warmstart: Fit) -> None:
    found = allocate(warmstart, 2e18)
    assert found.n_params.low < found.n_params.value < found.n_params.high


def test_laws_without_a_trade_are_refused() -> None:
    N = np.geomspace(1e6, 1e9, 12)
    table = Observations.of(Points.of(N, 1.0), 1.5 + 100 * N**-0.3)
    made = fit(form_named("power-n"), table, draws=20)
    with pytest.raises(InputError, match="does not trade"):
        allocate(made, 1e21)
