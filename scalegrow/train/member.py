"""One run of a study, from its base's checkpoint or from nothing to its last budget, in a folder of its own."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scalegrow.budget import Budget
from scalegrow.errors import InputError
from scalegrow.runs.branches import trained_flops
from scalegrow.runs.config import Init, RunConfig
from scalegrow.runs.finished import SIGNALS, read_note, write_note
from scalegrow.runs.log import read_records
from scalegrow.runs.study import Member, Origin
from scalegrow.train.candidates import Candidate
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.distributed import start_ranks
from scalegrow.train.operators import Arguments, Plan, plan
from scalegrow.train.run import BusyError, kept_config, train
from scalegrow.train.signals import signals
from scalegrow.train.stages import Stage, stages
from scalegrow.train.start import start_of
from scalegrow.train.state import read_facts, step_name

GROWN, TOLD = "start", ("zero_step_kl", "new_token_share", "locked")
PATIENCE = 120.0  # seconds for a worker to save in; so long may one of a sweep that was killed hold a folder


@dataclass(frozen=True)
class Job:
    """A member, where it trains and where its base did. base is the base's config with all its budgets."""

    member: Member
    folder: Path
    cache: Path
    base: RunConfig | None = None
    base_folder: Path | None = None


def execute(job: Job, threads: int = 1, device: str | None = "cpu") -> None:
    """Grow if it is to be grown, train what is left of it, and note that it is finished.

    Raises InputError, DivergedError, and InterruptedRun after saving.
    """
    torch.set_num_threads(threads)
    config, lineage = started_member(job)
    _train(config, job, device)
    origin = job.member.origin
    done = {
        "key": job.member.key,
        "run": config.digest(),
        "arm": job.member.arm,
        "factor": origin.factor if origin else 1.0,
        "base_budget": base_budget(origin) if origin else None,
        "budgets": list(config.budgets),
        "ends": {stage.name: stage.end for stage in stages(config)},
        "flops": trained_flops(config),
        "seconds": round(seconds(config, job.folder), 3),
        **{name: lineage[name] for name in TOLD if name in lineage},
        SIGNALS: _watched(job, config),
    }
    write_note(job.folder, done)


def _watched(job: Job, config: RunConfig) -> dict[str, float]:
    """The early signals of a grown run that was told its lags."""
    if not job.member.origin or not config.evaluation.lags:
        return {}
    return signals(config, job.folder, base_checkpoint(job), growth_plan(job.member), job.cache)


def base_budget(origin: Origin) -> float:
    """The budget at which the base was taken, in tokens per parameter of its own."""
    n_params = origin.base.config.model.shape.n_params
    return Budget.parse(origin.budget).tokens(n_params) / n_params


def _train(config: RunConfig, job: Job, device: str | None) -> None:
    """Train, once the worker of a sweep that was killed a moment ago has saved and let go of the folder."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            train(config, job.folder, start_ranks(device), cache=job.cache)
            return
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def started_member(job: Job) -> tuple[RunConfig, dict[str, Any]]:
    """The run's config with its start, and the start's lineage; grown first if it is not there yet."""
    origin, config = job.member.origin, with_budgets_there(job.member.config, job.folder)
    if origin is None:
        return config, {}
    grown = job.folder / GROWN / step_name(0)
    if not grown.exists():
        candidate = Candidate.parse(origin.candidate, origin.seed)
        grow_checkpoint(base_checkpoint(job), grown.parent, growth_plan(job.member), candidate.policies, job.cache)
    try:
        facts = read_facts(grown)
    except InputError as error:
        raise InputError(f"{error} Remove {job.folder} to grow and train the run again.") from None
    return replace(config, start=start_of(facts, str(grown))), facts["lineage"]


def base_checkpoint(job: Job) -> Path:
    """What a grown member's base left for it to grow from. Raises InputError where that is gone."""
    assert job.member.origin is not None
    assert job.base is not None
    assert job.base_folder is not None
    base = with_budgets_there(job.base, job.base_folder)
    checkpoint = job.base_folder / checkpoint_name(base, job.member.origin)
    if not checkpoint.exists():
        raise InputError(f"{checkpoint} is gone: remove {job.base_folder} to train the base again.")
    return checkpoint


def with_budgets_there(config: RunConfig, folder: Path) -> RunConfig:
    """The run to the budgets that its folder was begun for as well, which a study may since have dropped."""
    there = kept_config(folder)
    return replace(config, budgets=there.with_budgets(config.budgets).budgets) if there else config


def growth_plan(member: Member) -> Plan:
    """How a member grows from its base. Raises InputError where the operator's algebra does not allow it."""
    origin = member.origin
    assert origin is not None
    candidate = Candidate.parse(origin.candidate, origin.seed)
    shapes = origin.base.config.model.shape, member.config.model.shape
    arguments = with_gamma(candidate.arguments, origin.base.config.init, member.config.init)
    return plan(*shapes, candidate.operator, candidate.depth_operator, arguments)


def with_gamma(arguments: Arguments, base: Init, target: Init) -> Arguments:
    """With the target's gamma, where it is not the base's. Raises InputError where inits differ in more."""
    if arguments.gamma not in (None, target.gamma):
        raise InputError(
            f"gamma = {arguments.gamma:g} and init.gamma = {target.gamma:g}: say it as a setting alone."
        )
    if replace(base, gamma=target.gamma) != target:
        raise InputError(
            "a grown run's first weights differ from its base's in gamma alone: set init alike for both."
        )
    return arguments if target.gamma == base.gamma else replace(arguments, gamma=target.gamma)


def checkpoint_name(base: RunConfig, origin: Origin) -> str:
    """Where in its base's folder the checkpoint is that a member grows from. Raises InputError."""
    end = base.steps(origin.budget)
    if base.schedule.kind == "constant":
        raise InputError("a constant rate leaves no base at its budgets to grow from: choose schedule.kind wsd.")
    branch = next(stage for stage in stages(base) if stage.annealed and stage.end == end)
    if origin.annealed:
        return f"{branch.name}/checkpoints/{step_name(end)}"
    if branch.parent is None:
        raise InputError(f'a {base.schedule.kind} base has no trunk to grow from: base_stage = "annealed".')
    return f"{branch.parent}/checkpoints/{step_name(branch.start)}"


def finished(job: Job) -> dict[str, Any] | None:
    """What finished.json says, if this run has been trained to all its budgets."""
    told, steps = read_note(job.folder), job.member.config.steps
    if told.get("key") != job.member.key:
        return None
    return told if {*map(steps, job.member.config.budgets)} <= {*map(steps, told.get("budgets", ()))} else None


def seconds(config: RunConfig, folder: Path) -> float:
    """How long all stages of a trained run took, by their logs, over all its interruptions."""
    clock = {stage.name: _clock(folder, stage) for stage in stages(config)}
    inherited = sum(clock[stage.parent][stage.start] for stage in stages(config) if stage.parent)
    return sum(max(times.values()) for times in clock.values()) - inherited


def _clock(folder: Path, stage: Stage) -> dict[int, float]:
    """The seconds of a log by step; a branch's go on from its trunk's."""
    records = read_records(folder / stage.name / "log.jsonl")
    return {record["step"]: record["seconds"] for record in records if "seconds" in record}
