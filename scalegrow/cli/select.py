"""`scalegrow select`: which warm start to take from a checkpoint, by a study and by a probe of the checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalegrow.budget import Budget
from scalegrow.cli.data import chosen_rows
from scalegrow.cli.grow import NEEDS_TORCH, Target
from scalegrow.cli.probe import ranking, regime_of
from scalegrow.cli.render import between, console, extrapolation_sentence, print_json, table_without_empty
from scalegrow.errors import InputError
from scalegrow.laws.domain import LABELS
from scalegrow.plan.outcomes import STOCHASTIC, outcomes
from scalegrow.plan.select import TERMS, Choice, Effects, Setting
from scalegrow.plan.selection import Selection, read_selection, write_selection
from scalegrow.runs.config import RunConfig
from scalegrow.runs.shipped import load_table, shipped_choice
from scalegrow.shape import ModelShape, Shape
from scalegrow.units import format_count

if TYPE_CHECKING:
    from scalegrow.train.candidates import Candidate
    from scalegrow.train.probe import Regime
    from scalegrow.train.ranking import Probed, Ranking

MEANINGS = {
    "effect": "at 10 tokens per parameter, base 20, g = 4",
    "stochastic": "more in the stochastic regime",
    "budget": "more per e-fold of the budget",
    "base": "more per e-fold of the base's budget",
    "factor": "more per e-fold of g",
}


@dataclass(frozen=True)
class Question:
    """Which base and target, to what budget; operators: the candidates, by default all that the study knows."""

    checkpoint: Path
    target: Target
    budget: str
    operators: str | None
    seed: int
    level: float


@dataclass(frozen=True)
class Answer:
    """choice: among the candidates that grow and that the study knows. setting, of a target of N parameters.

    found: the probe, where one ran. unknown: candidates that the study does not know. refused: those that do not
    grow, and why.
    """

    choice: Choice
    setting: Setting
    N: float
    found: "Ranking | None"
    unknown: tuple[str, ...]
    refused: dict[str, str]

    @property
    def take(self) -> str:
        """The candidate to take."""
        return self.choice.candidates[self.choice.best]

    def probed(self, name: str) -> "Probed | None":
        """What the probe found of a candidate."""
        there = self.found.candidates if self.found else ()
        return next((each for each in there if each.candidate.name == name), None)


def one_of(checkpoint: Path | None, runs: str | None, where: list[str] | None, out: Path | None) -> None:
    """Raise InputError unless there is a checkpoint to choose for, or a study to fit."""
    if (checkpoint is None) == (runs is None):
        raise InputError("give a checkpoint to choose for, or --runs TABLE to fit a study of your own.")
    if checkpoint and (where or out):
        raise InputError("--where and --out are for a study that is fitted: give them beside --runs.")


def load_selection(name: str) -> Selection:
    """A fitted study by path, or the shipped one by name. Raises InputError."""
    path = Path(name)
    return read_selection(path if path.suffix or path.exists() else shipped_choice(name))


def fit(runs: str, where: list[str], out: Path | None, *, as_json: bool) -> None:
    """Fit a study's run table, keep it where told, and print the effects."""
    selection = Selection.fit(outcomes(chosen_rows(load_table(runs), where)))
    if out:
        write_selection(selection, out)
    if as_json:
        print_json({"schema": "scalegrow-selection-effects/1", **selection.effects.to_data()})
    else:
        show_effects(selection.effects)


