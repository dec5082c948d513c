"""Paths -> Logs: which format each path is of, and its reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalegrow.errors import InputError
from scalegrow.runs.importers import lightning, mlflow, tables, tensorboard, trackio, trainer_state, wandb
from scalegrow.runs.importers.logs import Logs


@dataclass(frozen=True)
class Format:
    """find: the files or folders of this format at a path or below it. read: all of them as one Logs."""

    find: Callable[[Path], list[Path]]
    read: Callable[[Sequence[Path]], Logs]


# Of a file the first that knows it counts; of a folder all that find something below it.
FORMATS: dict[str, Format] = {
    "trainer": Format(trainer_state.find, trainer_state.read_states),
    "lightning": Format(lightning.find, lightning.read_metrics),
    "wandb": Format(wandb.find, wandb.read_offline),
    "tensorboard": Format(tensorboard.find, tensorboard.read_events),
    "mlflow": Format(mlflow.find, mlflow.read_stores),
    "trackio": Format(trackio.find, trackio.read_projects),
    "table": Format(tables.find, tables.read_tables),
}


def read_logs(paths: Sequence[Path], kind: str | None = None) -> Logs:
    """The logs at these paths, of one format. Raises InputError where none, or more than one, is found."""
    if kind is not None and kind not in FORMATS:
        raise InputError(f"--format {kind} is unknown: choose {', '.join(FORMATS)}.")
    found: dict[str, list[Path]] = {}
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"{paths[0]} or another is given twice, perhaps by a link: name each log once.")
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is not there: give a log file, or a folder of a tracker's.")
        for name, places in formats_at(path, kind).items():
            found.setdefault(name, []).extend(places)
    if len(found) > 1:
        raise InputError(
            f"{paths[0]} holds logs of {' and '.join(found)}: choose with --format {next(iter(found))}."
        )
    name, places = next(iter(found.items()))
    return FORMATS[name].read(list(dict.fromkeys(places)))


def formats_at(path: Path, kind: str | None) -> dict[str, list[Path]]:
    """The formats found at one path, with their places. Raises InputError where there is none."""
    asked = FORMATS if kind is None else {kind: FORMATS[kind]}
    found = {name: places for name, format_ in asked.items() if (places := format_.find(path))}
    if not found:
        raise InputError(
            f"{path} holds no logs of {', '.join(asked)}: give a log file, or a folder of a tracker's."
        )
    return found
