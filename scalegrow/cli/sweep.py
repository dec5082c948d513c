"""`scalegrow sweep`: a study's plan, its runs, and their table."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scalegrow.cli import INTERRUPTED
from scalegrow.cli.collect import require_known_ending, require_writable, write
from scalegrow.cli.render import console, note, print_json
from scalegrow.cli.train import require_cores, with_vocabulary
from scalegrow.errors import InputError
from scalegrow.runs.study import read_study

if TYPE_CHECKING:
    from scalegrow.train.member import Job
    from scalegrow.train.sweep import Outcome
    from scalegrow.train.workers import Workers

FAILED = 4
NEEDS_TORCH = "sweeping needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here."
NEEDS_RAY = "--ray needs Ray: pip install 'scalegrow[ray]', or '.[ray]' here."


@dataclass(frozen=True)
class Machine:
    """Where and how the runs are computed; none of it changes what is learned."""

    workers: int | None
    threads: int
    device: str
    per_gpu: int
    ray: str | None
    retries: int

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers} does no work: give 1 or more.")
        if self.threads < 1 or self.ray is None:
            require_cores(self.threads)
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"device {self.device!r} is unknown: choose cpu or cuda.")
        if self.per_gpu < 1:
            raise InputError(f"--per-gpu {self.per_gpu} uses no GPU: give 1 or more.")
        if self.retries < 0:
            raise InputError(f"--retries {self.retries} is below none: give 0 or more.")

    def count(self, gpus: int) -> int:
        """How many workers: as many as asked for, else per_gpu a GPU, or one for every `threads` cores."""
        if self.workers is not None:
            return self.workers
        return self.per_gpu * max(gpus, 1) if self.device == "cuda" else (os.cpu_count() or 1) // self.threads


def run(file: Path, out: Path | None, table: Path | None, machine: Machine, *, dry: bool, as_json: bool) -> None:
    """Show the plan; run what is not finished; write the table."""
    study = read_study(file)
    if table:
        require_known_ending(table)
    try:
        from scalegrow.train.sweep import claimed, jobs_of, require_texts
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    folder = out or Path("runs") / file.stem
    jobs = jobs_of(replace(study, baseline=with_vocabulary(study.baseline)), folder)
    require_texts(jobs.values())
    where = table or folder / "table.parquet"
    require_writable(where)
    if dry:
        from scalegrow.cli.sweep_plan import show_plan

        show_plan(jobs, folder, machine.count(_gpus(machine)), as_json=as_json)
        return
    workers = _workers(machine)
    with claimed(folder), _sigterm_as_ctrl_c():
        outcome = _sweep(jobs, folder, where, workers, machine.retries)
        _tell(outcome, jobs, folder, where, as_json=as_json)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _sweep(jobs: "dict[str, Job]", folder: Path, where: Path, workers: "Workers", retries: int) -> "Outcome":
    """Run what is not finished. Interrupted, it writes the table of what is and raises typer.Exit."""
    from scalegrow.cli.sweep_progress import Watch
    from scalegrow.train.sweep import prepare, sweep

    try:
        prepare(jobs.values())
        with Watch(jobs) as watch:
            return sweep(jobs, workers, retries=retries, tell=watch.tell, watch=watch)
    except KeyboardInterrupt:
        there = f"; the table is {where}" if _write_table(jobs, folder, where) else ""
        note(f"scalegrow: interrupted; saved in {folder}: give the same command to go on{there}.")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A batch system's SIGTERM saves too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _gpus(machine: Machine) -> int:
    """GPUs of this machine that may be used."""
    if machine.device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


def _workers(machine: Machine) -> "Workers":
    """Processes here, or on a cluster. Raises InputError where there is no GPU, or no Ray."""
    if machine.ray is not None:
        try:
            from scalegrow.train.ray_workers import RayWorkers
        except ImportError:
            raise InputError(NEEDS_RAY) from None

        return RayWorkers(machine.ray, machine.workers, machine.threads, machine.device, 1 / machine.per_gpu)
    from scalegrow.train.workers import LocalWorkers, visible_gpus

    gpus = _gpus(machine)
    if machine.device == "cuda" and not gpus:
        raise InputError("no CUDA device here: leave --device out, or give cpu.")
    return LocalWorkers(machine.count(gpus), machine.threads, machine.device, visible_gpus(gpus))


def _tell(outcome: "Outcome", jobs: "dict[str, Job]", folder: Path, table: Path, *, as_json: bool) -> None:
    """Write the table of what is finished, and say what became of all."""
    _write_table(jobs, folder, table)
    if as_json:
        print_json({"schema": "scalegrow-sweep/1", "table": str(table), **_told(outcome, jobs)})
    else:
        _show(outcome, jobs, table)


def _write_table(jobs: "dict[str, Job]", folder: Path, where: Path) -> bool:
    """Whether a run of the study is finished; then the folder's table is written."""
    from scalegrow.train.member import finished
    from scalegrow.train.sweep import table

    if not any(map(finished, jobs.values())):
        return False
    write(table(folder), where)
    return True


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
    where = f"the table of the folder is {table}" if outcome.finished else "there is no table yet"
    page.print(f"{len(outcome.finished)} of {len(jobs)} runs are finished; {where}", soft_wrap=True)
    if outcome.deaths:
        page.print(f"workers died {outcome.deaths} times; their runs went on from the last checkpoint")
    for key, why in outcome.failed.items():
        page.print(f"failed: {jobs[key].member.name}: {why}", soft_wrap=True)
    if outcome.waiting:
        page.print(f"not begun, since what they grow from failed: {len(outcome.waiting)} runs")
