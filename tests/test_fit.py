"""What a fit says of itself: status, draws, and intervals that cover."""

from dataclasses import replace

import numpy as np
import pytest

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import FitStatus
from scalegrow.laws.forecast import forecast
from scalegrow.laws.law import Law
from scalegrow.laws.loss import Huber, LeastSquares
from scalegrow.laws.newton import minimise
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points
from scalegrow.laws.scratch import Chinchilla
from scalegrow.laws.solve import Setup, solve
from scalegrow.laws.uncertainty import METHODS, WEBB, resampled
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import keep_rows

OPERATORS = ("szp", "net2net")
LAW = Law.of(Chinchilla(), E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


@pytest.fixture(scope="module")
def published() -> Observations:
    table = keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")
    return Observations.from_table(table, form_named("fading-capacity", OPERATORS))


def simulated(
    seed: int, scale: float = 0.005, copies: int = 1, shared: float = 0.0, side: int = 6
) -> Observations:
    """Chinchilla runs with normal noise; `copies` checkpoints of a run share a shock of scale `shared`."""
    rng = np.random.default_rng(seed)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 3e9, side), np.geomspace(1e9, 1e11, side)))
    run = np.repeat(np.arange(len(N)), copies)
    noise = rng.normal(scale=scale, size=len(run)) + rng.normal(scale=shared, size=len(N))[run]
    points = Points.of(N[run], D[run])
    return Observations.of(points, LAW.predict(points) * np.exp(noise), run=run)


def test_converged() -> None:
    made = fit(Chinchilla(), simulated(0), draws=200)
    assert made.status is FitStatus.CONVERGED
    assert made.law["E"] == pytest.approx(1.69, abs=0.15)


def test_a_coefficient_that_is_hardly_known_is_named() -> None:
    """A law can converge and its A be nearly anything: it stands for models of one parameter."""
    rng = np.random.default_rng(0)
    law = Law.of(Chinchilla(), E=1.0, A=30.0, B=100.0, alpha=0.3, beta=0.3)
    N, t = (v.ravel() for v in np.meshgrid(np.geomspace(1e8, 1e11, 5), [5, 10, 20, 40]))
    points = Points.of(N, t * N)
    for noise, named in ((2e-2, True), (1e-5, False)):
        losses = law.predict(points) * np.exp(noise * rng.standard_normal(len(N)))
        made = fit(Chinchilla(), Observations.of(points, losses), fixed={"E": 1.0}, draws=200)
        assert made.status is FitStatus.CONVERGED
        assert ("hardly known alone" in made.message) == named


def test_nine_grown_runs_alone_are_not_identified(published: Observations) -> None:
    """The published per-arm fits: SZP at one small factor collapses to E = 0 and is refused, not reported."""
    nearest = published.points.operator == "szp"
    order = published.take(nearest)
    small = order.take(order.points.g < np.where(order.points.N > 2e8, 4, 2.5))
    scratch_like = Observations.of(Points.of(small.points.N, small.points.D), np.exp(small.y))
    assert len(scratch_like) == 9
    made = fit(Chinchilla(), scratch_like, draws=100)
    assert made.status is FitStatus.NOT_IDENTIFIED
    assert not made.status.usable


def test_free_floor_is_refused_and_swept_floor_accepted(published: Observations) -> None:
    form = form_named("fading-capacity", OPERATORS)
    free = fit(form, published, draws=50)
    assert free.status is FitStatus.NOT_IDENTIFIED
    assert free.message.startswith("E went to 0")
    swept = fit(form, published, fixed={"E": (0.402, 1.305)}, draws=400)
    assert swept.status is FitStatus.CONVERGED
    floors = swept.values()[:, 0]
    assert floors.min() >= 0.402
    assert floors.max() <= 1.305
    assert np.quantile(floors, 0.5) == pytest.approx(0.8535, abs=0.01)


def test_at_bound_names_the_coefficient(published: Observations) -> None:
    made = fit(form_named("effective-data", OPERATORS), published, fixed={"E": 0.8}, draws=50)
    assert made.status is FitStatus.AT_BOUND
    assert "kappa[net2net]" in made.message


def test_one_model_size_cannot_tell_floor_from_size() -> None:
    D = np.geomspace(1e8, 1e11, 20)
    points = Points.of(1e8, D)
    made = fit(Chinchilla(), Observations.of(points, LAW.predict(points)), draws=20)
    assert made.status is FitStatus.NOT_IDENTIFIED


def test_too_few_runs_whatever_the_checkpoints() -> None:
    crowded = simulated(0, copies=10)
    few = crowded.take(crowded.run < 4)
    assert len(few) == 40
    with pytest.raises(InputError, match="4 runs cannot determine 5 coefficients"):
        fit(Chinchilla(), few)


def test_held_coefficients_stay() -> None:
    made = fit(Chinchilla(), simulated(0), fixed={"alpha": 0.3, "E": 1.5}, draws=30)
    assert made.law["alpha"] == pytest.approx(0.3)
    assert np.allclose(made.values()[:, 0], 1.5)


