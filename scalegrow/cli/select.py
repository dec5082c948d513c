"""`scalegrow select`: which warm start to take from a checkpoint, by a study and by a probe of the checkpoint."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalegrow.budget import Budget
from scalegrow.cli.data import chosen_rows
from scalegrow.cli.grow import NEEDS_TORCH, Target, form
from scalegrow.cli.probe import ranking, regime_of
from scalegrow.cli.render import between, console, print_json, table_without_empty
from scalegrow.errors import InputError
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.forecast import require_level
from scalegrow.plan.outcomes import STOCHASTIC, outcomes
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import TERMS, Choice, Setting
from scalegrow.plan.selection import Selection, read_selection, write_selection
from scalegrow.runs.config import RunConfig
from scalegrow.runs.shipped import given_or, load_table, shipped_choice
from scalegrow.shape import ModelShape
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


@dataclass
class Pool:
    """known: the study's name of each candidate that grows. unknown: those that it has not; refused: why."""

    known: "dict[Candidate, str]" = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """As asked, to the study's."""
        return {each.name: theirs for each, theirs in self.known.items()}


@dataclass(frozen=True)
class Asked:
    """A question, understood: base and target, where the target is trained, how the probe is run."""

    base: ModelShape
    target: ModelShape
    setting: Setting
    regime: "Regime"

    @property
    def N(self) -> float:
        """Parameters of the target."""
        return float(self.target.n_params)


@dataclass(frozen=True)
class Answer:
    """choice: among the pool's known candidates. found: the probe, where one ran."""

    asked: Asked
    pool: Pool
    choice: Choice
    found: "Ranking | None"

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
    return read_selection(given_or(name, shipped_choice))


def fit(runs: str, where: list[str], out: Path | None, *, as_json: bool) -> None:
    """Fit a study's run table, keep it where told, and print the effects."""
    table = load_table(runs)
    selection = Selection.fit(outcomes(chosen_rows(table, where), bases=table))
    if out:
        write_selection(selection, out)
    if as_json:
        print_json(effects_data(selection))
    else:
        show_effects(selection)


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
    require_level(question.level)
    selection = load_selection(study)
    asked = understood(question, regime)
    require_studied(selection, asked, probing=probing)
    pool = pool_of(selection, question, asked)
    found = probed(question, asked, pool, cache, device) if probing else None
    lag, names = asked.regime.lag, pool.names
    choice = selection.choose(names, asked.setting, losses(found, names), lag, question.level)
    answer = Answer(asked, pool, choice, found)
    if as_json:
        print_json(as_data(study, selection, answer, question))
    else:
        show(study, selection, answer, question.level)


def understood(question: Question, regime: dict[str, Any]) -> Asked:
    """The question with the checkpoint's facts. Raises InputError where it cannot be asked."""
    try:
        from scalegrow.train.state import read_facts
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    chosen, facts = regime_of(regime), read_facts(question.checkpoint)
    base = RunConfig.from_dict(facts["config"]).model.shape
    if not isinstance(base, ModelShape):
        raise InputError("the study is of decoders: rank the warm starts of a network by scalegrow probe.")
    target = question.target.shape(base)
    assert isinstance(target, ModelShape)
    tpp = Budget.parse(question.budget).tokens(target.n_params) / target.n_params
    seen = float(facts["tokens"]) / base.n_params
    if not seen > 0:
        raise InputError(f"{question.checkpoint} has not been trained: give a checkpoint of a trained base.")
    setting = Setting(chosen.kind == STOCHASTIC, tpp, seen, target.n_params / base.n_params)
    return Asked(base, target, setting, chosen)


def require_studied(selection: Selection, asked: Asked, *, probing: bool) -> None:
    """Raise InputError where the study has no run of this kind: what no term of it tells is not extrapolated."""
    if asked.regime.kind not in selection.regimes:
        told = " and ".join(selection.regimes)
        raise InputError(f"the study is of the {told} regime: rank candidates in another by scalegrow probe.")
    more = asked.target.n_layers - asked.base.n_layers
    if more > 0 and not selection.deeper:
        raise InputError(
            f"the study grew in width alone, and this target adds {more} layer{'s' * (more > 1)}: keep the depth, "
            "such as by --width 2, or rank candidates by scalegrow probe."
        )
    if probing and asked.regime.lag not in selection.links:
        lags = " and ".join(map(str, selection.links)) or "no"
        first = next(iter(selection.links), None)
        instead = "" if first is None else f"--lag {first} or "
        raise InputError(
            f"the study has probes of {lags} steps, to which others do not compare: give {instead}--no-probe."
        )


def pool_of(selection: Selection, question: Question, asked: Asked) -> Pool:
    """The candidates that were asked for. Raises InputError where none of them grows and is known."""
    from scalegrow.train.candidates import parse_candidates

    studied = parse_candidates(", ".join(selection.effects.candidates), question.seed)
    wanted = parse_candidates(question.operators, question.seed) if question.operators else studied
    pool = Pool()
    for each in wanted:
        theirs = next((known.name for known in studied if meant(known) == meant(each)), None)
        if reason := why_not(asked, each):
            pool.refused[each.name] = reason
        elif theirs is None:
            pool.unknown.append(each.name)
        else:
            pool.known[each] = theirs
    _require_known(pool)
    return pool


