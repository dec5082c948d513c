"""Lightning's CSVLogger: metrics.csv, a row for every call that logged, and hparams.yaml beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from scalegrow.runs.importers.logs import Log, Logs, below, library, named, resumed, together
from scalegrow.runs.importers.tables import read

METRICS, HYPERPARAMETERS = "metrics.csv", "hparams.yaml"


def find(path: Path) -> list[Path]:
    """Every metrics.csv at or below a path that counts epochs and steps."""
    return [file for file in below(path, METRICS) if {"epoch", "step"} <= {*header(file)}]


def header(file: Path) -> list[str]:
    """The names in a CSV file's first line."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().strip().split(",")


def read_metrics(paths: Sequence[Path]) -> Logs:
    """The metrics of every run, named by its folders, with its hyperparameters as settings."""
    names = named([path.absolute().parent for path in paths])
    logs = [
        Log(name, path, numbers(resumed(read(path), "step")), hyperparameters(path))
        for name, path in zip(names, paths, strict=True)
    ]
    return together("Lightning metrics", logs)


def numbers(records: pl.DataFrame) -> pl.DataFrame:
    """Columns that hold something."""
    return records.select(column.name for column in records if column.null_count() < records.height)


def hyperparameters(path: Path) -> dict[str, Any]:
    """What save_hyperparameters kept; nothing where a value is a Python object, which is not run."""
    place = path.with_name(HYPERPARAMETERS)
    if not place.is_file():
        return {}
    yaml = library("yaml", "lightning")
    try:
        told = yaml.safe_load(place.read_text())
    except yaml.YAMLError:
        return {}
    return told if isinstance(told, dict) else {}
