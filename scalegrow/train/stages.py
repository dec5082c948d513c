"""One trunk, many budgets: the stages of a run and where each begins.

Under wsd a trunk at constant rate serves every budget, and a short cool-down branches off it for each (Haegele et
al. 2024, arXiv 2405.18392). Cosine has no trunk: each budget is a run of its own. Constant is a trunk alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalegrow.errors import InputError
from scalegrow.runs.branches import decay_start
from scalegrow.runs.config import RunConfig


@dataclass(frozen=True)
class Stage:
    """Steps start .. end - 1, its learning rate falling towards `horizon` (None: it does not).

    parent names the stage whose checkpoint at `start` it continues; keep are the steps after which a checkpoint
    stays; evaluate the steps after which the held-out loss is read.
    """

    name: str
    start: int
    end: int
    horizon: int | None
    parent: str | None
    keep: frozenset[int]
    evaluate: frozenset[int]

    @property
    def annealed(self) -> bool:
        """Whether its last loss is a final, annealed one."""
        return self.horizon is not None


def stages(config: RunConfig) -> list[Stage]:
    """The stages of a run in the order they can be trained."""
    ends = {budget: config.steps(budget) for budget in config.budgets}
    if config.schedule.kind == "cosine":
        return [_from_first_weights(config, _name(budget), end, end, ()) for budget, end in ends.items()]
    starts = {budget: decay_start(config, end) for budget, end in ends.items()}
    trunk = _from_first_weights(config, "trunk", max(starts.values()), None, starts.values())
    if config.schedule.kind == "constant":
        return [trunk]
    branches = [_branch(config, budget, starts[budget], end) for budget, end in ends.items()]
    return [trunk, *branches] if trunk.end else branches


def require_extension(old: RunConfig, new: RunConfig, folder: Path) -> None:
    """Raise InputError unless a trained run can be given these budgets: its own, and others that it can branch to.

    A branch leaves the trunk from a checkpoint: those of the old budgets were kept, and beyond its end it goes on.
    """
    if missing := [budget for budget in old.budgets if budget not in new.budgets]:
        raise InputError(f"{folder} was trained to {', '.join(missing)} too: give --budget {missing[0]} as well.")
    if new.schedule.kind == "cosine":
        return
    trunk = next((stage for stage in stages(old) if stage.name == "trunk"), None)
    end, kept = (trunk.end, trunk.keep) if trunk else (0, frozenset())
    for budget in (budget for budget in new.budgets if budget not in old.budgets):
        start = decay_start(new, new.steps(budget))
        if 0 < start < end and start not in kept:
            raise InputError(
                f"{budget} would leave the trunk of {folder} at step {start}, where no checkpoint was kept: "
                "choose another --out."
            )


def _from_first_weights(config: RunConfig, name: str, end: int, horizon: int | None, keep: Iterable[int]) -> Stage:
    """A stage from step 0, evaluated evenly on its way and wherever a checkpoint stays."""
    times = config.evaluation.times
    evenly = {round(end * part / times) for part in range(1, times + 1)}
    kept = frozenset({end, *keep, *_lags(config, end)})
    return Stage(name, 0, end, horizon, None, kept, frozenset((evenly | kept) - {0}))


def _branch(config: RunConfig, budget: str, start: int, end: int) -> Stage:
    """A budget's cool-down; one that decays from the first step on has no parent, and its lags are its own."""
    kept = frozenset({end, *(() if start else _lags(config, end))})
    return Stage(_name(budget), start, end, end, "trunk" if start else None, kept, kept)


def _lags(config: RunConfig, end: int) -> list[int]:
    """The lags that a stage from step 0 reaches."""
    return [lag for lag in config.evaluation.lags if lag <= end]


def _name(budget: str) -> str:
    """A budget as a folder's name."""
    return "".join(each if each.isalnum() or each in ".-" else "_" for each in budget.strip())
