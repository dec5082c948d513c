"""One plain sentence of advice from a decision."""

from collections.abc import Mapping
from dataclasses import replace

from scalegrow.budget import BaseCost
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import forecast_difference
from scalegrow.laws.points import Points
from scalegrow.plan.decide import Decision, grown_points

SURE, LIKELY = 0.9, 0.7  # odds of 9 to 1, and of about 2 to 1
TOO_FAR = 10.0  # times outside the data in any variable: no law of ours was ever tested so far


def advice(fit: Fit, decision: Decision) -> str:
    """What to do, how sure, and the two things most likely to change it: budget and who pays the base."""
    if (far := farthest(decision.extrapolation)) > TOO_FAR:
        return (
            f"Too far to say: this lies {far:.2g} times outside the runs behind the fit, and the numbers are "
            "the law's alone; fit runs nearer to the question, or ask inside the fitted range."
        )
    reasons = [
        _difference(decision),
        _limit(decision),
        _paid(fit, decision),
        _unsettled(decision),
        _range(decision),
    ]
    return _verdict(decision) + ": " + "; ".join(reason for reason in reasons if reason) + "."


def farthest(ratios: Mapping[str, float]) -> float:
    """How many times outside the data a question lies in its farthest variable, by their ratios; 1 inside."""
    return max((max(ratio, 1 / ratio) for ratio in ratios.values()), default=1.0)


def too_far(ratios: Mapping[str, float]) -> bool:
    """Whether it lies so far outside that no advice is given."""
    return farthest(ratios) > TOO_FAR


def _verdict(decision: Decision) -> str:
    chance = decision.probability_growing_wins
    if chance.value >= SURE:
        return "Grow"
    if chance.value >= LIKELY:
        return "Lean towards growing"
    if chance.value <= 1 - SURE:
        return "Train from scratch"
    if chance.value <= 1 - LIKELY:
        return "Lean towards training from scratch"
    return "Too close to call from these runs"


def _difference(decision: Decision) -> str:
    chance, difference = decision.probability_growing_wins, decision.difference
    word = "below" if difference.value < 0 else "above"
    return (
        f"the grown run is expected {abs(difference.value):.3f} nats {word} scratch and ends below it with "
        f"probability {chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f})"
    )


def _limit(decision: Decision) -> str:
    """The budget at which the sign turns, where it is finite."""
    tpp, now = decision.break_even_budget.value, decision.question.D / decision.question.N
    if not 0 < tpp < float("inf"):
        return ""
    words = "scratch catches up at about" if tpp > now else "growing pays only below about"
    return f"{words} {tpp:.{0 if tpp >= 10 else 1}f} tokens per parameter"


def _paid(fit: Fit, decision: Decision) -> str:
    """What happens if a sunk base had to be paid for, where that turns the sign."""
    question = decision.question
    paid = replace(question, base_cost=BaseCost("paid"))
    if question.base_cost.mode == "paid" or decision.difference.value >= 0:
        return ""
    if paid.D_grown <= 0:
        return "a base paid from this budget would leave nothing to train on"
    other = forecast_difference(fit, grown_points(paid), Points.of(paid.N, paid.D), decision.level)
    if other.value[0] < 0:
        return ""
    return (
        "charged for the base's own training, the expected gain would be gone (it then wins with probability "
        f"{other.wins[0]:.2f})"
    )


def _unsettled(decision: Decision) -> str:
    """That more runs could turn a verdict, where the probability's interval holds both sides of one half."""
    chance = decision.probability_growing_wins
    close = 1 - LIKELY < chance.value < LIKELY
    return "" if close or not chance.low < 0.5 < chance.high else "the runs do not settle it, more could turn it"


def _range(decision: Decision) -> str:
    return (
        "" if decision.distance == 0 else "this lies outside the runs behind the fit, so check it with a small run"
    )
