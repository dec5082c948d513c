"""The best coefficients of a form for given observations, and a certificate that they are the best."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scalegrow.errors import InputError
from scalegrow.laws.law import LOG_OF_NOTHING, Form, to_theta
from scalegrow.laws.loss import LeastAbsolute, Loss
from scalegrow.laws.newton import EXACT, Local, Problem, anneal, minimise
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import FloatArray, Units

SMALLEST_SHARE = 1e-5  # of the loss: a scale that ends here has vanished
SAME_OPTIMUM = 1e-7  # relative difference in objective below which two optima are one
Fixed = Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True)
class Certificate:
    """Why the optimum can be believed.

    objective: sum of the losses of the log residuals. decrement: share of the objective that one
    more majoriser step would remove (0 at an optimum). eigenvalues: of the Hessian, scaled to unit
    diagonal, over the free coefficients; all positive at a proper minimum. optima: distinct local
    minima that the starts reached. second_solver: the objective by SciPy's trust-region Newton from
    another start, relative to this one, minus 1 (negative would mean a better optimum was missed).
    delta_over_mad: Huber's delta over the median absolute residual: far below 1 is almost LAD.
    """

    objective: float
    decrement: float
    eigenvalues: tuple[float, ...]
    starts: int
    optima: int
    second_solver: float
    delta_over_mad: float


@dataclass(frozen=True)
class Setup:
    """A form against observations, in centred units, with some coefficients held fixed.

    fixed values are theta in centred units where given; NaN where free. swept: coefficients held
    at a random value of an interval in each draw, because the data cannot tell them.
    """

    form: Form
    observations: Observations
    loss: Loss
    units: Units
    problem: Problem
    fixed: Fixed

    @classmethod
    def of(cls, form: Form, observations: Observations, loss: Loss, fixed: Fixed) -> "Setup":
        """Centre the logs, build the surface, set the bounds."""
        form.check_runs(observations.points)
        units = observations.points.centre()
        for name in fixed:
            form.index(name)
        lower, upper = bounds(form, observations.y)
        free = np.array([name not in fixed for name in form.names])
        problem = Problem(
            form.surface(observations.points.measured_in(units)),
            observations.y,
            np.ones(len(observations)),
            loss,
            np.where(free, lower, -np.inf),
            np.where(free, upper, np.inf),
            free,
        )
        return cls(form, observations, loss, units, problem, fixed)

    def hold(self, theta: FloatArray, u: FloatArray | float = 0.5) -> FloatArray:
        """theta (m, p) with the fixed coefficients at their values; swept ones at quantile u (m,)."""
        if not self.fixed:
            return theta
        plain = self.form.change_units(theta, self.units, Units())
        for name, value in self.fixed.items():
            i = self.form.index(name)
            low, high = value if isinstance(value, tuple) else (value, value)
            values = low + (high - low) * np.broadcast_to(u, len(theta))
            plain[:, i] = [to_theta(self.form.coefficients[i], float(v)) for v in values]
        held = self.form.change_units(plain, Units(), self.units)
        return np.where(self.problem.free, theta, held)


def bounds(form: Form, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bounds on theta in centred units: exponents by declaration, scales from vanishing to absurd."""
    scales = (LOG_OF_NOTHING, -LOG_OF_NOTHING)
    if form.scales_are_shares:
        scales = (y.min() + np.log(SMALLEST_SHARE), y.max() + 20.0)
    pairs = [(c.lower, c.upper) if c.kind == "exponent" else scales for c in form.coefficients]
    lower, upper = np.array(pairs).T
    return lower, upper


@dataclass(frozen=True)
class Optimum:
    """The best theta (p,) in centred units, its certificate, and the seeds (m, p) it was found from."""

    theta: FloatArray
    certificate: Certificate
    pinned: npt.NDArray[np.bool_]
    eigenvectors: FloatArray
    seeds: FloatArray


