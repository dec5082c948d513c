"""Profile likelihoods and influences: closed forms, refits by hand, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.influence import influences, residuals
from scalegrow.laws.law import Law
from scalegrow.laws.likelihood import deviance, log_normaliser
from scalegrow.laws.loss import Huber, LeastAbsolute, LeastSquares, Loss
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points
from scalegrow.laws.profile import profile
from scalegrow.laws.solve import Fixed, Setup, solve

POWER, CHINCHILLA = form_named("power-n"), form_named("chinchilla")
LINE: Fixed = {"E": 0.0}  # ln L = ln A - alpha ln N


def runs(noise: float = 0.01, seed: int = 0) -> Observations:
    """Thirty runs of a power law in N."""
    rng = np.random.default_rng(seed)
    N = np.geomspace(1e6, 1e9, 30)
    return Observations.of(Points.of(N, 20 * N), 40 * N**-0.12 * np.exp(noise * rng.standard_normal(30)))


def surface(seed: int = 0) -> Observations:
    """Forty-eight runs of a Chinchilla law, two of each experiment."""
    rng = np.random.default_rng(seed)
    N, tpp = (each.ravel() for each in np.meshgrid(np.geomspace(1e7, 3e9, 8), np.geomspace(2, 200, 6)))
    law = Law.of(CHINCHILLA, E=1.7, A=400.0, B=400.0, alpha=0.34, beta=0.28)
    points = Points.of(N, tpp * N)
    loss = law.predict(points) * np.exp(0.004 * rng.standard_normal(48))
    return Observations.of(points, loss, np.arange(48) // 2)


@pytest.mark.parametrize("name", ["A", "alpha"])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_of_a_straight_line_by_least_squares_the_interval_is_the_textbook_one(name: str, level: float) -> None:
    """RSS(v) = RSS + (v - best)^2 / [(X'X)^-1]_kk, and D = n ln(RSS(v) / RSS)."""
    observed = runs()
    setup = Setup.of(POWER, observed, LeastSquares(), LINE)
    found = profile(setup, solve(setup), name, level)
    X = np.stack([np.ones(30), -np.log(observed.points.N)], axis=1)
    theta, (rss,), *_ = np.linalg.lstsq(X, observed.y, rcond=None)
    k = ["A", "alpha"].index(name)
    half = np.sqrt(rss * np.expm1(chi2.ppf(level, 1) / 30) * np.linalg.inv(X.T @ X)[k, k])
    expected = np.array([theta[k] - half, theta[k], theta[k] + half])
    expected = np.exp(expected) if name == "A" else expected
    assert [found.low, found.best, found.high] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [Huber(), Huber(0.02), LeastAbsolute(), LeastSquares()], ids=repr)
def test_a_profile_is_what_fits_with_the_coefficient_held_say(loss: Loss) -> None:
    observed = surface()
    setup = Setup.of(CHINCHILLA, observed, loss, {})
    optimum = solve(setup)
    found = profile(setup, optimum, "beta", points=9)
    for i in (1, 4, 7):
        held = solve(Setup.of(CHINCHILLA, observed, loss, {"beta": float(found.values[i])})).certificate.objective
        both = deviance(loss, np.array([optimum.certificate.objective, held]), 48)
        assert found.D[i] == pytest.approx(both[1] - both[0], abs=2e-3)
    assert found.D[4] == pytest.approx(0, abs=1e-6)
    assert found.low < found.best < found.high


def test_more_noise_widens_the_interval_in_proportion() -> None:
    def width(noise: float) -> float:
        setup = Setup.of(POWER, runs(noise), LeastSquares(), LINE)
        found = profile(setup, solve(setup), "alpha")
        return found.high - found.low

    assert width(0.02) == pytest.approx(2 * width(0.01), rel=1e-3)


@pytest.mark.parametrize("loss", [Huber(0.5), LeastAbsolute(), LeastSquares()], ids=repr)
@pytest.mark.parametrize("s", [0.05, 1.0])
def test_the_likelihood_integrates_to_one(loss: Loss, s: float) -> None:
    def density(r: float) -> float:
        return float(np.exp(-loss.rho(np.array(r)) / s - log_normaliser(loss)(s)))

    assert 2 * quad(density, 0, np.inf, limit=200)[0] == pytest.approx(1, abs=1e-6)


def test_deviances_of_normal_and_laplace_residuals() -> None:
    F = np.array([0.3, 0.7])
    assert np.diff(deviance(LeastSquares(), F, 40)) == pytest.approx(40 * np.log(7 / 3))
    assert np.diff(deviance(LeastAbsolute(), F, 40)) == pytest.approx(80 * np.log(7 / 3), rel=1e-5)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(60):
        setup = Setup.of(POWER, runs(seed=seed), LeastSquares(), LINE)
        found = profile(setup, solve(setup), "alpha", 0.8, points=9)
        held.append(found.low < 0.12 < found.high)
    assert 36 <= sum(held) <= 57  # 48 expected of 60, a little fewer for Wilks' theorem is for many runs


def test_what_has_no_profile_is_refused() -> None:
    setup = Setup.of(POWER, runs(), LeastSquares(), LINE)
    optimum = solve(setup)
    with pytest.raises(InputError, match="E was held fixed"):
        profile(setup, optimum, "E")
    with pytest.raises(InputError, match="no coefficient 'rho'"):
        profile(setup, optimum, "rho")
    with pytest.raises(InputError, match="no interval level"):
        profile(setup, optimum, "alpha", 1.5)


@pytest.mark.parametrize("loss", [Huber(), LeastSquares()], ids=repr)
def test_influence_is_a_refit_without_the_run(loss: Loss) -> None:
    observed = surface()
    setup = Setup.of(CHINCHILLA, observed, loss, {})
    optimum = solve(setup)
    found = influences(setup, optimum)
    assert len(found) == observed.n_runs == 24
    predicted = observed.y - residuals(setup, optimum)
    for run in (0, 11, 23):
        other = fit(CHINCHILLA, observed.take(observed.run != run), loss=loss, draws=2).law
        moved = np.log(other.predict(observed.points)) - predicted
        assert found[run] == pytest.approx(np.sqrt(np.mean(moved**2)), rel=2e-3)


def test_a_run_that_errs_is_the_most_influential() -> None:
    observed = surface()
    y = observed.y.copy()
    y[observed.run == 7] += 0.1
    setup = Setup.of(CHINCHILLA, replace(observed, y=y), LeastSquares(), {})
    assert influences(setup, solve(setup)).argmax() == 7
