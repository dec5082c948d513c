"""The loop: one stage of a run, from wherever it was left to its end, with a log and checkpoints.

Symbols: s step, B items a step, D tokens.
"""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from scalegrow.errors import InputError
from scalegrow.runs.config import RunConfig
from scalegrow.runs.log import RunLog, finished_at, read_header, status_of
from scalegrow.train.distributed import Ranks, whole
from scalegrow.train.evaluate import evaluate
from scalegrow.train.init import seed_of
from scalegrow.train.interrupt import InterruptedRun, Interruption
from scalegrow.train.optim import clip, make_adamw, relative_rate, set_rate
from scalegrow.train.stages import Stage
from scalegrow.train.state import TrainState, checkpoints, discard, load, load_start, save, step_name, sweep
from scalegrow.train.structure import structure
from scalegrow.train.task import Task

EVALUATION_BATCH = 64
QUICK_EVALUATION = 8  # mid-run evaluations read this fraction of the held-out set


class DivergedError(InputError):
    """The loss stopped being a number."""

    exit_code = 4


class Watcher(Protocol):
    """Something that looks on: a progress bar, a tracker."""

    def start(self, stage: Stage, header: dict[str, Any], step: int) -> None:
        """A stage begins, or goes on from a step after its first."""

    def record(self, stage: Stage, record: dict[str, Any]) -> None:
        """A record was logged."""

    def end(self, stage: Stage, status: str) -> None:
        """A stage ended."""


@dataclass(frozen=True)
class Run:
    """What every stage of a run shares."""

    config: RunConfig
    task: Task
    folder: Path
    header: dict[str, Any]
    ranks: Ranks
    interruption: Interruption
    watchers: tuple[Watcher, ...] = ()

    def log_path(self, stage: Stage) -> Path:
        """Where a stage logs."""
        return self.folder / stage.name / "log.jsonl"

    def checkpoint_folder(self, stage_name: str) -> Path:
        """Where a stage's checkpoints are."""
        return self.folder / stage_name / "checkpoints"


def train_stage(run: Run, stage: Stage) -> None:
    """Train a stage to its end, from its own last checkpoint, its parent's, or the first weights.

    Raises InterruptedRun after saving when a signal asked, DivergedError when the loss is no longer finite.
    """
    path = run.log_path(stage)
    if finished_at(path) >= stage.end:
        return
    if status_of(path) == "diverged":
        raise DivergedError(_diverged(run, stage))
    state, log = _begin(run, stage)
    for watcher in run.watchers:
        watcher.start(stage, run.header, state.step)
    status = "interrupted"
    try:
        _advance(run, stage, state, log)
        status = "finished"
    except DivergedError:
        status = "diverged"
        raise
    finally:
        if log:
            log.append({"status": status, "step": state.step})
            log.close()
        for watcher in run.watchers:
            watcher.end(stage, status)


def _begin(run: Run, stage: Stage) -> tuple[TrainState, RunLog | None]:
    """The state to go on from, and the log open where that state left it (None on ranks that do not write)."""
    state = fresh_state(run)
    folder, path = run.checkpoint_folder(stage.name), run.log_path(stage)
    if run.ranks.writes:
        sweep(folder)
    own = checkpoints(folder)
    if own:
        facts = load(state, own[-1], stage.name, run.config)
        return state, _reopened(run, path, state, facts["log_bytes"]) if run.ranks.writes else None
    header = {**run.header, "stage": stage.name, "start_step": stage.start}
    if stage.parent:
        parent = run.checkpoint_folder(stage.parent) / step_name(stage.start)
        if not parent.exists():
            raise InputError(f"{parent} is gone: remove {run.folder / stage.parent} to train it again.")
        facts = load(state, parent, stage.parent, run.config)
        state.loss_sum, state.loss_count = 0.0, 0
        header["parent"] = {"stage": stage.parent, "step": stage.start, "sha256": facts["sha256"]}
    elif run.config.start:
        load_start(state, run.config.start)
    return state, RunLog.create(path, header, replace=True) if run.ranks.writes else None


def _reopened(run: Run, path: Path, state: TrainState, keep_bytes: int) -> RunLog:
    """The log cut back to its checkpoint; other library versions than its header's are told."""
    log = RunLog(path, keep_bytes)
    if run.header["versions"] != read_header(path)["versions"]:
        log.append({"step": state.step, "resumed_with": run.header["versions"]})
    return log


def fresh_state(run: Run) -> TrainState:
    """The model with its first weights and an optimiser that has seen nothing."""
    model = run.task.build(run.ranks.device)
    if run.config.compiled:
        model.compile()
    forward = run.ranks.wrap(model)
    return TrainState(model, make_adamw(model, run.task.parameters(), run.config), forward)


