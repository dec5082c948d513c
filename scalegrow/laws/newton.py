"""Damped Newton for many small robust fits at once, with exact derivatives.

Minimises F(theta) = sum_n w_n rho(y_n - f_n(theta)) for M independent problems (starts, bootstrap
draws) that share their points. The step is -(H + lambda G)^-1 grad F, where G is the matrix of the
least-squares majoriser (iterated reweighted least squares): far from the optimum that is a safe
descent direction, near it lambda shrinks and the step is Newton's. Stops are relative to F, never
absolute: a sum of Huber(1e-3) losses is about 1e-3 itself, where absolute tolerances stop early.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scalegrow.laws.law import Surface
from scalegrow.laws.loss import FAR, Loss
from scalegrow.laws.points import FloatArray

CACHE = 2**16  # numbers in a (M, n) array of problems advanced together: it stays in the cache
MAX_ITERATIONS = 1000
RELATIVE_DECREASE = 1e-9
LAMBDA_START, LAMBDA_DOWN, LAMBDA_UP, LAMBDA_MAX = 1e-3, 1 / 6, 5.0, 1e9
RIDGE = 1e-2  # of the largest diagonal of G; theta is in logs and exponents, all of order 1
EXACT = 1e-24  # an objective per row that is rounding alone
ROUNDING = 1e-13  # decreases below this share of F cannot be told from rounding


@dataclass(frozen=True)
class Problem:
    """M robust fits over the same n points.

    y, w: (n,) or (M, n). lower, upper: (p,) bounds on theta. free: (p,) coefficients to fit.
    """

    surface: Surface
    y: FloatArray
    w: FloatArray
    loss: Loss
    lower: FloatArray
    upper: FloatArray
    free: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.intp]) -> "Problem":
        """Some of the M fits."""
        return replace(self, y=_rows(self.y, rows), w=_rows(self.w, rows))


@dataclass(frozen=True)
class Minimum:
    """theta (M, p), F (M,), the projected gradient's Newton decrement relative to F (M,), iterations (M,)."""

    theta: FloatArray
    objective: FloatArray
    decrement: FloatArray
    iterations: npt.NDArray[np.intp]