def solve(setup: Setup) -> Optimum:
    """Seeds from the data, annealed to the loss, checked by a second solver."""
    seeds = setup.hold(setup.form.starts(setup.observations.points.measured_in(setup.units), setup.problem.y))
    found = anneal(setup.problem, seeds)
    best = int(np.argmin(found.objective))
    theta, objective = found.theta[best], float(found.objective[best])
    if isinstance(setup.loss, LeastAbsolute):
        theta, objective = to_vertex(setup.problem, theta, objective)
    here = Local.at(setup.problem, np.zeros(1, dtype=np.intp), theta[None])
    movable = here.active[0]
    values, vectors = spectrum(here.H[0], movable)
    residuals = np.abs(setup.problem.y - setup.problem.surface.value(theta[None])[0][0])
    certificate = Certificate(
        objective=objective,
        decrement=float(found.decrement[best]),
        eigenvalues=tuple(float(v) for v in values),
        starts=len(seeds),
        optima=distinct(found.objective),
        second_solver=second_solver(setup, seeds[-1], objective),
        delta_over_mad=float(getattr(setup.loss, "delta", np.inf) / max(float(np.median(residuals)), 1e-300)),
    )
    return Optimum(theta, certificate, setup.problem.free & ~movable, vectors, seeds)


def to_vertex(problem: Problem, theta: FloatArray, objective: float) -> tuple[FloatArray, float]:
    """Put a least-absolute optimum exactly on the p points it passes through, where that is lower.

    Newton on r = 0 at the p smallest residuals; the rounded corner of |r| leaves it about 1e-8 away.
    """
    free = problem.free
    f, _ = problem.surface.value(theta[None])
    active = np.argsort(np.abs(problem.y - f[0]))[: int(free.sum())]
    moved = theta.copy()
    for _ in range(5):
        f, _ = problem.surface.value(moved[None])
        J = problem.surface.jacobian(moved)[np.ix_(active, free)]
        step, *_ = np.linalg.lstsq(J, (problem.y - f[0])[active], rcond=None)
        moved[free] += step
    cost = float(Local.at(problem, np.zeros(1, dtype=np.intp), moved[None]).objective[0])
    inside = bool(np.all((moved >= problem.lower) & (moved <= problem.upper)))
    return (moved, cost) if inside and cost <= objective else (theta, objective)


def spectrum(H: FloatArray, movable: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues and eigenvectors of H scaled to unit diagonal, over the movable coefficients."""
    inner = H[np.ix_(movable, movable)]
    size = np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    values, vectors = np.linalg.eigh(inner / np.outer(size, size))
    return values, vectors


def distinct(objectives: FloatArray) -> int:
    """How many different optima these objectives are."""
    ordered = np.sort(objectives[np.isfinite(objectives)])
    if not len(ordered):
        raise InputError("no start could be evaluated: check the table for extreme values.")
    return 1 + int(np.sum(np.diff(ordered) > SAME_OPTIMUM * ordered[:-1]))


def second_solver(setup: Setup, seed: FloatArray, objective: float) -> float:
    """SciPy's trust-region Newton on the same function from another seed: its optimum / ours - 1.

    Works in units of our objective, since SciPy's tolerances are absolute, and starts at the seed's
    minimum of the smoothest loss, so in the right valley but not at our answer.
    """
    if objective < EXACT * len(setup.observations):
        return 0.0  # every point is met to rounding: nothing lower is left to find
    from scipy.optimize import minimize

    problem = setup.problem
    path = problem.loss.path()
    near = minimise(replace(problem, loss=path[0]), seed[None]).theta[0]
    active = Local.at(problem, np.zeros(1, dtype=np.intp), near[None]).active[0]
    unit = max(objective, np.finfo(float).tiny)

    def local(x: FloatArray) -> Local:
        theta = near.copy()
        theta[active] = x
        return Local.at(problem, np.zeros(1, dtype=np.intp), theta[None])

    with np.errstate(all="ignore"):
        answer = minimize(
            lambda x: local(x).objective[0] / unit,
            near[active],
            jac=lambda x: local(x).grad[0][active] / unit,
            hess=lambda x: local(x).H[0][np.ix_(active, active)] / unit,
            method="trust-exact",
            options={"gtol": 1e-8, "maxiter": 2000},
        )
    return float(answer.fun) - 1.0