def test_a_fit_is_a_function_of_its_seed() -> None:
    first, again, other = (fit(Chinchilla(), simulated(0), draws=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)


def test_order_of_rows_does_not_matter() -> None:
    data = simulated(0)
    order = np.random.default_rng(0).permutation(len(data))
    shuffled = Observations(data.points.take(order), data.y[order], data.run[order], data.cluster[order])
    first, second = (fit(Chinchilla(), d, draws=2).law.coefficients for d in (data, shuffled))
    assert first == pytest.approx(second, rel=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws(method: str) -> None:
    made = fit(Chinchilla(), simulated(0), resampling=method, draws=50)
    assert made.draws.shape == (50, 5)
    assert made.draws.std(axis=0).min() > 0


def test_methods_by_number_of_groups(published: Observations) -> None:
    assert fit(Chinchilla(), simulated(0), draws=2).resampling == "wild-cluster"  # 36 runs
    assert fit(Chinchilla(), simulated(0, copies=2), draws=2).resampling == "wild-cluster"


def test_draws_are_the_fits_that_one_would_make_alone() -> None:
    """Batching changes nothing: each draw equals its own cold fit from the seeds."""
    data = simulated(3)
    setup = Setup.of(Chinchilla(), data, Huber(), {})
    optimum = solve(setup)
    _, w = resampled(setup, optimum, "row", 12, np.random.default_rng(0))
    batch = minimise(replace(setup.problem, w=w), np.tile(optimum.theta, (12, 1)))
    for counts, theta in zip(w, batch.theta, strict=True):
        alone = solve(replace(setup, problem=replace(setup.problem, w=counts)))
        assert theta == pytest.approx(alone.theta, abs=1e-6)


def test_rows_without_weight_have_no_say() -> None:
    data = simulated(0)
    setup = Setup.of(Chinchilla(), data, Huber(), {})
    w = np.ones(len(data))
    w[:3] = 0
    spoilt = data.y.copy()
    spoilt[:3] += 5.0
    clean, dirty = (
        minimise(replace(setup.problem, y=y, w=w), solve(setup).theta[None]).theta[0] for y in (data.y, spoilt)
    )
    assert clean == pytest.approx(dirty, abs=1e-12)


def test_checkpoints_of_one_run_are_not_independent() -> None:
    """With a shock per run, resampling rows understates the error by about sqrt(copies)."""
    data = simulated(1, scale=0.0005, copies=10, shared=0.005)
    by_row, by_run = (
        fit(Chinchilla(), data, resampling=m, draws=300).draws[:, 3].std() for m in ("row", "cluster")
    )
    assert by_run > 2 * by_row


def test_webb_weights_have_mean_0_and_variance_1() -> None:
    weights = np.concatenate([-WEBB, WEBB])
    assert weights.mean() == 0
    assert np.mean(weights**2) == pytest.approx(1.0)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="wild-cluster"):
        fit(Chinchilla(), simulated(0), resampling="magic")


def covered(method: str, repeats: int, *, copies: int = 1, shared: float = 0.0, side: int = 6) -> float:
    """Share of simulated experiments whose 90 % mean interval holds the true loss at a new point."""
    asked = Points.of(1e9, 3e10)
    truth = LAW.predict(asked)[0]
    hits = 0
    for seed in range(repeats):
        data = simulated(seed, copies=copies, shared=shared, side=side)
        made = fit(Chinchilla(), data, loss=LeastSquares(), resampling=method, draws=200, seed=seed)
        answer = forecast(made, asked, level=0.9)
        hits += bool(answer.low[0] <= truth <= answer.high[0])
    return hits / repeats


@pytest.mark.parametrize(("method", "side"), [("row", 11), ("wild-cluster", 6), ("parametric", 6)])
def test_mean_intervals_cover(method: str, side: int) -> None:
    """60 experiments of side x side runs: nominal 0.90, within three binomial standard errors (0.039 each)."""
    assert covered(method, 60, side=side) == pytest.approx(0.9, abs=0.117)


def test_row_intervals_fail_where_checkpoints_share_a_shock() -> None:
    """Negative control: resampling checkpoints as if they were runs covers far below nominal."""
    by_row = covered("row", 40, copies=8, shared=0.01)
    by_run = covered("wild-cluster", 40, copies=8, shared=0.01)
    assert by_row < 0.75 < by_run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "side", "copies"),
    [("row", 11, 1), ("cluster", 11, 2), ("wild-cluster", 6, 1), ("wild-cluster", 6, 2), ("parametric", 6, 1)],
)
def test_mean_intervals_cover_closely(method: str, side: int, copies: int) -> None:
    """600 experiments, each method where `auto` would use it: 0.90 to within 0.05 (standard error 0.012)."""
    found = covered(method, 600, side=side, copies=copies, shared=0.005 if copies > 1 else 0.0)
    assert found == pytest.approx(0.9, abs=0.05)
