"""Profile likelihoods: how much worse a fit becomes as one coefficient is held elsewhere and all others move.

D(v) = -2 ln (L(v) / L_max), of the likelihood whose negative logarithm the fit minimises (`likelihood`). The
interval is where D stays below the quantile of chi-squared with one degree of freedom (Wilks 1938). It takes rows
for independent and the law for true; the draws of a fit take neither for granted.
"""

from dataclasses import dataclass, replace

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.forecast import LEVEL, require_level
from scalegrow.laws.law import LOG_OF_NOTHING, Coefficient
from scalegrow.laws.likelihood import deviance
from scalegrow.laws.loss import NEAR
from scalegrow.laws.newton import Problem, anneal
from scalegrow.laws.points import FloatArray, Units
from scalegrow.laws.solve import Optimum, Setup

POINTS = 41
WIDER, TRIES = 1.6, 24  # times by which an end is moved out, and how often
ROOM = 1.4  # times the interval that the profile is drawn over


@dataclass(frozen=True)
class Profile:
    """name of the coefficient; values (K,) at which it was held; D (K,) there; best, low, high of its interval.

    low or high is -inf or inf where D stays below the threshold as far as was looked.
    """

    name: str
    values: FloatArray
    D: FloatArray
    threshold: float
    best: float
    low: float
    high: float


def profile(setup: Setup, optimum: Optimum, name: str, level: float = LEVEL, points: int = POINTS) -> Profile:
    """The profile of one fitted coefficient, at an odd number of points.

    Raises InputError where it was held fixed, or on another name.
    """
    from scipy.stats import chi2

    require_level(level)
    k = setup.form.index(name)
    if not setup.problem.free[k]:
        raise InputError(f"{name} was held fixed, and has no profile: leave it out of --fix.")
    line = _Line.of(setup, optimum, k)
    threshold = float(chi2.ppf(level, 1))
    below, above = (line.reach(direction, threshold) for direction in (-1, 1))
    side = points // 2 + 1  # values on either side, the best among both
    shifts = np.concatenate([np.linspace(ROOM * below, 0, side), np.linspace(0, ROOM * above, side)[1:]])
    D = line.D(shifts)
    low, high = (_crossing(shifts, D, threshold, direction) for direction in (-1, 1))
    ends = [-np.inf if low is None else line.natural(low), np.inf if high is None else line.natural(high)]
    values = np.array([line.natural(shift) for shift in shifts])
    return Profile(name, values, D, threshold, line.natural(0.0), *map(float, ends))


@dataclass(frozen=True)
class _Line:
    """The problem with coefficient k held at theta_k + shift, in plain units, and where others would go with it.

    slope (p,): d theta / d theta_k along the valley of the least-squares majoriser, 1 at k.
    """

    setup: Setup
    problem: Problem
    theta: FloatArray
    slope: FloatArray
    step: float
    coefficient: Coefficient

    @classmethod
    def of(cls, setup: Setup, optimum: Optimum, k: int) -> "_Line":
        """In plain units: centred ones would mix a scale with its exponent."""
        form, units = setup.form, Units()
        theta = form.change_units(optimum.theta, setup.units, units)
        free = setup.problem.free & ~optimum.pinned
        free[k] = False
        lower, upper = _bounds(setup)
        surface = form.surface(setup.observations.points)
        J = surface.jacobian(theta)
        others, *_ = np.linalg.lstsq(J[:, free], J[:, k], rcond=None)
        slope = np.zeros(len(theta))
        slope[free], slope[k] = -others, 1.0
        residuals = setup.problem.y - surface.value(theta[None])[0][0]
        step = float(np.std(residuals) / max(float(np.linalg.norm(J @ slope)), 1e-12))
        held = replace(setup.problem, surface=surface, free=free)
        held = replace(held, lower=np.where(free, lower, -np.inf), upper=np.where(free, upper, np.inf))
        return cls(setup, held, theta, slope, step, form.coefficients[k])

    def D(self, shifts: FloatArray) -> FloatArray:
        """-2 ln (L / L_max) at every shift."""
        starts = self.theta + np.append(0.0, shifts)[:, None] * self.slope
        objective = anneal(self.problem, starts, NEAR).objective
        cost = deviance(self.problem.loss, objective, len(self.setup.observations))
        return np.asarray(cost[1:] - cost[0])

    def reach(self, side: int, threshold: float) -> float:
        """A shift on this side at which D exceeds the threshold, or the farthest that was tried."""
        shifts = np.array([side * self.step * WIDER**i for i in range(TRIES)])
        beyond = self.D(shifts) > threshold
        return float(shifts[np.argmax(beyond)] if beyond.any() else shifts[-1])

    def natural(self, shift: float) -> float:
        """The coefficient's own value there."""
        theta = self.theta[self.slope == 1][0] + shift
        return float(np.exp(theta)) if self.coefficient.kind == "scale" else float(theta)


def _bounds(setup: Setup) -> tuple[FloatArray, FloatArray]:
    """Of theta in plain units: exponents as declared, scales from vanishing to absurd."""
    scales = (LOG_OF_NOTHING, -LOG_OF_NOTHING)
    pairs = [(c.lower, c.upper) if c.kind == "exponent" else scales for c in setup.form.coefficients]
    lower, upper = np.array(pairs).T
    return lower, upper


def _crossing(shifts: FloatArray, D: FloatArray, threshold: float, side: int) -> float | None:
    """Where sqrt(D), nearly a straight line, first passes the threshold's on this side of nought."""
    outward = np.argsort(side * shifts)
    outward = outward[side * shifts[outward] >= 0]
    x, root = shifts[outward], np.sqrt(np.maximum(D[outward], 0))
    beyond = root > np.sqrt(threshold)
    if not beyond.any():
        return None
    i = int(np.argmax(beyond))
    left = (0.0, 0.0) if i == 0 else (x[i - 1], root[i - 1])
    share = (np.sqrt(threshold) - left[1]) / (root[i] - left[1])
    return float(left[0] + share * (x[i] - left[0]))
