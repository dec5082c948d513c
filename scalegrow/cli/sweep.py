"""`scalegrow sweep`: a study's plan, its runs, and their table."""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from scalegrow.cli import INTERRUPTED
from scalegrow.cli.collect import WRITERS, write
from scalegrow.cli.render import console, note, print_json, table_without_empty
from scalegrow.errors import InputError
from scalegrow.runs.study import Member, read_study
from scalegrow.units import format_count

if TYPE_CHECKING:
    from scalegrow.train.estimate import Cost
    from scalegrow.train.member import Job
    from scalegrow.train.sweep import Outcome
    from scalegrow.train.workers import Workers

FAILED = 4
NEEDS_TORCH = "sweeping needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here."
SETTLED = 60.0  # seconds after which the rate is measured
LINE_EVERY = 30.0  # seconds between lines of progress where there is no terminal


@dataclass(frozen=True)
class Machine:
    """Where and how the runs are computed; none of it changes what is learned."""

    workers: int | None
    threads: int
    device: str
    per_gpu: int
    ray: str | None
    retries: int


def run(file: Path, out: Path | None, table: Path | None, machine: Machine, *, dry: bool, as_json: bool) -> None:
    """Show the plan; run what is not finished; write the table."""
    study = read_study(file)
    if table and table.suffix not in WRITERS:
        raise InputError(f"{table} has no known ending: write to {', '.join(WRITERS)}.")
    try:
        from scalegrow.train.sweep import claimed, jobs_of
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    folder = out or Path("runs") / file.stem
    jobs = jobs_of(study, folder)
    if dry:
        show_plan(jobs, folder, _count(machine), as_json=as_json)
        return
    with claimed(folder):
        _sweep(jobs, folder, table or folder / "table.parquet", machine, as_json=as_json)


