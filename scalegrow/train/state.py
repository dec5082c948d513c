"""TrainState: all that changes while a run trains, and its checkpoints.

A checkpoint is a folder step_00000800 with model.safetensors, optimiser.safetensors and state.json, written beside
its place and renamed, so that a folder of that name is always whole.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scalegrow.atomic import new_folder
from scalegrow.errors import InputError
from scalegrow.runs.config import RunConfig, Start
from scalegrow.train.axes import Parameter
from scalegrow.train.distributed import Ranks, fill, whole
from scalegrow.train.hashes import file_hash
from scalegrow.train.optim import SINCE, YOUNG

FORMAT = 1
GROWN = "grown"  # the stage of a state that was grown and not trained yet
MODEL, OPTIMISER, STATE = "model.safetensors", "optimiser.safetensors", "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = re.compile(r"step_\d{8,}")
FACTS: dict[str, type | tuple[type, ...]] = {
    "step": int,
    "tokens": int,
    "loss_sum": (int, float),
    "loss_count": int,
    "seconds": (int, float),
    "sha256": dict,
    "stage": str,
    "config": dict,
}


@dataclass
class TrainState:
    """The one mutable thing: weights, moments, how many steps were made, and the losses not yet logged.

    Learning rate, data position and dropout are functions of (config, step), so step says them all.
    """

    model: nn.Module
    optimiser: torch.optim.AdamW
    forward: nn.Module  # the model as its ranks share it; the model itself in one process
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0


def save(state: TrainState, folder: Path, facts: dict[str, Any], ranks: Ranks) -> Path:
    """Write folder/step_N atomically, `facts` into its state.json; its path. Every rank must call it."""
    target = folder / step_name(state.step)
    weights, moments = tensors_of(state)
    if ranks.writes and not target.exists():
        progress = {name: getattr(state, name) for name in ("step", "loss_sum", "loss_count", "seconds")}
        write_checkpoint(target, weights, moments, {**progress, **facts})
    ranks.barrier()
    return target


def step_name(step: int) -> str:
    """The folder of the checkpoint after a step."""
    return f"step_{step:08d}"


def write_checkpoint(
    target: Path, weights: dict[str, Tensor], moments: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    """A whole checkpoint or none: written beside its place, forced to disk, renamed. Raises InputError."""
    try:
        with new_folder(target) as scratch:
            save_file(weights, scratch / MODEL)
            save_file(moments, scratch / OPTIMISER)
            hashes = {name: file_hash(scratch / name) for name in (MODEL, OPTIMISER)}
            (scratch / STATE).write_text(json.dumps({"format": FORMAT, "sha256": hashes, **facts}, indent=1))
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{target} cannot be written ({reason}): free the disk, then go on.") from None


def load(state: TrainState, checkpoint: Path, stage: str, config: RunConfig) -> dict[str, Any]:
    """Fill a state from a checkpoint of this run and stage; its state.json.

    Raises InputError on what is broken, does not fit, or belongs to another run.
    """
    facts = read_facts(checkpoint)
    if facts["stage"] != stage or RunConfig.from_dict(facts["config"]).digest() != config.digest():
        raise InputError(f"{checkpoint} belongs to another run or stage: restore the one that was here.")
    _fill(state, checkpoint, facts["sha256"], config.start.optimiser_step if config.start else 0, facts["step"])
    state.step, state.seconds = facts["step"], facts["seconds"]
    state.loss_sum, state.loss_count = facts["loss_sum"], facts["loss_count"]
    return facts


def load_start(state: TrainState, start: Start) -> None:
    """Fill a fresh state from the grown checkpoint it starts from. Raises InputError if that was changed."""
    facts = read_facts(Path(start.checkpoint))
    if facts["sha256"][MODEL] != start.sha256:
        raise InputError(f"{start.checkpoint} holds other weights than this run began with: restore them.")
    if facts["sha256"][OPTIMISER] != start.moments_sha256:
        raise InputError(f"{start.checkpoint} holds other moments than this run began with: restore them.")
    _fill(state, Path(start.checkpoint), facts["sha256"], start.optimiser_step, 0)


def _fill(state: TrainState, checkpoint: Path, sha256: dict[str, str], since: int, steps_made: int) -> None:
    """Weights, and moments where there are any, with Adam's counter and which entries are younger than it."""
    tensors = {name: read_tensors(checkpoint / name, sha256[name]) for name in (MODEL, OPTIMISER)}
    weights, moments = tensors[MODEL], tensors[OPTIMISER]
    for name, parameter in state.model.named_parameters():
        if name not in weights or weights[name].shape != parameter.shape:
            raise InputError(f"{checkpoint} does not fit this model: {name} is missing or has another shape.")
        fill(parameter, weights[name])
        if f"{MOMENTS[0]}.{name}" in moments:
            stored = [moments.get(f"{slot}.{name}") for slot in (*MOMENTS, YOUNG)]
            if stored[1] is None or any(each is not None and each.shape != parameter.shape for each in stored):
                raise InputError(f"{checkpoint}: the moments of {name} do not fit it: restore them.")
            slots = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            for moment, slot in slots.items():
                fill(slot, moments[f"{moment}.{name}"])
            steps = torch.tensor(float(since + steps_made), dtype=torch.float32, device=parameter.device)
            if f"{YOUNG}.{name}" in moments:
                slots[YOUNG], slots[SINCE] = torch.zeros_like(parameter), torch.tensor(float(since))
                fill(slots[YOUNG], moments[f"{YOUNG}.{name}"].to(parameter.dtype))
            state.optimiser.state[parameter] = {"step": steps, **slots}


