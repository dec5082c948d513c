"""Intervals of everything decided, against the truth of simulated growth studies."""

from dataclasses import replace

import numpy as np
import pytest

from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Calibration
from scalegrow.laws.law import Law
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points
from scalegrow.plan.decide import Question, decide

ASKED = Question(N=1e8, g=2.0, D=2e9, D_base=1e9, operator="szp")
DECIDED = (
    "loss_scratch",
    "loss_grown",
    "difference",
    "compute_saved",
    "break_even_budget",
    "largest_useful_factor",
)
TRUTH = {"E": 1.7, "A": 400, "B": 410, "alpha": 0.34, "beta": 0.28, "rho[szp]": 0.03, "kappa[szp]": 0.1}


def study(seed: int) -> tuple[Law, Observations]:
    """Four sizes, four budgets, scratch and four growth factors, 0.3 % noise; runs of one base form a cluster."""
    law = Law.of(form_named("fading-capacity", ("szp",)), **TRUTH)
    N, tpp, g = (v.ravel() for v in np.meshgrid([2e7, 5e7, 1e8, 2e8], [5, 10, 20, 40], [1.0, 1.5, 2, 4, 8]))
    D_base, operator = np.where(g > 1, 20 * N / g, 0.0), np.where(g > 1, "szp", "scratch")
    points = Points.of(N, tpp * N, g, D_base, operator)
    noise = np.random.default_rng(seed).normal(0, 0.003, len(points))
    return law, Observations.of(points, law.predict(points) * np.exp(noise), cluster=N * 100 + g)


def coverage(repeats: int) -> dict[str, float]:
    """Share of studies whose 90 % interval holds the truth, per thing decided, with every default."""
    hits = dict.fromkeys(DECIDED, 0)
    for seed in range(repeats):
        law, data = study(seed)
        made = fit(law.form, data, draws=200, seed=seed)
        known = replace(made, law=law, draws=np.tile(law.theta, (2, 1)), calibration=Calibration.flat())
        answer, truth = decide(made, ASKED, level=0.9), decide(known, ASKED)
        for name in DECIDED:
            estimate = getattr(answer, name)
            hits[name] += estimate.low <= getattr(truth, name).value <= estimate.high
    return {name: count / repeats for name, count in hits.items()}


def test_decisions_are_covered() -> None:
    """40 studies: nominal 0.90, at least three binomial standard errors (0.047 each) below it."""
    assert min(coverage(40).values()) > 0.9 - 0.142


@pytest.mark.slow
def test_decisions_are_covered_closely() -> None:
    """300 studies: 0.90 to within 0.05 (standard error 0.017).

    The break-even budget, at 84 tokens per parameter, lies outside the study's 5 to 40, where
    uncalibrated intervals widen: it may be covered more often.
    """
    found = coverage(300)
    print(found)
    assert min(found.values()) > 0.85
    assert max(share for name, share in found.items() if name != "break_even_budget") < 0.95
