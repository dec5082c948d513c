"""Trainers of other libraries that write our log as they evaluate: Hugging Face's Trainer, and Lightning's.

Each library is imported when its callback is made, which happens in a program that trains with it.
"""

from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import library
from scalegrow.runs.recorder import Recorder, open_log


def trainer_callback(
    folder: str | Path, *, n_params: float, decays: bool, tokens_per_step: float | None = None, **row: Any
) -> Any:
    """A transformers TrainerCallback that logs every evaluation to FOLDER/log.jsonl.

    decays: whether the schedule decays the learning rate to its end at the last step; then the evaluation there is
    annealed. tokens_per_step: of all processes together, unless the Trainer counts tokens itself
    (include_num_input_tokens_seen). row: as of open_log. Raises InputError where tokens cannot be counted.
    """
    base = library("transformers.trainer_callback", "hf").TrainerCallback

    class LogToTable(base):  # type: ignore[misc, valid-type]
        """Logs on the process that is the world's first."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Open the log."""
            if tokens_per_step is None and not _counts_tokens(args):
                raise InputError(
                    "the Trainer counts no tokens: set include_num_input_tokens_seen, or give tokens_per_step."
                )
            self.log = open_log(folder, n_params=n_params, **row) if state.is_world_process_zero else None

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
            """One loss; evaluations outside training, and of other data sets than the first, are passed over."""
            log: Recorder | None = getattr(self, "log", None)
            if log is None or "eval_loss" not in metrics:
                return
            tokens = (
                state.num_input_tokens_seen if tokens_per_step is None else state.global_step * tokens_per_step
            )
            ended = decays and state.global_step == state.max_steps
            if tokens > log.last_tokens:
                log.append(tokens=tokens, loss=metrics["eval_loss"], annealed=ended, step=state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Close the log."""
            if log := getattr(self, "log", None):
                log.close()
                self.log = None

    return LogToTable()


def _counts_tokens(args: Any) -> bool:
    """Whether a Trainer's arguments ask it to count tokens."""
    return getattr(args, "include_num_input_tokens_seen", False) not in (False, "no", None)


def lightning_callback(
    folder: str | Path,
    *,
    n_params: float,
    tokens_per_step: float,
    decays: bool,
    monitor: str = "val_loss",
    **row: Any,
) -> Any:
    """A Lightning Callback that logs `monitor` after every validation to FOLDER/log.jsonl.

    tokens_per_step: of one optimiser step, all devices together. decays: whether the schedule decays the learning
    rate to its end at max_steps; then the validation there is annealed. row: as of open_log.
    """
    base = library("lightning.pytorch.callbacks", "lightning").Callback

    class LogToTable(base):  # type: ignore[misc, valid-type]
        """Logs on the process that is the world's first."""

        def on_fit_start(self, trainer: Any, module: Any) -> None:
            """Open the log."""
            self.log = open_log(folder, n_params=n_params, **row) if trainer.is_global_zero else None

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            """One loss; the check before training is passed over."""
            log: Recorder | None = getattr(self, "log", None)
            if log is None or trainer.sanity_checking:
                return
            if monitor not in trainer.callback_metrics:
                raise InputError(f"validation logged no {monitor}: log it in validation_step, or set monitor.")
            step, loss = trainer.global_step, float(trainer.callback_metrics[monitor])
            if step * tokens_per_step > log.last_tokens:
                ended = decays and step == trainer.max_steps
                log.append(tokens=step * tokens_per_step, loss=loss, annealed=ended, step=step)

        def on_fit_end(self, trainer: Any, module: Any) -> None:
            """Close the log."""
            if log := getattr(self, "log", None):
                log.close()
                self.log = None

    return LogToTable()
