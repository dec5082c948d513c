"""Which gamma to initialise with at a size and budget: the best, what it gains, and the critical one.

Symbols: gamma the exponent of std = fan_in^-gamma, N parameters, tpp tokens per parameter, L loss, nats per token.
"""

import math
from dataclasses import dataclass

import numpy as np

from scalegrow.laws.gamma import GammaLaw
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.decide import Estimate

GRID = 0.01  # between the gammas at which a curve is looked at


@dataclass(frozen=True)
class GammaChoice:
    """What a law says at one size and budget, with intervals of its mean.

    best: the gamma of least loss within the measured ones. gain: L(best's value) - L(0.5). critical: the largest
    gamma that does no worse than 0.5, inf where all measured ones above best do so. inside: whether the interval
    of best stays off the ends of the measured gammas. extrapolation: per variable, how many times beyond the runs.
    """

    best: Estimate
    gain: Estimate
    critical: Estimate
    inside: bool
    extrapolation: dict[str, float]


def choose_gamma(law: GammaLaw, N: float, tpp: float, level: float = 0.95) -> GammaChoice:
    """The best gamma and what it gains at N parameters and tpp tokens per parameter."""
    gammas = grid(law)
    value, draws = law.change(gammas, N, tpp)
    place = int(value.argmin())
    best = _estimate(float(gammas[place]), gammas[draws.argmin(1)], level)
    ratios = law.domain.extrapolation(Points.of(N, N * tpp))
    return GammaChoice(
        best,
        _estimate(float(value[place]), draws[:, place], level),
        _estimate(float(_critical(gammas, value[None])[0]), _critical(gammas, draws), level),
        bool(gammas[0] < best.low and best.high < gammas[-1]),
        {name: float(ratio[0]) for name, ratio in ratios.items()},
    )


def grid(law: GammaLaw, step: float = GRID) -> FloatArray:
    """The measured gammas, from the least to the largest, about `step` apart."""
    low, high = law.gammas
    return np.linspace(low, high, round((high - low) / step) + 1)


def _critical(gammas: FloatArray, change: FloatArray) -> FloatArray:
    """The largest gamma whose change is at most nought, [M] of [M, n]; inf where the last one's is."""
    good = change <= 0
    last = gammas.size - 1 - good[:, ::-1].argmax(1)
    found = np.where(good.any(1), gammas[last], gammas[0])
    return np.where(good[:, -1], math.inf, found)


def _estimate(value: float, draws: FloatArray, level: float) -> Estimate:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Estimate(value, float(low), float(high))
