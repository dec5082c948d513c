"""What `scalegrow select` says: candidates by P(best), what they rest on, how to go on; or a study's effects."""

import math
from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from scalegrow.cli.grow import form
from scalegrow.cli.render import between, console, table
from scalegrow.cli.select_question import Answer, Question
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.plan.advise import too_far
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import TERMS, Choice
from scalegrow.plan.selection import Selection
from scalegrow.units import format_count

if TYPE_CHECKING:
    from scalegrow.train.ranking import Probed

ABREAST = 3  # terms in a table of 80 characters
MEANINGS = {
    "effect": "at 10 tokens per parameter, base 20, g = 4",
    "stochastic": "more in the stochastic regime",
    "budget": "more per e-fold of the budget",
    "base": "more per e-fold of the base's budget",
    "factor": "more per e-fold of g",
    "stochastic x budget": "more of both together",
    "base x budget": "more per e-fold of both",
}


def show(study: str, selection: Selection, answer: Answer, question: Question) -> None:
    """The candidates, best first, what the choice rests on, and how to go on."""
    page, choice, asked = console(), answer.choice, answer.asked
    heads = ("candidate", "P(best)", "regret", "loss - pool's", f"{question.level:.0%} interval")
    page.print(table(heads, (_row(choice, i) for i in choice.regret.argsort())))
    if answer.found:
        probe_heads = ("probed", f"loss at {asked.regime.lag}", "KL at 0")
        there = [answer.probed(choice.candidates[i]) for i in choice.regret.argsort()]
        rows = [(each.candidate.name, f"{_loss(each):.4f}", f"{each.zero_step_kl:.2g}") for each in there if each]
        page.print()
        page.print(table(probe_heads, rows))
    page.print()
    for line in sentences(study, selection, answer, question):
        page.print(line)


def _row(choice: Choice, i: int) -> tuple[str, ...]:
    interval = between(f"{choice.low[i]:+.4f}", f"{choice.high[i]:+.4f}")
    numbers = f"{choice.p_best[i]:.2f}", f"{choice.regret[i]:.4f}", f"{choice.effect[i]:+.4f}"
    return choice.candidates[i], *numbers, interval


def sentences(study: str, selection: Selection, answer: Answer, question: Question) -> Iterator[str]:
    """What was chosen, for what, what it rests on, what was left out, and the commands that follow."""
    asked, effects = answer.asked, selection.effects
    for name in answer.pool.unknown:
        yield f"{name} is not in the study, and was left out: rank it by scalegrow probe."
    for name, reason in answer.pool.refused.items():
        yield f"{name} refused: {reason}"
    yield taken(answer)
    where = f"{format_count(asked.N)} parameters, {asked.setting.tpp:.3g} tokens per parameter"
    yield f"Target: {form(asked.target)}, {where}; {asked.regime.kind} regime."
    outside = selection.times_outside(asked.setting, asked.N)
    yield (
        f"Study: {study}, {effects.n_runs} runs from {effects.n_bases} bases; "
        f"this question {extrapolation_sentence(outside)}."
    )
    yield (
        "No probe: this is the study's choice alone."
        if answer.found is None
        else "Probe: " + link_sentence(selection.links[asked.regime.lag])
    )
    if too_far(outside):
        yield (
            "So far off it is no advice: sweep candidates of your own at a smaller size, "
            "fit them with scalegrow select --runs, and give the result as --study."
        )
    yield f"Next: {grow_command(answer, question)}"


def taken(answer: Answer) -> str:
    """The candidate to take, with its probability and regret."""
    choice = answer.choice
    if len(choice.candidates) == 1:
        return f"Of these only {answer.take} is left: there is nothing to choose."
    p, regret = choice.p_best[choice.best], choice.regret[choice.best]
    return (
        f"Take {answer.take}: it ends best of {len(choice.candidates)} with probability {p:.2f}, and on average "
        f"{regret:.4f} nats per token above the best."
    )


def grow_command(answer: Answer, question: Question) -> str:
    """How the candidate is grown from the checkpoint."""
    checkpoint, target = quote(str(question.checkpoint)), question.target.words
    return f"scalegrow grow {checkpoint} --operator {quote(answer.take)} {target} --out grown"


def _loss(each: "Probed") -> float:
    """The mean held-out loss after the lag."""
    return float(each.mean(lambda run: run.loss).value)


def weightless(link: ProbeLink) -> str:
    """Before a probe that changes nothing is trained: that it need not be."""
    return (
        f"note: the study gives probes of {link.lag} steps no weight, so that this one is only shown: "
        "--no-probe chooses the same at once."
    )


