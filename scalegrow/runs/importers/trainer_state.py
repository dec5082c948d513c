"""Hugging Face Trainer: trainer_state.json, of a run's folder or of its last checkpoint.

`log_history` is a list of records with `step`: training logs (loss, learning_rate), evaluations (eval_loss), and a
summary. `num_input_tokens_seen` is in each where the run counted tokens (include_num_input_tokens_seen). The files
beside it tell the rest: config.json the model's shape, model.safetensors, of which the header alone is read, N.
"""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import Log, Logs, below, frame_of, named, resumed, together

STATE = "trainer_state.json"
KEPT = ("max_steps", "num_train_epochs", "train_batch_size")
LARGEST_HEADER = 100_000_000  # bytes, as the format has it


def find(path: Path) -> list[Path]:
    """The latest state of every run at or below a path."""
    latest: dict[Path, tuple[int, Path]] = {}
    for state in below(path, STATE):
        run = run_folder(state)
        latest[run] = max(latest.get(run, (-1, state)), (_step(state), state))
    return [state for _, state in latest.values()]


def run_folder(state: Path) -> Path:
    """The folder of the run that a state is of: above its checkpoint's."""
    folder = state.absolute().parent
    return folder.parent if folder.name.startswith("checkpoint-") else folder


def _step(state: Path) -> int:
    return int(read_state(state).get("global_step") or 0)


def read_state(path: Path) -> dict[str, Any]:
    """A trainer state. Raises InputError on other JSON."""
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        state = None
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise InputError(f"{path} is no trainer state: it must be JSON with log_history.")
    return state


def read_states(paths: Sequence[Path]) -> Logs:
    """The history of every run, and what its files tell of the model."""
    names = named([run_folder(path) for path in paths])
    logs = []
    for path, name in zip(paths, names, strict=True):
        state = read_state(path)
        records = frame_of([row for row in state["log_history"] if isinstance(row, dict)], path)
        if "num_input_tokens_seen" in records.columns and not records["num_input_tokens_seen"].sum():
            records = records.drop("num_input_tokens_seen")  # 0 where the run did not count
        if "step" in records.columns:
            records = resumed(records, "step")
        logs.append(Log(name, path, records, settings(path, state)))
    return together("Trainer states", logs)


def settings(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Of the state, of config.json under model.NAME, and n_params counted from the weights."""
    told: dict[str, Any] = {name: state[name] for name in KEPT if state.get(name)}
    config = path.with_name("config.json")
    if config.is_file():
        try:
            told["model"] = json.loads(config.read_text())
        except ValueError:
            raise InputError(f"{config} is no JSON: mend or remove it.") from None
    if count := parameters_beside(path):
        told["n_params"] = count
    return told


def parameters_beside(path: Path) -> int | None:
    """Parameters in the safetensors files of the state's folder; a tied head is stored once and counts once."""
    shards = sorted(path.parent.glob("model*.safetensors"))
    return sum(map(parameters_in, shards)) if shards else None


def parameters_in(weights: Path) -> int:
    """Parameters of one safetensors file: 8 bytes of length, then JSON with every tensor's shape."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length < LARGEST_HEADER else b"")
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{weights} is no safetensors file: mend it or move it away.") from None
