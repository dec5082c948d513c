"""Draws of the coefficients: what else the same experiment could have said.

Runs that share a base are not independent, so whole clusters are resampled, never rows of one:
row          rows with replacement (every row an independent run)
cluster      clusters with replacement
wild-cluster the design stays; each cluster's residuals, inflated for leverage (CR3, MacKinnon, Nielsen and
             Webb 2023), get a random sign; below 12 clusters one of Webb's six weights
parametric   the design stays; normal residuals of the fit's robust scale, independent by row
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scalegrow.errors import InputError
from scalegrow.laws.loss import NEAR, LeastSquares
from scalegrow.laws.newton import Minimum, Problem, anneal, minimise
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import FloatArray, Units
from scalegrow.laws.solve import Optimum, Setup

METHODS = ("auto", "row", "cluster", "wild-cluster", "parametric")
WEBB = np.sqrt(np.array([0.5, 1.0, 1.5]))  # Webb 2014: six weights +-sqrt(1/2), +-1, +-sqrt(3/2)
FEW_CLUSTERS = 12  # below, random signs alone make too few different draws (Webb 2014)
ENOUGH_CLUSTERS = 50  # below, resampling whole clusters often loses a size or an operator
BLOCK = 20_000_000  # numbers in the resampled data held at once
ON_SLOPE = 1e-6  # relative decrement above which a draw has not reached an optimum
LEAST_FREEDOM = 0.2  # a cluster that decides a coefficient alone has no residual left to inflate


@dataclass(frozen=True)
class Draws:
    """theta (M, p) in plain units, the method, and the share of draws that reached an optimum."""

    theta: FloatArray
    method: str
    converged: float
    vanished: dict[str, float]


def choose_method(observations: Observations, method: str) -> str:
    """auto: resample while there are many independent units, else keep the design (wild cluster)."""
    if method not in METHODS:
        raise InputError(f"'{method}' is no resampling method: choose one of {', '.join(METHODS)}.")
    if method != "auto":
        return method
    if observations.n_clusters < ENOUGH_CLUSTERS:
        return "wild-cluster"
    return "row" if observations.n_clusters == len(observations) else "cluster"


def draw(setup: Setup, optimum: Optimum, method: str, M: int, seed: int) -> Draws:
    """M refits (M, p) to resampled data, each from the optimum; swept coefficients spread evenly."""
    rng = np.random.default_rng(seed)
    method = choose_method(setup.observations, method)
    spread = (rng.permutation(M) + 0.5) / M
    size = max(1, BLOCK // len(setup.observations))
    blocks = [_refit(setup, optimum, method, spread[start : start + size], rng) for start in range(0, M, size)]
    theta = np.concatenate([block.theta for block in blocks])
    decrement = np.concatenate([block.decrement for block in blocks])
    low = (theta <= setup.problem.lower) & setup.problem.free
    vanished = {
        c.name: float(share)
        for c, share in zip(setup.form.coefficients, low.mean(axis=0), strict=True)
        if c.kind == "scale" and share > 0
    }
    plain = setup.form.change_units(theta, setup.units, Units())
    return Draws(plain, method, float(np.mean(decrement <= ON_SLOPE)), vanished)


def _refit(setup: Setup, optimum: Optimum, method: str, spread: FloatArray, rng: np.random.Generator) -> Minimum:
    """One block of refits, with swept coefficients at the quantiles `spread`."""
    y, w = resampled(setup, optimum, method, len(spread), rng)
    problem = replace(setup.problem, y=y, w=w)
    starts = setup.hold(np.tile(optimum.theta, (len(spread), 1)), spread)
    return restarted(problem, anneal(problem, starts, NEAR), setup.hold(optimum.seeds), problem.free)


def restarted(problem: Problem, found: Minimum, seeds: FloatArray, free: npt.NDArray[np.bool_]) -> Minimum:
    """Problems still on a slope after the first pass, run again from every seed; the best of all is kept.

    Where the data hardly bend the objective (two model sizes, say) the way from one optimum to another
    is a long curved valley, and starting beyond it is quicker than walking through it.
    """
    stuck = np.flatnonzero(found.decrement > ON_SLOPE)
    if not len(stuck):
        return found
    theta, objective, decrement = found.theta.copy(), found.objective.copy(), found.decrement.copy()
    part = problem.take(stuck)
    for seed in seeds:
        other = anneal(part, np.where(free, seed, theta[stuck]), NEAR)
        better = other.objective < objective[stuck]
        rows = stuck[better]
        theta[rows], objective[rows] = other.theta[better], other.objective[better]
        decrement[rows] = other.decrement[better]
    return Minimum(theta, objective, decrement, found.iterations)


def resampled(
    setup: Setup, optimum: Optimum, method: str, M: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """(y, w) of M resampled data sets: either may be shared, shape (n,), or differ, (M, n)."""
    obs, problem = setup.observations, setup.problem
    n, ones = len(obs), np.ones(len(obs))
    if method == "row":
        return problem.y, rng.multinomial(n, np.full(n, 1 / n), size=M).astype(float)
    if method == "cluster":
        k = obs.n_clusters
        counts = rng.multinomial(k, np.full(k, 1 / k), size=M)
        return problem.y, counts[:, obs.cluster].astype(float)
    f = problem.surface.value(optimum.theta[None])[0][0]
    if method == "wild-cluster":
        weights = random_signs(obs.n_clusters, M, rng)
        return f + weights[:, obs.cluster] * inflated_residuals(setup, optimum), ones
    scale = robust_scale(problem.y - f, int(problem.free.sum()))
    return f + rng.normal(0.0, scale, size=(M, n)), ones


def random_signs(clusters: int, M: int, rng: np.random.Generator) -> FloatArray:
    """A weight for each cluster in M draws, (M, clusters): -1 or 1, or one of Webb's six of few clusters."""
    sizes = WEBB if clusters < FEW_CLUSTERS else np.ones(1)
    return rng.choice(np.concatenate([-sizes, sizes]), size=(M, clusters))