def _require_known(pool: Pool) -> None:
    """Raise InputError where there is nothing to choose from, or one candidate twice."""
    if not pool.known and pool.unknown:
        raise InputError(f"the study knows none of {', '.join(pool.unknown)}: rank them by scalegrow probe.")
    if not pool.known:
        name, reason = next(iter(pool.refused.items()))
        raise InputError(f"no candidate grows; {name}: {reason}")
    by_name: dict[str, str] = {}
    for name, theirs in pool.names.items():
        if (first := by_name.setdefault(theirs, name)) != name:
            raise InputError(f"candidates {first!r} and {name!r} are the same growth: name one of them.")


def meant(candidate: "Candidate") -> "Candidate":
    """However it is written, and whatever the seed of its draws."""
    return replace(candidate, name="", arguments=replace(candidate.arguments, seed=0))


def why_not(asked: Asked, candidate: "Candidate") -> str | None:
    """What a candidate's algebra has against the target; None where it grows."""
    from scalegrow.train.operators import plan

    try:
        plan(asked.base, asked.target, candidate.operator, candidate.depth_operator, candidate.arguments)
    except InputError as error:
        return str(error)
    return None


def probed(question: Question, asked: Asked, pool: Pool, cache: Path | None, device: str | None) -> "Ranking":
    """Every known candidate, probed; one that cannot be trained leaves the pool's known for its refused."""
    found = ranking(question.checkpoint, question.target, tuple(pool.known), asked.regime, cache, device)
    for each in found.refused:
        pool.refused[each.candidate.name] = each.reason
        del pool.known[each.candidate]
    return found


def losses(found: "Ranking | None", names: dict[str, str]) -> list[float] | None:
    """The mean probe loss of each candidate, in this order."""
    if not found:
        return None
    by_name = {each.candidate.name: each.mean(lambda run: run.loss).value for each in found.candidates}
    return [by_name[name] for name in names]


def show(study: str, selection: Selection, answer: Answer, level: float) -> None:
    """The candidates, best first, and what the choice rests on."""
    page, choice, asked = console(), answer.choice, answer.asked
    heads = (
        *("candidate", "P(best)", "regret", "loss to pool", f"{level:.0%} interval"),
        *(f"loss at {asked.regime.lag}", "KL at 0"),
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
    where = (
        f"{form(asked.target)}, {format_count(asked.N)} parameters, {asked.setting.tpp:.3g} tokens per parameter"
    )
    page.print(f"Target: {where}; {asked.regime.kind} regime.")
    outside = extrapolation_sentence(selection.times_outside(asked.setting, asked.N))
    effects = selection.effects
    page.print(f"Study: {study}, {effects.n_runs} runs from {effects.n_bases} bases; this question {outside}.")
    page.print(probe_sentence(selection, answer))
    for name in answer.pool.unknown:
        page.print(f"{name} is not in the study, and was left out: rank it by scalegrow probe.")
    for name, reason in answer.pool.refused.items():
        page.print(f"{name} refused: {reason}")


def _loss(run: Any) -> float:
    return float(run.loss)


def probe_sentence(selection: Selection, answer: Answer) -> str:
    """What the probe added, in one line."""
    if answer.found is None:
        return "No probe: this is the study's choice alone."
    return f"Probe: {link_sentence(selection.links[answer.asked.regime.lag])}"


def link_sentence(link: ProbeLink) -> str:
    """What probes of one lag told in the study."""
    return (
        f"after {link.lag} steps, of a nat by which a candidate surprised, {link.slope:.3f} (standard error "
        f"{link.error:.3f}) was left in its final loss, over {link.n_bases} bases; "
        + (
            f"{link.trust:.0%} of that is trusted."
            if link.trust
            else "that is no more than chance, and changes nothing."
        )
    )


def show_effects(selection: Selection) -> None:
    """Coefficients with their cluster-robust errors, and what probes told."""
    page, effects = console(), selection.effects
    rows = []
    for name, mine, errors in zip(effects.candidates, effects.coefficients, effects.errors, strict=True):
        told = [f"{value:+.4f} ({error:.4f})" for value, error in zip(mine, errors, strict=True)]
        rows.append((name, *("" if math.isnan(error) else cell for cell, error in zip(told, errors, strict=True))))
    page.print(table_without_empty(("candidate", *TERMS), rows))
    page.print(f"\nFinal loss minus {effects.candidates[0]}'s, nats per token (standard error, robust to bases);")
    for term, meaning in MEANINGS.items():
        page.print(f"{term}: {meaning}")
    page.print(f"{effects.n_runs} runs from {effects.n_bases} bases.")
    for link in selection.links.values():
        page.print(f"Probes: {link_sentence(link)}")


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
        {"candidate": each.candidate.name, "loss": each.mean(_loss).value, "zero_step_kl": each.zero_step_kl}
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