def tensors_of(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights by name, and moments as exp_avg.<name>, exp_avg_sq.<name>, young.<name>, whole and on the CPU."""
    weights: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    for name, parameter in state.model.named_parameters():
        weights[name] = whole(parameter).contiguous()
        if state.optimiser.state:
            slots = state.optimiser.state[parameter]
            moments |= {f"{moment}.{name}": whole(slots[moment]).contiguous() for moment in MOMENTS}
            if YOUNG in slots:
                moments[f"{YOUNG}.{name}"] = whole(slots[YOUNG]).to(torch.uint8)
    return weights, moments


def read_weights(checkpoint: Path, facts: dict[str, Any], specs: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """A checkpoint's weights. Raises InputError where they are not those of its config."""
    weights = read_tensors(checkpoint / MODEL, facts["sha256"][MODEL])
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wanted = {name: spec.shape for name, spec in specs.items()}
    if wrong := sorted(name for name in shapes.keys() | wanted.keys() if shapes.get(name) != wanted.get(name)):
        raise InputError(f"{checkpoint} does not fit its own config ({wrong[0]}): restore it.")
    return weights


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """state.json of a checkpoint. Raises InputError where there is none or it is of another format."""
    if not (checkpoint / STATE).exists() and (within := checkpoints(checkpoint)):
        raise InputError(f"{checkpoint} holds checkpoints: give one of them, such as {within[-1]}.")
    try:
        facts = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{checkpoint} is no checkpoint: it has no readable {STATE}.") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(f"{checkpoint} has another checkpoint format: this scalegrow reads {FORMAT}.")
    wrong = [key for key, kind in FACTS.items() if not isinstance(facts.get(key), kind)]
    if not wrong and not {MODEL, OPTIMISER} <= facts["sha256"].keys():
        wrong = ["sha256"]
    if wrong:
        raise InputError(f"{checkpoint}/{STATE} was damaged ({wrong[0]}): remove this checkpoint.")
    if checkpoint.name != step_name(facts["step"]):
        raise InputError(f"{checkpoint} is of step {facts['step']}: name the folder {step_name(facts['step'])}.")
    return facts


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step_*") if STEP.fullmatch(path.name) and (path / STATE).exists())


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint; a kill in the middle leaves none of its name."""
    doomed = checkpoint.with_suffix(".discarded")
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def sweep(folder: Path) -> None:
    """Remove what a kill left half-written or half-removed."""
    for leftover in (*folder.glob("*.partial"), *folder.glob("*.discarded")):
        shutil.rmtree(leftover)


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError if it is not what was written."""
    try:
        if file_hash(path) != sha256:
            raise InputError(f"{path} was changed since it was written: remove this checkpoint and resume.")
        return load_file(path)
    except (OSError, SafetensorError):
        raise InputError(
            f"{path} cannot be read: remove this checkpoint and resume from the one before."
        ) from None