def _advance(run: Run, stage: Stage, state: TrainState, log: RunLog | None) -> None:
    """Step to the end of the stage."""
    config = run.config
    started, before = time.perf_counter(), state.seconds
    saved_at = started
    losses = torch.tensor(state.loss_sum, dtype=torch.float64, device=run.ranks.device)
    while state.step < stage.end:
        relative = relative_rate(config, state.step, stage.horizon)
        loss, norm = train_step(run, state, relative)
        losses += loss
        state.step += 1
        state.loss_count += 1
        due = state.step % config.log_every == 0 or state.step in stage.evaluate | stage.keep
        interrupted = run.interruption.asked and (run.ranks.count == 1 or due)
        if not (due or interrupted):
            continue
        state.loss_sum, state.seconds = float(losses), before + time.perf_counter() - started
        if not math.isfinite(state.loss_sum):
            raise DivergedError(_diverged(run, stage, state.step))
        if due:
            _report(run, stage, log, _training_record(run, state, relative, norm))
            losses.zero_()
            state.loss_sum, state.loss_count = 0.0, 0
        if state.step in stage.evaluate:
            record = _heldout_record(run, stage, state)
            if not math.isfinite(record["heldout_loss"] + record["parameter_norm"]):
                raise DivergedError(_diverged(run, stage, state.step))
            _report(run, stage, log, record)
        interrupted = run.ranks.any(interrupted) if due else interrupted
        late = run.ranks.any(time.perf_counter() - saved_at > config.checkpoint_seconds) if due else False
        if interrupted or late or state.step in stage.keep:
            _checkpoint(run, stage, state, log)
            saved_at = time.perf_counter()
        if interrupted:
            raise InterruptedRun


def train_step(run: Run, state: TrainState, relative: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimiser step at `relative` times the peak rate: (mean loss over all ranks, gradient norm).

    It reads state.step; counting it is the caller's.
    """
    config, ranks = run.config, run.ranks
    if dropout(config):
        torch.manual_seed(seed_of(config.seed, f"dropout/{state.step}/{ranks.rank}"))
    batch = run.task.batch(*ranks.share(config.first_item + state.step * config.batch, config.batch))
    with autocast(run):
        loss = run.task.loss(state.forward, batch, ranks.device)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = clip(state.optimiser, config.optimiser)
    set_rate(state.optimiser, relative)
    state.optimiser.step()
    return ranks.mean(loss.detach()), norm


def autocast(run: Run) -> AbstractContextManager[Any]:
    """bfloat16 where the config asks for it."""
    if run.config.precision == "float32":
        return nullcontext()
    return torch.autocast(run.ranks.device.partition(":")[0], torch.bfloat16)


def dropout(config: RunConfig) -> float:
    """The model's dropout; networks have none."""
    return getattr(config.model, "dropout", 0.0)


def _training_record(run: Run, state: TrainState, relative: float, norm: torch.Tensor) -> dict[str, Any]:
    tokens = state.step * run.config.tokens_per_step
    return {
        "step": state.step,
        "tokens": tokens,
        "flops": run.config.flops_per_token * tokens,
        "loss": state.loss_sum / state.loss_count,
        "lr": run.config.optimiser.lr * relative,
        "gradient_norm": float(whole(norm)),
        "seconds": round(state.seconds, 3),
    }


def _heldout_record(run: Run, stage: Stage, state: TrainState) -> dict[str, Any]:
    """The held-out losses; the whole set at a stage's end, an eighth of it on the way."""
    tokens = state.step * run.config.tokens_per_step
    last = state.step == stage.end
    n = run.config.evaluation.sequences
    epochs = run.task.epochs(run.config.first_item + state.step * run.config.batch)
    with autocast(run):
        scores = evaluate(
            run.task,
            state.forward,
            n if last or state.step in stage.keep else max(n // QUICK_EVALUATION, 2),
            EVALUATION_BATCH,
            run.ranks.device,
            run.ranks,
        )
    return {
        "step": state.step,
        "tokens": tokens,
        "flops": run.config.flops_per_token * tokens,
        "annealed": stage.annealed and last,
        **scores,
        **({} if epochs is None else {"epochs": epochs}),
        "parameter_norm": _norm(state),
        **(structure(run.task, state.model) if run.config.evaluation.structure else {}),
    }


def _norm(state: TrainState) -> float:
    """The Euclidean norm of all weights."""
    return float(sum(float(whole(parameter.norm())) ** 2 for parameter in state.model.parameters()) ** 0.5)


def _report(run: Run, stage: Stage, log: RunLog | None, record: dict[str, Any]) -> None:
    if log:
        log.append(record)
    for watcher in run.watchers:
        watcher.record(stage, record)


def _checkpoint(run: Run, stage: Stage, state: TrainState, log: RunLog | None) -> None:
    """Save, then drop the stage's older checkpoints that need not stay."""
    folder = run.checkpoint_folder(stage.name)
    if not math.isfinite(_norm(state)):
        raise DivergedError(_diverged(run, stage, state.step))
    facts = {
        "stage": stage.name,
        "tokens": state.step * run.config.tokens_per_step,
        "annealed": stage.annealed and state.step == stage.end,
        "log_bytes": log.sync() if log else None,
        "config": run.config.to_dict(),
    }
    save(state, folder, facts, run.ranks)
    if run.ranks.writes:
        for old in checkpoints(folder)[:-1]:
            if int(old.name.removeprefix("step_")) not in stage.keep:
                discard(old)


def _diverged(run: Run, stage: Stage, step: int | None = None) -> str:
    where = f"near step {step}" if step else "earlier"
    return (
        f"{run.folder / stage.name} diverged {where}: its loss is no longer a number; lower the learning rate "
        f"({run.config.optimiser.lr:g}) or warm up longer, in a new folder."
    )
