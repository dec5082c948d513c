"""A question to `scalegrow select`, understood: base and target, where it is trained, the pool of candidates."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalegrow.budget import Budget
from scalegrow.cli.grow import NEEDS_TORCH, Target
from scalegrow.cli.probe import regime_of
from scalegrow.errors import InputError
from scalegrow.plan.outcomes import STOCHASTIC
from scalegrow.plan.select import Choice, Setting
from scalegrow.plan.selection import Selection
from scalegrow.runs.config import RunConfig
from scalegrow.shape import ModelShape

if TYPE_CHECKING:
    from scalegrow.train.candidates import Candidate
    from scalegrow.train.probe import Regime
    from scalegrow.train.ranking import Probed, Ranking


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
    if (tokens := Budget.parse(question.budget).tokens(target.n_params)) < 1:
        raise InputError(f"{question.budget} of this target is less than one token: give more.")
    tpp = tokens / target.n_params
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
    pool, unseen = Pool(), selection.unseen(asked.setting)
    for each in wanted:
        theirs = next((known.name for known in studied if meant(known) == meant(each)), None)
        if reason := why_not(asked, each):
            pool.refused[each.name] = reason
        elif theirs is None:
            pool.unknown.append(each.name)
        elif theirs in unseen:
            pool.refused[each.name] = f"the study did not run it {unseen[theirs]}."
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
