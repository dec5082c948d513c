"""The likelihood whose negative logarithm a loss is: p(r | s) = exp(-rho(r) / s) / Z(s), its scale s profiled out.

Normal residuals for least squares, Laplace's for least absolute deviations, Huber's least favourable ones between.
"""

from collections.abc import Callable

import numpy as np

from scalegrow.laws.loss import Huber, LeastAbsolute, Loss
from scalegrow.laws.points import FloatArray

RANGE = 12.0  # ln units around F / n in which the scale is looked for


def log_normaliser(loss: Loss) -> Callable[[float], float]:
    """ln Z(s), Z(s) the integral of exp(-rho(r) / s) over all r."""
    if isinstance(loss, LeastAbsolute):  # its rho is Huber's over delta
        return lambda s: _huber(loss.delta, s * loss.delta)
    if isinstance(loss, Huber):
        return lambda s: _huber(loss.delta, s)
    return lambda s: 0.5 * float(np.log(2 * np.pi * s))


def _huber(delta: float, s: float) -> float:
    """sqrt(2 pi s) erf(delta / sqrt(2 s)) within delta, and (2 s / delta) exp(-delta^2 / (2 s)) beyond it."""
    from scipy.special import erf

    within = np.sqrt(2 * np.pi * s) * erf(delta / np.sqrt(2 * s))
    return float(np.log(within + 2 * s / delta * np.exp(-(delta**2) / (2 * s))))


def deviance(loss: Loss, objective: FloatArray, n: int) -> FloatArray:
    """-2 ln L at sums F of the losses of n residuals, [M]: 2 min over s of n ln Z(s) + F / s.

    n ln F of least squares and 2 n ln F of least absolute deviations, but for constants.
    """
    normaliser = log_normaliser(loss)
    return np.array([2 * _least(normaliser, float(F), n) for F in objective])


def _least(normaliser: Callable[[float], float], F: float, n: int) -> float:
    from scipy.optimize import minimize_scalar

    middle = float(np.log(max(F, np.finfo(float).tiny) / n))
    found = minimize_scalar(
        lambda log_s: n * normaliser(float(np.exp(log_s))) + F * float(np.exp(-log_s)),
        bounds=(middle - RANGE, middle + RANGE),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.fun)
