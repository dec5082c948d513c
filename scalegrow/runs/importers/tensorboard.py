"""TensorBoard event files, through TensorBoard's own loader, an event at a time.

Scalars are kept as step and value in arrays, so memory follows the number of scalars and not the size of the
files, which histograms and images fill. TensorBoard keeps scalars in 32 bits, so tokens above 2^24 come rounded to
1 part in 10^7. Folders called train and validation beside each other are parts of the run above them, as Keras
writes them.
"""

import json
from array import array
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import Log, Logs, below, library, named, resumed, together
from scalegrow.runs.importers.words import HELD_OUT, TRAIN

STEP = "step"
TEXTS = {"args/text_summary": "args", "model_config/text_summary": "model"}  # Hugging Face's Trainer writes both
Scalars = dict[str, tuple["array[int]", "array[float]"]]


def find(path: Path) -> list[Path]:
    """The event files at or below a path."""
    return below(path, "*tfevents*")


def read_events(paths: Sequence[Path]) -> Logs:
    """The scalars of every folder with event files as one run."""
    folders = {path.absolute().parent for path in paths}
    parts = {folder for folder in folders if is_part(folder, folders)}
    by_run: dict[Path, list[Path]] = {}
    for path in sorted(paths):
        folder = path.absolute().parent
        by_run.setdefault(folder.parent if folder in parts else folder, []).append(path)
    names = named([*by_run])
    runs = zip(by_run.values(), names, strict=True)
    logs = [log for files, name in runs if (log := read_run(files, name, parts))]
    if not logs:
        raise InputError(f"{paths[0]} holds no scalar: give the event files of a run that logged its loss.")
    return together("TensorBoard events", logs)


def is_part(folder: Path, folders: AbstractSet[Path]) -> bool:
    """Whether a folder is called train or validation, and its run's other part lies beside it or above it."""
    name = folder.name.lower()
    other = HELD_OUT if name in TRAIN else TRAIN if name in HELD_OUT else set()
    beside = {each.name.lower() for each in folders if each.parent == folder.parent}
    return bool(other & beside) or (bool(other) and folder.parent in folders)


def read_run(files: Sequence[Path], name: str, parts: AbstractSet[Path]) -> Log | None:
    """One run from its event files in the order they were begun; None where they hold no scalar."""
    scalars: Scalars = {}
    settings: dict[str, Any] = {}
    for file in files:
        folder = file.absolute().parent
        prefix = f"{folder.name}/" if folder in parts else ""
        for tag, step, value in events(file):
            if isinstance(value, float):
                steps, values = scalars.setdefault(prefix + tag, (array("q"), array("d")))
                steps.append(step)
                values.append(value)
            else:
                settings[TEXTS[tag]] = value
    return Log(name, files[0], by_step(scalars), settings) if scalars else None


def events(file: Path) -> Iterator[tuple[str, int, Any]]:
    """(tag, step, number), and settings that were kept as text. Raises InputError on a file that is none."""
    loader = library("tensorboard.backend.event_processing.event_file_loader", "tensorboard")
    to_array = library("tensorboard.util.tensor_util", "tensorboard").make_ndarray
    for event in loader.EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                yield value.tag, event.step, float(to_array(value.tensor).item())
            elif value.tag in TEXTS and (told := settings_in(to_array(value.tensor).item())):
                yield value.tag, event.step, told


def settings_in(text: bytes | str) -> dict[str, Any]:
    """The JSON in a text summary; empty where it is none."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def by_step(scalars: Scalars) -> pl.DataFrame:
    """One row a step, one column a tag; of a restart what came last."""
    frames = []
    for tag, (steps, values) in scalars.items():
        name = tag if tag != STEP else "step (scalar)"
        frame = pl.DataFrame({STEP: pl.Series(steps, dtype=pl.Int64), name: pl.Series(values, dtype=pl.Float64)})
        frames.append(resumed(frame, STEP).unique(STEP, keep="last", maintain_order=True))
    made = frames[0]
    for frame in frames[1:]:
        made = made.join(frame, on=STEP, how="full", coalesce=True)
    return made.sort(STEP)
