"""Grow or train from scratch? One decision with intervals for each thing decided.

Symbols: N target parameters, D tokens the budget buys from scratch, g growth factor, N_base = N / g,
D_base tokens of the base. Under the base-cost mode with share s, the grown run pays s 6 N_base D_base
FLOPs out of the same budget, so it trains on D_grown = D - s N_base D_base / N tokens.
"""

from dataclasses import dataclass, replace

import numpy as np

from scalegrow.budget import BaseCost
from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import (
    LEVEL,
    Forecast,
    difference_draws,
    forecast,
    forecast_difference,
    require_level,
)
from scalegrow.laws.points import SCRATCH, FloatArray, Points

BUDGETS_TPP = (0.25, 2000.0)  # tokens per parameter between which a break-even budget is looked for
FACTORS = (1.05, 100.0)  # growth factors between which the largest useful one is looked for
GRID = 241  # points of a scan: 3.8 % steps in budget, 1.9 % in g
SAVING_RANGE = float(np.log(1000.0))  # a grown run is compared with scratch budgets up to 1000 times its own


@dataclass(frozen=True)
class Question:
    """What is decided: a target of N parameters, grown by g from a base that saw D_base tokens, on a budget."""

    N: float
    g: float
    D: float
    D_base: float
    operator: str
    base_cost: BaseCost = BaseCost()

    @property
    def N_base(self) -> float:
        """Parameters of the base."""
        return self.N / self.g

    @property
    def base_flops(self) -> float:
        """6 N_base D_base, whoever pays."""
        return 6 * self.N_base * self.D_base

    @property
    def D_grown(self) -> float:
        """Tokens left for the grown run after its share of the base is paid."""
        return self.D - self.base_cost.charge(self.base_flops) / (6 * self.N)

    def grown_by(self, g: float) -> "Question":
        """The same target and budget from a base of N / g, which saw as many tokens per parameter of its own."""
        return replace(self, g=g, D_base=self.D_base / self.N_base * self.N / g)

    def grown_to(self, g: float) -> "Question":
        """The same base grown to g times its size, on as many tokens per parameter."""
        N = self.N_base * g
        return replace(self, N=N, g=g, D=self.D / self.N * N)

    def on(self, tpp: float) -> "Question":
        """The same growth on a budget of so many tokens per parameter."""
        return replace(self, D=tpp * self.N)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; a bound of inf (or 0) means that the scan found no end on that side."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LossEstimate(Estimate):
    """A loss or difference in nats: the mean's interval, and that of one new run."""

    new_low: float
    new_high: float


@dataclass(frozen=True)
class Decision:
    """Every estimate at one confidence level.

    probability_growing_wins: chance that one grown run ends below one scratch run; its interval is over
    what the fit does not know. probability_mean_lower: share of draws in which the grown mean is lower.
    compute_saved: 1 - FLOPs of the grown run (and its share of the base) over FLOPs of a scratch run of
    the same size that reaches the same loss. break_even_budget: tokens per parameter up to which growing
    wins. largest_useful_factor: g up to which growing to this N at this budget wins. best_factor: g of
    least grown loss among those the fit has seen. extrapolation: times outside the data, per variable.
    """

    question: Question
    level: float
    loss_scratch: LossEstimate
    loss_grown: LossEstimate
    difference: LossEstimate
    probability_growing_wins: Estimate
    probability_mean_lower: float
    compute_saved: Estimate
    break_even_budget: Estimate
    largest_useful_factor: Estimate
    best_factor: Estimate
    extrapolation: dict[str, float]
    distance: float


def decide(fit: Fit, question: Question, level: float = LEVEL) -> Decision:
    """The decision that this fit supports. Raises InputError when it cannot carry one."""
    require_decidable(fit, question)
    grown, scratch = grown_points(question), Points.of(question.N, question.D)
    difference = forecast_difference(fit, grown, scratch, level)
    ratios = fit.domain.extrapolation(grown)
    return Decision(
        question=question,
        level=level,
        loss_scratch=loss_estimate(forecast(fit, scratch, level)),
        loss_grown=loss_estimate(forecast(fit, grown, level)),
        difference=loss_estimate(difference),
        probability_growing_wins=Estimate(
            float(difference.wins[0]), float(difference.wins_low[0]), float(difference.wins_high[0])
        ),
        probability_mean_lower=float(difference.wins_mean[0]),
        compute_saved=compute_saved(fit, question, level),
        break_even_budget=break_even_budget(fit, question, level),
        largest_useful_factor=largest_useful_factor(fit, question, level),
        best_factor=best_factor(fit, question, level),
        extrapolation={name: float(ratio[0]) for name, ratio in ratios.items()},
        distance=float(fit.domain.distance(grown)[0]),
    )


def require_decidable(fit: Fit, question: Question) -> None:
    """Only a usable fit of a joint law, an operator it knows, and a budget that outlasts the base's cost."""
    form = fit.law.form
    if not form.joint:
        raise InputError(
            f"{form.name} knows no grown runs: give a fit of a joint law, such as fading-capacity, with --fit."
        )
    fit.require_usable()
    if question.operator == SCRATCH:
        raise InputError(f"scratch does not grow: give --operator {' or '.join(form.operators)}.")
    form.check(grown_points(question))
    if question.D_grown <= 0:
        raise InputError(
            f"the base costs {question.base_cost.charge(question.base_flops):.3g} FLOPs, more than the whole "
            f"budget of {6 * question.N * question.D:.3g}: give a larger --budget or --base-cost sunk."
        )


