"""Which gamma to initialise with at a size and budget: the best, what it gains, and the critical one.

Symbols: gamma the exponent of std = fan_in^-gamma, N parameters, tpp tokens per parameter, L loss, nats per token.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from scalegrow.laws.forecast import LEVEL, quantiles
from scalegrow.laws.gamma import STANDARD, GammaLaw
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.decide import Estimate, estimate

GRID = 0.01  # between the gammas at which a curve is looked at


@dataclass(frozen=True)
class GammaChoice:
    """What a law says at one size and budget, with intervals of its mean.

    best: the gamma of least loss within the measured ones. gain: L(best's value) - L(0.5). critical: the largest
    gamma that does no worse than 0.5, inf where the largest measured does so. inside: whether the interval of best
    stays off the ends of the measured gammas. extrapolation: per variable, how many times beyond the runs.
    """

    best: Estimate
    gain: Estimate
    critical: Estimate
    inside: bool
    extrapolation: dict[str, float]

    @property
    def inside_runs(self) -> bool:
        """Whether nothing lies beyond the runs."""
        return all(ratio == 1 for ratio in self.extrapolation.values())


def choose_gamma(law: GammaLaw, N: float, tpp: float, level: float = LEVEL) -> GammaChoice:
    """The best gamma and what it gains at N parameters and tpp tokens per parameter.

    Raises InputError unless 0 < level < 1.
    """
    gammas = grid(law)
    value, draws = law.change(gammas, N, tpp)
    lowest = _lowest(gammas, value[None])
    best = estimate(lowest, _lowest(gammas, draws), level)
    gain, of_draws = law.change(lowest, N, tpp)
    return GammaChoice(
        best,
        estimate(gain, of_draws[:, 0], level),
        estimate(_critical(gammas, value[None]), _critical(gammas, draws), level),
        bool(gammas[0] < best.low and best.high < gammas[-1]),
        _ratios(law, N, tpp),
    )


def choose_nearest(
    law: GammaLaw, N: float, tpp: float, level: float = LEVEL
) -> tuple[GammaChoice, tuple[float, float]]:
    """The choice at the nearest N and tpp within the law's runs, and these; its extrapolation is the question's.

    Beyond the runs the law's straight trends soon say nothing.
    """
    (smallest, largest), (least, most) = law.domain["N"], law.domain["tpp"]
    at = min(max(N, smallest), largest), min(max(tpp, least), most)
    return replace(choose_gamma(law, *at, level), extrapolation=_ratios(law, N, tpp)), at


def _ratios(law: GammaLaw, N: float, tpp: float) -> dict[str, float]:
    """How many times beyond the runs, by variable."""
    return {name: float(ratio[0]) for name, ratio in law.domain.extrapolation(Points.of(N, N * tpp)).items()}


def grid(law: GammaLaw, step: float = GRID) -> FloatArray:
    """The measured gammas, from the least to the largest, about `step` apart."""
    low, high = law.gammas
    return np.linspace(low, high, max(round((high - low) / step), 2) + 1)


def gamma_curve(
    law: GammaLaw, gammas: FloatArray, N: float, tpp: float, level: float = LEVEL
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """L(gamma) - L(0.5) at every gamma [n], and its interval. Raises InputError unless 0 < level < 1."""
    value, draws = law.change(gammas, N, tpp)
    return value, *quantiles(draws, level)


def _lowest(gammas: FloatArray, change: FloatArray) -> FloatArray:
    """The gamma of least change, [M] of [M, n]: within the grid, the vertex of the parabola about the least."""
    place = change.argmin(1)
    middle = np.clip(place, 1, gammas.size - 2)
    left, least, right = (change[np.arange(len(change)), middle + side] for side in (-1, 0, 1))
    bend, lean = (left - least) + (right - least), np.where(place == middle, left - right, 0.0)
    steps = np.divide(lean, 2 * bend, out=np.zeros_like(lean), where=lean != 0)
    return np.asarray(gammas[place] + (gammas[1] - gammas[0]) * steps)


def _critical(gammas: FloatArray, change: FloatArray) -> FloatArray:
    """The largest gamma whose change is at most nought, [M] of [M, n]; inf where the last one's is.

    Between two of the grid along their line; never below the standard gamma, whose change is nought.
    """
    good = change <= 0
    last = np.clip(gammas.size - 1 - good[:, ::-1].argmax(1), 0, gammas.size - 2)
    here, after = (change[np.arange(len(change)), last + side] for side in (0, 1))
    crossing = gammas[last] + (gammas[1] - gammas[0]) * here / np.where(after > here, here - after, -math.inf)
    found = np.where(good.any(1), np.maximum(crossing, STANDARD), STANDARD)
    return np.where(good[:, -1], math.inf, found)
