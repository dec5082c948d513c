"""What a fit says at given points: intervals for the mean and for one new run, losses and differences.

Draws give the mean's interval; residuals give what one new run adds. Outside the data both widen by
the fit's calibration. Everything is centred on the law itself.
"""

from dataclasses import dataclass

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import FloatArray, Points

LEVEL = 0.95
AT_ONCE = 5_000_000  # numbers of draws x points x noise held at a time
NOISE_SEED = 0  # pairs draws with residuals the same way each time


@dataclass(frozen=True)
class Forecast:
    """Arrays of length n: the value, the mean's interval, one new run's interval, distance outside the data."""

    value: FloatArray
    low: FloatArray
    high: FloatArray
    new_low: FloatArray
    new_high: FloatArray
    distance: FloatArray


@dataclass(frozen=True)
class DifferenceForecast(Forecast):
    """Grown minus scratch in nats, and probabilities that it is negative.

    wins_mean: share of draws in which the grown mean is lower. wins: chance that one grown run ends
    below one scratch run, with its interval over draws.
    """

    wins_mean: FloatArray
    wins: FloatArray
    wins_low: FloatArray
    wins_high: FloatArray


def widened(value: FloatArray, draws: FloatArray, factor: FloatArray) -> FloatArray:
    """value + factor (draws - their median): draws (M, n) centred on the law and stretched."""
    return value + factor * (draws - np.median(draws, axis=0))


def require_level(level: float) -> None:
    """Raise InputError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise InputError(f"{level} is no interval level: give one between 0 and 1, such as 0.95.")


def quantiles(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """The central interval of draws (M, n)."""
    require_level(level)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def forecast(fit: Fit, points: Points, level: float = LEVEL) -> Forecast:
    """Losses (or the form's response) at the points."""
    value, draws = fit.log_predict(points)
    distance = fit.domain.distance(points)
    factor = fit.calibration.factor(distance, "loss")
    mean = widened(value, draws, factor)
    new = mean + factor * drawn_noise(fit.noise.single, mean.shape)
    low, high = quantiles(mean, level)
    new_low, new_high = quantiles(new, level)
    return Forecast(np.exp(value), np.exp(low), np.exp(high), np.exp(new_low), np.exp(new_high), distance)


def difference_draws(
    fit: Fit, grown: Points, scratch: Points
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """ln L_grown - ln L_scratch: value (n,), widened draws (M, n), factor (n,); and ln L_scratch (n,).

    Both arms come from the same draw, so what they share cancels.
    """
    value_g, draws_g = fit.log_predict(grown)
    value_s, draws_s = fit.log_predict(scratch)
    factor = fit.calibration.factor(fit.domain.distance(grown), "difference")
    return value_g - value_s, widened(value_g - value_s, draws_g - draws_s, factor), factor, value_s


def forecast_difference(
    fit: Fit, grown: Points, scratch: Points | None = None, level: float = LEVEL
) -> DifferenceForecast:
    """L_grown - L_scratch at the points; scratch defaults to the same N and D."""
    ratio, draws, factor, log_scratch = difference_draws(fit, grown, scratch or grown.from_scratch())
    noise = paired_noise(fit)
    chance = chance_below(draws, factor, noise)
    new = draws + factor * drawn_noise(noise, draws.shape)

    def nats(log_ratio: FloatArray) -> FloatArray:
        """L_scratch (e^ratio - 1)."""
        return np.exp(log_scratch) * np.expm1(log_ratio)

    low, high = quantiles(draws, level)
    new_low, new_high = quantiles(new, level)
    wins_low, wins_high = quantiles(chance, level)
    return DifferenceForecast(
        value=nats(ratio),
        low=nats(low),
        high=nats(high),
        new_low=nats(new_low),
        new_high=nats(new_high),
        distance=fit.domain.distance(grown),
        wins_mean=np.mean(draws < 0, axis=0),
        wins=chance.mean(axis=0),
        wins_low=wins_low,
        wins_high=wins_high,
    )


def chance_below(draws: FloatArray, factor: FloatArray, noise: FloatArray) -> FloatArray:
    """By each draw (M, n) of ln L_grown - ln L_scratch, the chance that one pair of runs ends below 0: (M, n)."""
    below: FloatArray = np.mean(draws[..., None] + factor[:, None] * noise < 0, axis=-1)
    return below


def chances(fit: Fit, grown: Points, scratch: Points) -> FloatArray:
    """The probability that one grown run ends below one scratch run, (n,): `wins` of `forecast_difference` alone.

    For many points at once: some are looked at at a time, so that draws x points x noise stay small.
    """
    noise = paired_noise(fit)
    size = max(AT_ONCE // (len(fit.draws) * len(noise)), 1)
    pieces = [np.arange(start, min(start + size, len(grown))) for start in range(0, len(grown), size)]
    found = []
    for piece in pieces:
        _, draws, factor, _ = difference_draws(fit, grown.take(piece), scratch.take(piece))
        found.append(chance_below(draws, factor, noise).mean(axis=0))
    return np.concatenate(found)


def paired_noise(fit: Fit) -> FloatArray:
    """Log residuals of grown-minus-scratch pairs; of independent rows where the table has no pairs."""
    if len(fit.noise.paired) > 1:
        return fit.noise.paired
    single = fit.noise.single
    rng = np.random.default_rng(NOISE_SEED)
    difference: FloatArray = rng.choice(single, 500) - rng.choice(single, 500)
    return difference


def drawn_noise(residuals: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Residuals drawn with replacement, one per draw and point."""
    rng = np.random.default_rng(NOISE_SEED)
    drawn: FloatArray = rng.choice(residuals, size=shape)
    return drawn