def run(
    study: str,
    question: Question,
    regime: dict[str, Any],
    cache: Path | None,
    device: str | None,
    *,
    probing: bool,
    as_json: bool,
) -> None:
    """Probe, combine with the study, print."""
    try:
        from scalegrow.train.candidates import parse_candidates
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    selection, chosen = load_selection(study), regime_of(regime)
    known = parse_candidates(", ".join(selection.effects.candidates), question.seed)
    asked = parse_candidates(question.operators, question.seed) if question.operators else known
    base, setting, N = at(question, chosen)
    refused = not_growing(base, question.target.shape(base), asked)
    asked = tuple(each for each in asked if each.name not in refused)
    if not asked:
        raise InputError(f"no candidate grows; {next(f'{name}: {reason}' for name, reason in refused.items())}")
    found = ranking(question.checkpoint, question.target, asked, chosen, cache, device) if probing else None
    refused |= {each.candidate.name: each.reason for each in found.refused} if found else {}
    names = {each.name: known_as(each, known) for each in asked if each.name not in refused}
    studied = {mine: theirs for mine, theirs in names.items() if theirs}
    if not studied:
        raise InputError(f"the study knows none of {', '.join(names)}: rank them by scalegrow probe.")
    choice = selection.choose(studied, setting, losses(found, studied), chosen.lag, question.level)
    answer = Answer(choice, setting, N, found, tuple(names.keys() - studied.keys()), refused)
    if as_json:
        print_json(as_data(study, selection, chosen, answer))
    else:
        show(study, selection, chosen, answer, question.level)


def at(question: Question, regime: "Regime") -> tuple[Shape, Setting, float]:
    """The base's shape, the setting in which its target is trained, and the target's parameters."""
    from scalegrow.train.state import read_facts

    facts = read_facts(question.checkpoint)
    base = RunConfig.from_dict(facts["config"]).model.shape
    if not isinstance(base, ModelShape):
        raise InputError("the study is of decoders: rank the warm starts of a network by scalegrow probe.")
    N = float(question.target.shape(base).n_params)
    tpp = Budget.parse(question.budget).tokens(N) / N
    seen = float(facts["tokens"]) / base.n_params
    if not seen > 0:
        raise InputError(f"{question.checkpoint} has not been trained: give a checkpoint of a trained base.")
    return base, Setting(regime.kind == STOCHASTIC, tpp, seen, N / base.n_params), N


def not_growing(base: Shape, target: Shape, candidates: "Sequence[Candidate]") -> dict[str, str]:
    """The candidates whose algebra does not allow the target, and why."""
    from scalegrow.train.operators import plan

    refused = {}
    for each in candidates:
        try:
            plan(base, target, each.operator, each.depth_operator, each.arguments)
        except InputError as error:
            refused[each.name] = str(error)
    return refused


def known_as(candidate: "Candidate", known: "Sequence[Candidate]") -> str | None:
    """The study's name of the same training state, None where it has none."""
    return next((each.name for each in known if replace(each, name=candidate.name) == candidate), None)


def losses(found: "Ranking | None", names: dict[str, str]) -> list[float] | None:
    """The mean probe loss of each candidate, in this order."""
    if not found:
        return None
    by_name = {each.candidate.name: each.mean(lambda run: run.loss).value for each in found.candidates}
    return [by_name[name] for name in names]


def show(study: str, selection: Selection, regime: "Regime", answer: Answer, level: float) -> None:
    """The candidates, best first, and what the choice rests on."""
    page, choice = console(), answer.choice
    heads = (
        *("candidate", "P(best)", "regret", "loss to pool", f"{level:.0%} interval"),
        *(f"probe loss at {regime.lag}", "KL at 0"),
    )
    rows = []
    for i in choice.regret.argsort():
        probed = answer.probed(choice.candidates[i])
        cells = ("", "") if probed is None else (f"{probed.mean(_loss).value:.4f}", f"{probed.zero_step_kl:.2g}")
        interval = between(f"{choice.low[i]:+.4f}", f"{choice.high[i]:+.4f}")
        mine = f"{choice.p_best[i]:.2f}", f"{choice.regret[i]:.4f}", f"{choice.effect[i]:+.4f}", interval
        rows.append((choice.candidates[i], *mine, *cells))
    page.print(table_without_empty(heads, rows))
    p, regret = choice.p_best[choice.best], choice.regret[choice.best]
    page.print(
        f"\nTake {answer.take}: it ends best of {len(choice.candidates)} with probability {p:.2f}, and on average "
        f"{regret:.4f} nats per token above the best."
    )
    where = f"{format_count(answer.N)} parameters, {answer.setting.tpp:.3g} tokens per parameter"
    page.print(f"{where}; {regime.kind} regime.")
    outside = extrapolation_sentence(selection.times_outside(answer.setting, answer.N))
    effects = selection.effects
    page.print(f"Study: {study}, {effects.n_runs} runs from {effects.n_bases} bases; this question {outside}.")
    page.print(link_sentence(selection, regime, answer))
    for name in answer.unknown:
        page.print(f"{name}: not in the study; its probe alone cannot be set beside it.")
    for name, reason in answer.refused.items():
        page.print(f"{name} refused: {reason}")