def grown_points(question: Question) -> Points:
    """The grown run as the law sees it."""
    return Points.of(question.N, question.D_grown, question.g, question.D_base, question.operator)


def loss_estimate(answer: Forecast) -> LossEstimate:
    """The single point of a forecast."""
    columns = (answer.value, answer.low, answer.high, answer.new_low, answer.new_high)
    return LossEstimate(*(float(column[0]) for column in columns))


def estimate(value: FloatArray, draws: FloatArray, level: float) -> Estimate:
    """A scan's result by the law (1,) and by the draws (M,); infinities stay infinite."""
    require_level(level)
    ordered = np.sort(draws)
    last = len(ordered) - 1
    low = ordered[int(np.floor((1 - level) / 2 * last))]
    high = ordered[int(np.ceil((1 + level) / 2 * last))]
    centre = float(value[0])
    return Estimate(centre, min(float(low), centre), max(float(high), centre))


def compute_saved(fit: Fit, question: Question, level: float) -> Estimate:
    """1 - C_grown / C_scratch, with C_scratch of the scratch run that reaches the grown run's loss.

    Found on a scan of scratch budgets from 1/1000 to 1000 times the grown run's; -inf where even the
    smallest scratch budget does better, 1 where no scratch budget reaches it.
    """
    shift = np.linspace(-SAVING_RANGE, SAVING_RANGE, 2 * GRID + 1)
    scratch = Points.of(question.N, question.D * np.exp(shift))
    by_law, by_draw, *_ = difference_draws(fit, grown_points(question), scratch)
    found = [first_crossing(r, shift, before=-np.inf, after=np.inf) for r in (by_law[None], by_draw)]
    return estimate(1 - np.exp(-found[0]), 1 - np.exp(-found[1]), level)


def break_even_budget(fit: Fit, question: Question, level: float) -> Estimate:
    """D / N in tokens per parameter up to which growing wins: 0 if never, inf if throughout the scan."""
    log_tpp = np.linspace(np.log(BUDGETS_TPP[0]), np.log(BUDGETS_TPP[1]), GRID)
    D = question.N * np.exp(log_tpp)
    D_grown = D - (question.D - question.D_grown)
    payable = D_grown > 0
    grown = Points.of(question.N, np.where(payable, D_grown, D), question.g, question.D_base, question.operator)
    value, draws, *_ = difference_draws(fit, grown, Points.of(question.N, D))
    tpp = [
        np.exp(first_crossing(np.where(payable, ratio, np.inf), log_tpp, before=-np.inf, after=np.inf))
        for ratio in (value[None], draws)
    ]
    return estimate(tpp[0], tpp[1], level)


def factor_scan(
    fit: Fit, question: Question, low: float, high: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """ln g, and ln(L_grown/L_scratch) by law and by draws: bases of N/g at the question's tokens per parameter."""
    base_tpp = question.D_base / question.N_base
    g = np.exp(np.linspace(np.log(low), np.log(high), GRID))
    N_base = question.N / g
    D_grown = question.D - question.base_cost.share * base_tpp * N_base**2 / question.N
    payable = D_grown > 0
    grown = Points.of(question.N, np.where(payable, D_grown, question.D), g, base_tpp * N_base, question.operator)
    value, draws, *_ = difference_draws(fit, grown, Points.of(question.N, question.D))
    return np.log(g), np.where(payable, value[None], np.inf), np.where(payable, draws, np.inf)


def largest_useful_factor(fit: Fit, question: Question, level: float) -> Estimate:
    """The g at which growing stops winning: 1 if it never wins, inf if it still wins at the scan's end."""
    log_g, value, draws = factor_scan(fit, question, *FACTORS)
    found = [np.exp(np.maximum(first_crossing(r, log_g, before=0.0, after=np.inf), 0.0)) for r in (value, draws)]
    return estimate(found[0], found[1], level)


def best_factor(fit: Fit, question: Question, level: float) -> Estimate:
    """The g of least grown loss among the growth factors that the fit has seen."""
    low, high = fit.domain["g"]
    log_g, value, draws = factor_scan(fit, question, low, high * (1 + 1e-9))
    found = [np.exp(log_g[np.argmin(ratio, axis=1)]) for ratio in (value, draws)]
    return estimate(found[0], found[1], level)


def first_crossing(ratio: FloatArray, x: FloatArray, *, before: float, after: float) -> FloatArray:
    """Per row of ratio (M, n): where its first negative stretch (growing wins) ends, between scan points.

    `before` where it is never negative, `after` where that stretch lasts to the end of the scan.
    """
    wins = ratio < 0
    start = np.argmax(wins, axis=1)
    ended = ~wins & (np.arange(ratio.shape[1]) > start[:, None])
    rows, stop = np.arange(len(ratio)), np.argmax(ended, axis=1)
    last = np.maximum(stop - 1, 0)
    left, right = ratio[rows, last], ratio[rows, stop]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isfinite(right) & (right > left), -left / (right - left), 0.0)
    crossing = np.where(ended.any(axis=1), x[last] + share * (x[stop] - x[last]), after)
    return np.where(wins.any(axis=1), crossing, before)