def link_sentence(link: ProbeLink) -> str:
    """What probes of one lag told in the study."""
    told = f"(slope {link.slope:.3f}, standard error {link.error:.3f}, {link.n_bases} bases)"
    if not link.trust:
        return (
            f"in the study what was unusual about a base's losses after {link.lag} steps foretold nothing of "
            f"their ends {told}; it changes nothing."
        )
    return (
        f"in the study a candidate that stood off by a nat after {link.lag} steps, beyond what it does on other "
        f"bases, ended off by {link.slope:.3f} {told}; {link.trust:.0%} of that is trusted."
    )


def show_effects(selection: Selection) -> None:
    """Coefficients with their cluster-robust errors, and what probes told."""
    page, effects = console(), selection.effects
    told = [term for term, errors in zip(TERMS, effects.errors.T, strict=True) if not np.isnan(errors).all()]
    for few in (told[i : i + ABREAST] for i in range(0, len(told), ABREAST)):
        places = [TERMS.index(term) for term in few]
        cells = zip(effects.candidates, effects.coefficients[:, places], effects.errors[:, places], strict=True)
        page.print(table(("candidate", *few), [(name, *map(_cell, *numbers)) for name, *numbers in cells]))
        page.print()
    page.print(f"Final loss minus {effects.candidates[0]}'s, nats per token (standard error, robust to bases);")
    for term in told:
        page.print(f"{term}: {MEANINGS[term]}")
    page.print(f"{effects.n_runs} runs from {effects.n_bases} bases.")
    for link in selection.links.values():
        page.print(f"Probes: {link_sentence(link)}")


def _cell(value: float, error: float) -> str:
    """A coefficient with its standard error; nothing where runs do not tell it."""
    return "" if math.isnan(error) else f"{value:+.4f} ({error:.4f})"


def as_data(study: str, selection: Selection, answer: Answer, question: Question) -> dict[str, Any]:
    """The same for a program."""
    asked, effects = answer.asked, selection.effects
    setting = asked.setting
    outside = selection.times_outside(setting, asked.N)
    return {
        "schema": "scalegrow-select/1",
        "checkpoint": str(question.checkpoint),
        "target": {**vars(asked.target), "n_params": asked.target.n_params},
        "regime": asked.regime.kind,
        "tokens_per_param": setting.tpp,
        "base_tokens_per_param": setting.base_tpp,
        "growth_factor": setting.g,
        "level": question.level,
        "take": answer.take,
        "next": grow_command(answer, question),
        "candidates": choice_data(answer.choice),
        "probe": probe_data(selection, answer),
        "unknown": answer.pool.unknown,
        "refused": [{"candidate": name, "reason": reason} for name, reason in answer.pool.refused.items()],
        "study": {"name": study, "runs": effects.n_runs, "bases": effects.n_bases},
        "times_outside": {LABELS[name]: ratio for name, ratio in outside.items()},
    }


def probe_data(selection: Selection, answer: Answer) -> dict[str, Any] | None:
    """What was probed, and what the study makes of it, for a program; None without a probe."""
    regime = answer.asked.regime
    if answer.found is None:
        return None
    measured = [
        {"candidate": each.candidate.name, "loss": _loss(each), "zero_step_kl": each.zero_step_kl}
        for each in answer.found.candidates
    ]
    link = link_data(selection.links[regime.lag])
    return {"lag": regime.lag, "seeds": regime.seeds, "measured": measured, "link": link}


def link_data(link: ProbeLink) -> dict[str, Any]:
    """What probes of one lag told in the study, for a program."""
    return {"lag": link.lag, "slope": link.slope, "error": link.error, "bases": link.n_bases, "trust": link.trust}


def effects_data(selection: Selection) -> dict[str, Any]:
    """The fitted terms for a program; what only the next choice needs stays in the file."""
    told = selection.effects.to_data()
    return {
        "schema": "scalegrow-selection-effects/1",
        **{name: told[name] for name in ("candidates", "terms", "coefficients", "errors", "domain", "runs")},
        "bases": selection.effects.n_bases,
        "regimes": list(selection.regimes),
        "deeper": selection.deeper,
        "links": [link_data(link) for link in selection.links.values()],
    }


def choice_data(choice: Choice) -> list[dict[str, Any]]:
    """Every candidate of a choice for a program, best first."""

    def told(i: int) -> dict[str, Any]:
        interval = [float(choice.low[i]), float(choice.high[i])]
        numbers = {"p_best": float(choice.p_best[i]), "regret": float(choice.regret[i])}
        return {**numbers, "effect": {"value": float(choice.effect[i]), "interval": interval}}

    return [{"candidate": choice.candidates[i], **told(i)} for i in choice.regret.argsort()]