def minimise(problem: Problem, starts: FloatArray) -> Minimum:
    """Run every start (M, p) to its local minimum, in chunks."""
    M, chunk = len(starts), min(max(CACHE // problem.y.shape[-1], 1), 256)
    starts = np.clip(starts, problem.lower, problem.upper)
    parts = [
        _minimise_chunk(problem, rows, starts[rows])
        for rows in (np.arange(i, min(i + chunk, M)) for i in range(0, M, chunk))
    ]
    return Minimum(*(np.concatenate([getattr(part, f) for part in parts]) for f in Minimum.__annotations__))


def anneal(problem: Problem, starts: FloatArray, widest: float = FAR) -> Minimum:
    """Minimise along the loss's path from smooth to sharp; the last step is the loss itself."""
    for loss in problem.loss.path(widest):
        found = minimise(replace(problem, loss=loss), starts)
        starts = found.theta
    return found


def _rows(values: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
    return values if values.ndim == 1 else values[rows]


def _minimise_chunk(problem: Problem, rows: npt.NDArray[np.intp], theta: FloatArray) -> Minimum:
    """Advance one chunk; finished problems leave it so that the rest go on alone."""
    m = len(rows)
    theta = theta.copy()
    objective, decrement = np.full(m, np.inf), np.full(m, np.inf)
    iterations = np.zeros(m, dtype=np.intp)
    damping, calm = np.full(m, LAMBDA_START), np.zeros(m, dtype=np.intp)
    live = np.arange(m)
    for _ in range(MAX_ITERATIONS):
        here = Local.at(problem, rows[live], theta[live])
        objective[live], decrement[live] = here.objective, here.decrement()
        before = theta[live]
        trial = here.trial(before, damping[live], problem)
        cost = _objective(problem, rows[live], trial)
        better = cost < here.objective
        drop = np.where(better, here.objective - cost, 0.0)
        theta[live[better]] = trial[better]
        objective[live[better]] = cost[better]
        iterations[live] += 1
        damping[live] *= damping_change(here, trial - before, here.objective - cost)
        scale = np.maximum(np.abs(here.objective), np.finfo(float).tiny)
        calm[live] = np.where(better & (drop < RELATIVE_DECREASE * scale), calm[live] + 1, calm[live] * ~better)
        flat = decrement[live] < ROUNDING
        done = (calm[live] >= 2) | (damping[live] > LAMBDA_MAX) | flat
        live = live[~done]
        if not len(live):
            break
    last = Local.at(problem, rows, theta)
    return Minimum(theta, last.objective, last.decrement(), iterations)


def damping_change(here: "Local", step: FloatArray, drop: FloatArray) -> FloatArray:
    """Trust by gain: the drop that came over the drop that the quadratic model promised."""
    slope = np.einsum("mi,mi->m", here.grad, step)
    promised = -(slope + 0.5 * np.einsum("mi,mij,mj->m", step, here.H, step))
    gain = drop / np.maximum(promised, 1e-300 + 1e-15 * np.abs(here.objective))
    return np.select([drop <= 0, gain > 0.75, gain > 0.25], [LAMBDA_UP, LAMBDA_DOWN, 1.0], LAMBDA_UP)


def _objective(problem: Problem, rows: npt.NDArray[np.intp], theta: FloatArray) -> FloatArray:
    f, _ = problem.surface.value(theta)
    cost = np.sum(_rows(problem.w, rows) * problem.loss.rho(_rows(problem.y, rows) - f), axis=1)
    return np.where(np.isfinite(cost), cost, np.inf)


@dataclass(frozen=True)
class Local:
    """F, its gradient, Hessian H and majoriser G at one theta per problem; active: coefficients that may move."""

    objective: FloatArray
    grad: FloatArray
    H: FloatArray
    G: FloatArray
    active: npt.NDArray[np.bool_]
    rounding: float

    @classmethod
    def at(cls, problem: Problem, rows: npt.NDArray[np.intp], theta: FloatArray) -> "Local":
        """Everything Newton's method needs at theta (m, p)."""
        y, w, loss, surface = _rows(problem.y, rows), _rows(problem.w, rows), problem.loss, problem.surface
        f, state = surface.value(theta)
        r = y - f
        pull = w * loss.psi(r)
        grad = -surface.gradient(state, pull)
        H = surface.gram(state, w * loss.psi_prime(r)) - surface.curvature(state, pull)
        G = surface.gram(state, w * loss.irls_weight(r))
        pinned = ((theta <= problem.lower) & (grad > 0)) | ((theta >= problem.upper) & (grad < 0))
        active = problem.free & ~pinned
        return cls(
            np.sum(w * loss.rho(r), axis=1),
            grad * active,
            _mask(H, active),
            _mask(G, active),
            active,
            EXACT * y.shape[-1],
        )

    def trial(self, theta: FloatArray, damping: FloatArray, problem: Problem) -> FloatArray:
        """theta after one damped step, inside the bounds.

        Coefficients that the step would carry past a bound go to it, and the others are solved again
        with that move given: a plain clip of a coupled step need not go downhill.
        """
        system = self._damped(damping)
        step = -_solve_active(system, self.grad, self.active)
        inside = np.clip(theta + step, problem.lower, problem.upper)
        stopped = self.active & (inside != theta + step)
        if not stopped.any():
            return inside
        given = np.where(stopped, inside - theta, 0.0)
        rest = self.active & ~stopped
        pull = self.grad + np.einsum("mij,mj->mi", system, given)
        step = given - _solve_active(system, pull * rest, rest)
        return np.clip(theta + step, problem.lower, problem.upper)

    def _damped(self, damping: FloatArray) -> FloatArray:
        """H + lambda (G + a ridge): the ridge damps coefficients to which no prediction responds here."""
        ridge = RIDGE * np.einsum("mii->mi", self.G).max(axis=1) + 1e-300
        return self.H + damping[:, None, None] * (self.G + ridge[:, None, None] * np.eye(self.G.shape[1]))

    def decrement(self) -> FloatArray:
        """grad' G^-1 grad / F: how much of F one majoriser step could still remove, about."""
        diagonal = np.einsum("mii->mi", self.G)
        system = self.G + (1e-12 * diagonal + 1e-300)[:, :, None] * np.eye(self.G.shape[1])
        drop = np.einsum("mi,mi->m", self.grad, _solve_active(system, self.grad, self.active))
        share: FloatArray = np.abs(drop) / np.maximum(self.objective, self.rounding)
        return share


def _solve_active(system: FloatArray, right: FloatArray, active: npt.NDArray[np.bool_]) -> FloatArray:
    """The solution over the active coefficients, 0 elsewhere."""
    eye = np.eye(system.shape[1])
    return solve_symmetric(_mask(system, active) + (~active)[:, :, None] * eye, right)


def _mask(matrix: FloatArray, active: npt.NDArray[np.bool_]) -> FloatArray:
    masked: FloatArray = matrix * active[:, :, None] * active[:, None, :]
    return masked


def solve_symmetric(system: FloatArray, right: FloatArray) -> FloatArray:
    """Batched symmetric solves; a singular system falls back to its pseudo-inverse."""
    size = np.sqrt(np.maximum(np.abs(np.einsum("mii->mi", system)), 1e-300))
    scaled = system / size[:, :, None] / size[:, None, :]
    try:
        x = np.linalg.solve(scaled, (right / size)[..., None])[..., 0]
    except np.linalg.LinAlgError:
        x = np.einsum("mij,mj->mi", np.linalg.pinv(scaled, hermitian=True), right / size)
    solution: FloatArray = x / size
    return solution