def robust_scale(r: FloatArray, n_free: int) -> float:
    """1.4826 median |r| (consistent for normal residuals), times sqrt(n/(n - p))."""
    n = len(r)
    return float(1.4826 * np.median(np.abs(r)) * np.sqrt(n / max(n - n_free, 1)))


def inflated_residuals(setup: Setup, optimum: Optimum) -> FloatArray:
    """(I - H_cc)^-1 r_c per cluster c, H the hat matrix of the linearised law (CR3): about a jackknife.

    r are least-squares residuals, whatever the loss: a nearly absolute loss passes exactly through some
    points, and their zeros would make its own draws too narrow. Stretched by sqrt(nu/(nu - 2)), the
    standard deviation of Student's t, for nu = clusters - coefficients.
    """
    theta = minimise(replace(setup.problem, loss=LeastSquares()), optimum.theta[None]).theta[0]
    residuals = setup.problem.y - setup.problem.surface.value(theta[None])[0][0]
    q, _ = np.linalg.qr(setup.problem.surface.jacobian(theta)[:, setup.problem.free])
    out = residuals.copy()
    for c in range(setup.observations.n_clusters):
        rows = np.flatnonzero(setup.observations.cluster == c)
        out[rows] = without_leverage(q[rows] @ q[rows].T, residuals[rows])
    freedom = max(setup.observations.n_clusters - int(setup.problem.free.sum()), 3)
    return out * np.sqrt(freedom / (freedom - 2))


def without_leverage(hat: FloatArray, residuals: FloatArray) -> FloatArray:
    """(I - H_cc)^-1 r_c of one cluster: its residuals (k,) about a fit without it, by its hat matrix (k, k)."""
    values, vectors = np.linalg.eigh(np.eye(len(residuals)) - hat)
    inverse = vectors @ np.diag(np.maximum(values, LEAST_FREEDOM) ** -1) @ vectors.T
    return np.asarray(inverse @ residuals)
