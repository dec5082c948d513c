"""The N and D of least loss on 6 N D = C, with intervals (Hoffmann et al. 2022, eq. 4, for any law)."""

from dataclasses import dataclass

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import LEVEL, widened
from scalegrow.laws.law import Form
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.decide import Estimate, estimate

SPAN = np.log(1e5)  # N is looked for within a factor of 100,000 around sqrt(C/6)
STEPS = 1201  # 1.9 % in N; a parabola through the lowest three points does the rest


@dataclass(frozen=True)
class Allocation:
    """Compute-optimal parameters, tokens and tokens per parameter at C FLOPs, and the loss they reach.

    exponent: a in N_opt ~ C^a between C/2 and 2 C. extrapolation: times outside the fitted range.
    """

    flops: float
    level: float
    n_params: Estimate
    tokens: Estimate
    tpp: Estimate
    loss: Estimate
    exponent: Estimate
    extrapolation: dict[str, float]


def allocate(fit: Fit, flops: float, level: float = LEVEL) -> Allocation:
    """Minimise the law over ln N at fixed C, for the law and for every draw. Raises InputError."""
    form = fit.law.form
    if not {"N", "D"} <= set(form.variables) or form.response != "loss" or form.name == "power-c":
        raise InputError(f"{form.name} does not trade N against D: give a fit of such a law, as chinchilla.")
    fit.require_usable()
    (n_law, loss_law), (n_draws, loss_draws) = (
        optimum(form, theta, flops) for theta in (fit.law.theta[None], fit.draws)
    )
    best = Points.of(np.exp(n_law), flops / (6 * np.exp(n_law)))
    factor = fit.calibration.factor(fit.domain.distance(best), "loss")
    log_n = widened(n_law, n_draws[:, None], np.ones(1))[:, 0]  # no optimum was ever held out to calibrate on
    log_loss = widened(loss_law, loss_draws[:, None], factor)[:, 0]
    exponents = [local_exponent(form, theta, flops) for theta in (fit.law.theta[None], fit.draws)]
    return Allocation(
        flops=flops,
        level=level,
        n_params=estimate(np.exp(n_law), np.exp(log_n), level),
        tokens=estimate(flops / 6 * np.exp(-n_law), flops / 6 * np.exp(-log_n), level),
        tpp=estimate(flops / 6 * np.exp(-2 * n_law), flops / 6 * np.exp(-2 * log_n), level),
        loss=estimate(np.exp(loss_law), np.exp(log_loss), level),
        exponent=estimate(exponents[0], exponents[1], level),
        extrapolation={name: float(ratio[0]) for name, ratio in fit.domain.extrapolation(best).items()},
    )


def optimum(form: Form, theta: FloatArray, flops: float) -> tuple[FloatArray, FloatArray]:
    """ln N_opt and ln L there, (M,) each: the bottom of the parabola through the scan's lowest point."""
    log_n = 0.5 * np.log(flops / 6) + np.linspace(-SPAN, SPAN, STEPS)
    grid = form.log_predict(theta, Points.of(np.exp(log_n), flops / (6 * np.exp(log_n))))
    middle = np.clip(np.argmin(grid, axis=1), 1, STEPS - 2)
    rows = np.arange(len(theta))
    left, centre, right = (grid[rows, middle + shift] for shift in (-1, 0, 1))
    bend = np.maximum(left - 2 * centre + right, np.finfo(float).tiny)
    shift = np.clip(0.5 * (left - right) / bend, -1, 1)
    return log_n[middle] + shift * (log_n[1] - log_n[0]), centre - 0.25 * (left - right) * shift


def local_exponent(form: Form, theta: FloatArray, flops: float) -> FloatArray:
    """d ln N_opt / d ln C between C/2 and 2 C, (M,)."""
    above, below = (optimum(form, theta, flops * by)[0] for by in (2.0, 0.5))
    slope: FloatArray = (above - below) / np.log(4.0)
    return slope