def _sweep(jobs: "dict[str, Job]", folder: Path, table: Path, machine: Machine, *, as_json: bool) -> None:
    from scalegrow.train.sweep import sweep
    from scalegrow.train.sweep import table as table_of

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Watch(jobs, _speed(jobs), _count(machine))
    try:
        with progress:
            outcome = sweep(jobs, _workers(machine), retries=machine.retries, tell=progress.tell, watch=progress)
    except KeyboardInterrupt:
        note(f"scalegrow: interrupted; saved in {folder}: give the same command to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if outcome.finished:
        found = table_of(jobs.values(), folder)
        write(found, table)
    if as_json:
        print_json({"schema": "scalegrow-sweep/1", "table": str(table), **_told(outcome, jobs)})
    else:
        _show(outcome, jobs, table)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _count(machine: Machine) -> int:
    """How many workers: as many as asked for, else one a core, or per_gpu a GPU."""
    if machine.workers is not None:
        if machine.workers < 1:
            raise InputError(f"--workers {machine.workers} does no work: give 1 or more.")
        return machine.workers
    if machine.device == "cuda":
        return machine.per_gpu * max(_gpus(), 1)
    return max((os.cpu_count() or 1) // machine.threads, 1)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _workers(machine: Machine) -> "Workers":
    from scalegrow.train.workers import LocalWorkers

    gpus = _gpus() if machine.device == "cuda" else 0
    if machine.device == "cuda" and not gpus:
        raise InputError("no CUDA device here: leave --device out, or give cpu.")
    if machine.ray is not None:
        from scalegrow.train.ray_workers import RayWorkers

        return RayWorkers(machine.ray, machine.workers, machine.threads, machine.device, 1 / machine.per_gpu)
    return LocalWorkers(_count(machine), machine.threads, machine.device, gpus)


def _speed(jobs: "dict[str, Job]") -> float:
    """This machine's speed over the usual, by what is finished."""
    from scalegrow.train.estimate import speed
    from scalegrow.train.member import finished

    notes = [(job.member.config, finished(job)) for job in jobs.values()]
    return speed((config, told["seconds"]) for config, told in notes if told)


class Watch:
    """How a sweep gets on, on stderr: FLOPs done of all, and the time left at this machine's measured rate."""

    def __init__(self, jobs: "dict[str, Job]", speed: float, workers: int) -> None:
        from scalegrow.train.estimate import cost
        from scalegrow.train.member import finished

        costs = {key: cost(job.member) for key, job in jobs.items()}
        self._seconds = {key: each.seconds for key, each in costs.items()}
        self._flops = {key: each.flops for key, each in costs.items()}
        self._jobs, self._speed, self._workers = jobs, speed, workers
        self._finished = finished
        self._before: float | None = None
        self._began = self._lined = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            console=Console(stderr=True, highlight=False, markup=False),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("sweep", total=sum(self._seconds.values()) or 1.0)

    def __enter__(self) -> "Watch":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def tell(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line) if not self._bar.disable else note(line)

    def __call__(self, running: dict[str, float]) -> None:
        """Runs at work, each with its FLOPs so far."""
        done = {key for key, job in self._jobs.items() if key not in running and self._finished(job)}
        spent = sum(self._seconds[key] for key in done)
        spent += sum(self._seconds[key] * part / self._flops[key] for key, part in running.items())
        now = time.monotonic()
        if self._before is None:
            self._before, self._began = spent, now
        whole = sum(self._seconds.values())
        rate = (spent - self._before) / max(now - self._began, 1e-9)
        if now - self._began < SETTLED or rate <= 0:
            rate = self._speed * min(len(running) or 1, self._workers)
        left = (whole - spent) / rate
        counts = f"{len(done)} of {len(self._jobs)} runs, {len(running)} at work"
        line = f"{counts}, {spent / whole:.0%}, {clock(left)} left"
        self._bar.update(self._task, completed=spent, description=line)
        if self._bar.disable and now - self._lined > LINE_EVERY:
            self._lined = now
            note(line)


def clock(seconds: float) -> str:
    """'1 h 05 min', '12 min', '40 s'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _told(outcome: "Outcome", jobs: "dict[str, Job]") -> dict[str, Any]:
    names = {key: job.member.name for key, job in jobs.items()}
    return {
        "runs": len(jobs),
        "finished": sorted(names[key] for key in outcome.finished),
        "failed": {names[key]: why for key, why in outcome.failed.items()},
        "not_begun": sorted(names[key] for key in outcome.waiting),
        "deaths": outcome.deaths,
    }


def _show(outcome: "Outcome", jobs: "dict[str, Job]", table: Path) -> None:
    page = console()
    page.print(f"{len(outcome.finished)} of {len(jobs)} runs are finished; their table is {table}")
    if outcome.deaths:
        page.print(f"workers died {outcome.deaths} times; their runs went on from the last checkpoint")
    for key, why in outcome.failed.items():
        page.print(f"failed: {jobs[key].member.name}: {why}")
    if outcome.waiting:
        page.print(f"not begun, since what they grow from failed: {len(outcome.waiting)} runs")


def show_plan(jobs: "dict[str, Job]", folder: Path, workers: int, *, as_json: bool) -> None:
    """The graph and what it costs: bases and targets, trunks and branches, by size and arm."""
    from scalegrow.train.estimate import cost, total
    from scalegrow.train.member import finished

    speed = _speed(jobs)
    costs = {key: cost(job.member, speed) for key, job in jobs.items()}
    done = {key for key, job in jobs.items() if finished(job)}
    if as_json:
        runs = [_planned(job, costs[key], done=key in done) for key, job in jobs.items()]
        print_json({"schema": "scalegrow-sweep-plan/1", "folder": str(folder), "workers": workers, "runs": runs})
        return
    bases = Counter(job.member.origin.base.key for job in jobs.values() if job.member.origin)
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, job in jobs.items():
        groups.setdefault(_line(job.member, is_base=key in bases), []).append(key)
    rows = []
    for line, keys in groups.items():
        whole = total(costs[key] for key in keys)
        rows.append((*line, str(len(keys)), *_figures(whole)))
    page = console()
    heads = ("parameters", "arm", "from", "trunk", "branches", "runs", "tokens", "FLOPs", "hours", "disk")
    page.print(table_without_empty(heads, rows))
    everything, left = total(costs.values()), total(costs[key] for key in costs.keys() - done)
    tokens, work, hours, disk = _figures(everything)
    page.print(
        f"\n{len(jobs)} runs, {len(bases)} of them bases of others: {tokens} tokens, {work} FLOPs, {hours} hours "
        f"of one worker, {disk} on disk"
    )
    longest = max((left.seconds / workers, *(_chain(key, jobs, costs, done) for key in jobs)))
    measured = "at the rate of what is finished" if done else "at the usual rate, which this machine may not have"
    page.print(f"{len(done)} are finished; {workers} workers need about {clock(longest)} more, {measured}")


def _chain(key: str, jobs: "dict[str, Job]", costs: "dict[str, Cost]", done: set[str]) -> float:
    """Seconds of a run and all that it waits for."""
    origin = jobs[key].member.origin
    mine = 0.0 if key in done else costs[key].seconds
    return mine + (_chain(origin.base.key, jobs, costs, done) if origin else 0.0)


def _line(member: Member, *, is_base: bool) -> tuple[str, ...]:
    """What runs of a line of the plan share."""
    from scalegrow.train.stages import stages

    config, origin = member.config, member.origin
    trunk = next((stage for stage in stages(config) if stage.name == "trunk"), None)
    arm = f"{origin.candidate} x{origin.factor:g}" if origin else "scratch, base" if is_base else "scratch"
    parent = ""
    if origin:
        where = "end of" if origin.annealed else "trunk of"
        parent = f"{where} {format_count(origin.base.config.model.shape.n_params)} at {origin.budget}"
    reached = format_count(trunk.end * config.tokens_per_step) if trunk else ""
    return format_count(config.model.shape.n_params), arm, parent, reached, " ".join(config.budgets)


def _figures(cost: "Cost") -> tuple[str, str, str, str]:
    return (
        format_count(cost.tokens),
        f"{cost.flops:.3g}",
        f"{cost.seconds / 3600:.2f}",
        f"{cost.disk / 1e6:,.0f} MB",
    )


def _planned(job: "Job", cost: "Cost", *, done: bool) -> dict[str, Any]:
    member = job.member
    return {
        "name": member.name,
        "key": member.key,
        "base": member.origin.base.key if member.origin else None,
        "arm": member.origin.candidate if member.origin else "scratch",
        "factor": member.origin.factor if member.origin else 1.0,
        "n_params": member.config.model.shape.n_params,
        "budgets": list(member.config.budgets),
        "seed": member.config.seed,
        **vars(cost),
        "finished": done,
    }
