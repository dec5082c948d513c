"""`scalegrow sweep --dry-run`: which runs a study comes to, by size and arm, and what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalegrow.cli.render import console, counted, print_json, table
from scalegrow.cli.sweep_progress import clock, notes_of, speed_of
from scalegrow.runs.collect import VARIED, differing
from scalegrow.runs.fields import flatten
from scalegrow.runs.study import Member
from scalegrow.units import format_count

if TYPE_CHECKING:
    from scalegrow.train.estimate import Cost
    from scalegrow.train.member import Job

WIDTH = 120  # of what is piped
MOST_VALUES = 8  # of a setting, shown
HEADS = ("parameters, arm", "grown from", "runs", "tokens", "FLOPs", "one worker", "disk")


@dataclass(frozen=True)
class Planned:
    """A study's runs, what each costs, which are finished, and which others grow from."""

    jobs: "dict[str, Job]"
    costs: "dict[str, Cost]"
    done: set[str]
    bases: set[str]

    @property
    def left(self) -> dict[str, float]:
        """Seconds of each run that is not finished."""
        return {key: cost.seconds for key, cost in self.costs.items() if key not in self.done}


def planned(jobs: "dict[str, Job]") -> Planned:
    """The plan, its seconds at the rate of what is finished."""
    from scalegrow.train.estimate import cost

    done = notes_of(jobs)
    speed = speed_of(jobs, done)
    return Planned(
        jobs,
        {key: cost(job.member, speed) for key, job in jobs.items()},
        {*done},
        {job.member.origin.base.key for job in jobs.values() if job.member.origin},
    )


def show_plan(jobs: "dict[str, Job]", folder: Path, workers: int, *, as_json: bool) -> None:
    """The runs and what they cost: as JSON every one, for a person those of a size and arm together."""
    plan = planned(jobs)
    if as_json:
        runs = [_told(plan, key) for key in jobs]
        print_json({"schema": "scalegrow-sweep-plan/1", "folder": str(folder), "workers": workers, "runs": runs})
        return
    page = console()
    if not page.is_terminal:
        page.width = WIDTH
    sizes = sorted({job.member.config.model.shape.n_params for job in jobs.values()})
    page.print(table(HEADS, [row for size in sizes for row in _rows(plan, size)]))
    if varied := _varied(job.member for job in jobs.values()):
        page.print(f"\nEach line holds runs that differ in: {varied}")
    page.print(f"\n{_sum(plan, workers)}")


def _rows(plan: Planned, size: int) -> list[tuple[str, ...]]:
    """A size with its trunk and cool-downs, and below it a line for every arm."""
    keys = [key for key, job in plan.jobs.items() if job.member.config.model.shape.n_params == size]
    arms: dict[tuple[str, str, float], list[str]] = {}
    for key in keys:
        arms.setdefault(_arm(plan.jobs[key].member), []).append(key)
    rows = [(f"{format_count(size)}: {_lengths(plan.jobs[key].member for key in keys)}", *[""] * (len(HEADS) - 1))]
    for (name, parent, _), members in sorted(arms.items(), key=lambda arm: arm[0][2]):
        used = len(plan.bases & {*members})
        label = f"  {name}{f', {used} of them bases' if used else ''}"
        rows.append((label, parent, str(len(members)), *_figures(plan.costs[key] for key in members)))
    return rows


def _arm(member: Member) -> tuple[str, str, float]:
    """How a run begins, from what, and by which factor."""
    origin = member.origin
    if origin is None:
        return member.arm, "", 1.0
    base = format_count(origin.base.config.model.shape.n_params)
    where = f"{base} at {origin.budget}{', annealed' * origin.annealed}"
    return f"{origin.candidate} x{origin.factor:g}", where, origin.factor


def _varied(members: Iterable[Member]) -> str:
    """The settings in which runs differ beside size, arm and budgets, each with its values."""
    hidden = {*VARIED} - {"seed", "data.source", "data.tokenizer"}
    values = differing([flatten(member.config.to_dict()) for member in members])
    return "; ".join(f"{name} {', '.join(values[name][:MOST_VALUES])}" for name in values if name not in hidden)


def _lengths(members: Iterable[Member]) -> str:
    """The longest trunk of runs of one size, and all their budgets."""
    from scalegrow.train.stages import stages

    configs = [member.config for member in members]
    trunks = [s.end * c.tokens_per_step for c in configs for s in stages(c) if s.name == "trunk"]
    budgets = {
        config.steps(budget) * config.tokens_per_step: budget for config in configs for budget in config.budgets
    }
    trunk = f"trunk of {format_count(max(trunks))}, " if trunks else ""
    return f"{trunk}budgets {', '.join(budgets[tokens] for tokens in sorted(budgets))}"


def _figures(costs: "Iterable[Cost]") -> tuple[str, str, str, str]:
    """Tokens, FLOPs, one worker's time and bytes of some runs."""
    from scalegrow.train.estimate import total

    cost = total(costs)
    return format_count(cost.tokens), f"{cost.flops:.2g}", clock(cost.seconds), _bytes(cost.disk)


def _bytes(count: float) -> str:
    """745kB, 1.07GB."""
    return f"{format_count(count).replace('B', 'G')}B"


def _sum(plan: Planned, workers: int) -> str:
    """All runs together, and how long is left."""
    from scalegrow.train.estimate import time_left

    tokens, flops, time, disk = _figures(plan.costs.values())
    seconds = time_left((job.member for job in plan.jobs.values()), plan.left, workers)
    source = (
        "the rate of what is finished" if plan.done else "a usual core's rate, which this machine's may not be"
    )
    return (
        f"{counted(len(plan.jobs), 'run')}: {tokens} tokens, {flops} FLOPs, {time} of one worker, {disk} on disk\n"
        f"{len(plan.done)} are finished; {workers} workers need about {clock(seconds)} more, at {source}"
    )


def _told(plan: Planned, key: str) -> dict[str, Any]:
    member = plan.jobs[key].member
    return {"name": member.name, **member.to_dict(), **vars(plan.costs[key]), "finished": key in plan.done}
