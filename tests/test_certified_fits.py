"""Published data in, published coefficients out (Epoch's 240 points; arXiv 2404.10102)."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from scalegrow.laws.fit import fit
from scalegrow.laws.frontier import frontier, isoflop_minima
from scalegrow.laws.law import Law
from scalegrow.laws.loss import Huber, LeastAbsolute, LeastSquares, Loss
from scalegrow.laws.newton import minimise
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Units
from scalegrow.laws.published import PUBLISHED, gstack_growth_timing
from scalegrow.laws.scratch import Chinchilla
from scalegrow.laws.solve import Setup, solve
from scalegrow.runs.shipped import load_table

HUBER_OBJECTIVE = 0.00101827401780


@pytest.fixture(scope="module")
def all_points() -> Observations:
    return Observations.from_table(load_table("chinchilla_epoch"), Chinchilla())


@pytest.fixture(scope="module")
def points(all_points: Observations) -> Observations:
    """Without the five highest losses, in the order of the file."""
    return all_points.take(all_points.y < np.sort(all_points.y)[-5])


def coefficients(observations: Observations, loss: Loss) -> npt.NDArray[np.float64]:
    setup = Setup.of(Chinchilla(), observations, loss, {})
    return Chinchilla().values(Chinchilla().change_units(solve(setup).theta, setup.units, Units()))


def test_huber_optimum(points: Observations) -> None:
    made = fit(Chinchilla(), points, draws=2)
    assert len(points) == 240
    assert made.certificate.objective == pytest.approx(HUBER_OBJECTIVE, rel=1e-9)
    for value, certified, digits in zip(
        made.law.coefficients, (1.817218, 477.826, 2143.417, 0.347310, 0.367172), (6, 3, 3, 6, 6), strict=True
    ):
        assert value == pytest.approx(certified, abs=0.51 * 10**-digits)


def test_certificate_of_the_huber_optimum(points: Observations) -> None:
    certificate = fit(Chinchilla(), points, draws=2).certificate
    assert certificate.decrement < 1e-12
    assert min(certificate.eigenvalues) > 0
    assert certificate.optima == 1
    assert abs(certificate.second_solver) < 1e-10
    assert certificate.delta_over_mad == pytest.approx(1e-3 / 0.0033, rel=0.05)


@pytest.mark.parametrize(
    ("loss", "certified"),
    [
        (LeastAbsolute(), (1.81686, 482.006, 2085.434, 0.347813, 0.365854)),
        (LeastSquares(), (1.8646, 593.3, 4875.6, 0.3603, 0.4059)),
    ],
)
def test_other_losses(points: Observations, loss: Loss, certified: tuple[float, ...]) -> None:
    assert coefficients(points, loss) == pytest.approx(certified, rel=1.5e-4)


def test_lad_gives_the_published_row(points: Observations) -> None:
    """A, B, alpha and beta of the published row are least absolute deviations, to 1e-6.

    Epoch's free scale stopped at a Huber delta of 5e-9 (B = 2085.434); the exact optimum, which passes
    through five of the points, has B = 2085.436.
    """
    _, A, B, alpha, beta = coefficients(points, LeastAbsolute())
    assert (A, B, alpha, beta) == pytest.approx((482.006, 2085.434, 0.347813, 0.365854), rel=1.5e-6)


def test_lad_optimum_passes_through_five_points(points: Observations) -> None:
    law = Law.of(Chinchilla(), **dict(zip(Chinchilla().names, coefficients(points, LeastAbsolute()), strict=True)))
    residuals = np.sort(np.abs(points.y - np.log(law.predict(points.points))))
    assert residuals[4] < 1e-12 < 1e-6 < residuals[5]


@pytest.mark.parametrize(
    ("loss", "certified"),
    [
        (Huber(), (1.8913, 495.7, 12845.6, 0.3493, 0.4530)),
        (LeastSquares(), (1.9918, 749.5, 370523, 0.3721, 0.6120)),
    ],
)
def test_with_the_five_outliers(all_points: Observations, loss: Loss, certified: tuple[float, ...]) -> None:
    assert coefficients(all_points, loss) == pytest.approx(certified, rel=2e-4)


@pytest.mark.parametrize(
    ("name", "objective"), [("hoffmann-2022", 0.00123116), ("hoffmann-2022-rounded", 0.00412101)]
)
def test_objectives_of_published_laws(points: Observations, name: str, objective: float) -> None:
    residuals = points.y - np.log(PUBLISHED[name].law.predict(points.points))
    assert Huber().rho(residuals).sum() == pytest.approx(objective, abs=0.6e-8)


def test_published_standard_errors(points: Observations) -> None:
    """Epoch's own 4,000 resamples (numpy seed 42), refitted exactly."""
    rng = np.random.RandomState(42)
    counts = np.zeros((4000, 240))
    for row in counts:
        np.add.at(row, rng.choice(np.arange(240), 240), 1)
    setup = Setup.of(Chinchilla(), points, Huber(), {})
    optimum = solve(setup)
    found = minimise(replace(setup.problem, w=counts), np.tile(optimum.theta, (4000, 1)))
    assert found.decrement.max() < 1e-9
    values = Chinchilla().values(Chinchilla().change_units(found.theta, setup.units, Units()))
    E, A, B, alpha, beta = values.std(axis=0)
    assert pytest.approx(124.5, abs=0.05) == A
    assert pytest.approx(1293, abs=0.6) == B
    assert pytest.approx(0.0257, abs=5.1e-5) == E
    assert alpha == pytest.approx(0.0154, abs=5.1e-5)
    assert beta == pytest.approx(0.0206, abs=5.1e-5)


@pytest.mark.parametrize(
    ("n_params", "tokens", "expected"),
    [(8e9, 15e12, 6.58), (7e9, 2e12, 11.11), (13e9, 2e12, 15.84), (70e9, 2e12, 42.48)],
)
def test_gstack_timing_as_its_readme_prints(n_params: float, tokens: float, expected: float) -> None:
    assert gstack_growth_timing(n_params, tokens) / 1e9 == pytest.approx(expected, abs=0.006)


def test_isoflop_frontier_agrees_with_the_law(points: Observations) -> None:
    """Approach 2 beside approach 3 (a = 0.514): both regressions' intervals hold it."""
    minima = isoflop_minima(points, draws=200)
    assert (
        minima["status"].is_in(["CONVERGED", "TOO_FEW_RUNS", "NOT_CERTIFIED", "NOT_IDENTIFIED", "AT_BOUND"]).all()
    )
    assert minima.drop_nulls("n_opt").height >= 8
    for method in ("weighted", "robust"):
        answer = frontier(minima, method)
        assert answer.low < 0.5139 < answer.high