def _loss(run: Any) -> float:
    return float(run.loss)


def link_sentence(selection: Selection, regime: "Regime", answer: Answer) -> str:
    """What the probe added, in one line."""
    link = selection.link(regime.lag) if answer.found else None
    if link is None:
        return "No probe: this is the study's choice alone."
    apart = "" if link.lag == regime.lag else f" (its nearest to {regime.lag})"
    told = "a little" if abs(link.slope) > 2 * link.error else "hardly anything"
    return (
        f"In the study a probe of {link.lag} steps{apart} added {told}: of a nat that it surprised by, "
        f"{link.slope:.3f} (standard error {link.error:.3f}) was left in the final loss."
    )


def show_effects(effects: Effects) -> None:
    """Coefficients with their cluster-robust errors."""
    page = console()
    rows = []
    for name, mine, errors in zip(effects.candidates, effects.coefficients, effects.errors, strict=True):
        told = [f"{value:+.4f} ({error:.4f})" for value, error in zip(mine, errors, strict=True)]
        rows.append((name, *("" if math.isnan(error) else cell for cell, error in zip(told, errors, strict=True))))
    page.print(table_without_empty(("candidate", *TERMS), rows))
    page.print(f"\nFinal loss minus {effects.candidates[0]}'s, nats per token (standard error, robust to bases);")
    for term, meaning in MEANINGS.items():
        page.print(f"{term}: {meaning}")
    page.print(f"{effects.n_runs} runs from {effects.n_bases} bases.")


def as_data(study: str, selection: Selection, regime: "Regime", answer: Answer) -> dict[str, Any]:
    """The same for a program."""
    link = selection.link(regime.lag) if answer.found else None
    return {
        "schema": "scalegrow-select/1",
        "take": answer.take,
        "setting": {**vars(answer.setting), "n_params": answer.N},
        "candidates": choice_data(answer.choice),
        "probe": [
            {"candidate": name, "loss": each.mean(_loss).value, "zero_step_kl": each.zero_step_kl}
            for name in answer.choice.candidates
            if (each := answer.probed(name))
        ],
        "lag": regime.lag,
        "slope": link and {"lag": link.lag, "value": link.slope, "error": link.error},
        "unknown": list(answer.unknown),
        "refused": answer.refused,
        "study": {"name": study, "runs": selection.effects.n_runs, "bases": selection.effects.n_bases},
        "times_outside": {
            LABELS[name]: ratio for name, ratio in selection.times_outside(answer.setting, answer.N).items()
        },
    }


def choice_data(choice: Choice) -> list[dict[str, Any]]:
    """Every candidate of a choice for a program, best first."""

    def told(i: int) -> dict[str, Any]:
        interval = [float(choice.low[i]), float(choice.high[i])]
        numbers = {"p_best": float(choice.p_best[i]), "regret": float(choice.regret[i])}
        return {**numbers, "effect": {"value": float(choice.effect[i]), "interval": interval}}

    return [{"candidate": choice.candidates[i], **told(i)} for i in choice.regret.argsort()]
