"""Trainers of other libraries that write our log as they evaluate: Hugging Face's Trainer, and Lightning's.

Each library is imported when its callback is made, which happens in a program that trains with it. The log is
opened for every loss, so it is whole at any moment, and an evaluation after training counts too.
"""

from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import library
from scalegrow.runs.recorder import open_log


def trainer_callback(
    folder: str | Path,
    *,
    n_params: float,
    decays: bool,
    tokens_per_step: float | None = None,
    monitor: str = "eval_loss",
    **row: Any,
) -> Any:
    """A transformers TrainerCallback that logs every evaluation to FOLDER/log.jsonl.

    decays: whether the schedule decays the learning rate to its end at the last step; then the evaluation there is
    annealed. tokens_per_step: of all processes together, unless the Trainer counts tokens itself
    (include_num_input_tokens_seen). row: as of open_log. Raises InputError where tokens cannot be counted.
    """
    base = library("transformers.trainer_callback", "hf").TrainerCallback

    class LogToTable(base):  # type: ignore[misc, valid-type]
        """Logs on the process that is the world's first."""

        logged_at = 0  # the last step that was logged

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Refuse before training what could not be logged after it."""
            if tokens_per_step is None and not _counts_tokens(args):
                raise InputError(
                    "the Trainer counts no tokens: set include_num_input_tokens_seen, or give tokens_per_step."
                )

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
            """One loss a step: an evaluation before training, of another data set, or again, is passed over."""
            if not state.is_world_process_zero or state.global_step == 0 or monitor not in metrics:
                return
            if state.global_step == self.logged_at:  # Trainer.evaluate(test_set), whose loss has the same name
                return
            self.logged_at = state.global_step
            tokens = (
                state.num_input_tokens_seen if tokens_per_step is None else state.global_step * tokens_per_step
            )
            ended = decays and state.global_step == state.max_steps
            with open_log(folder, n_params=n_params, **row) as log:
                log.append(tokens=tokens, loss=metrics[monitor], annealed=ended, step=state.global_step)

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

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            """One loss; the check before training is passed over."""
            if not trainer.is_global_zero or trainer.global_step == 0:
                return
            if monitor not in trainer.callback_metrics:
                raise InputError(f"validation logged no {monitor}: log it in validation_step, or set monitor.")
            step, loss = trainer.global_step, float(trainer.callback_metrics[monitor])
            ended = decays and step == trainer.max_steps
            with open_log(folder, n_params=n_params, **row) as log:
                log.append(tokens=step * tokens_per_step, loss=loss, annealed=ended, step=step)

    return LogToTable()
