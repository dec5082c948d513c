"""MLflow's local stores: the folder mlruns, and the database mlflow.db (or any sqlite store).

Both are read as MLflow documents them, without MLflow: its client refuses the folder since 3.7 (file stores are in
maintenance), and a database that another version made, which it would first have to migrate. Tests read the same
stores with MLflow's own client and compare.

    mlruns/EXPERIMENT/RUN/metrics/NAME    lines "timestamp value step"
    mlruns/EXPERIMENT/RUN/params/NAME     the value; tags/mlflow.runName the name
    metrics(run_uuid, key, value, step, timestamp, is_nan), params(run_uuid, key, value), runs(run_uuid, name)
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import Log, Logs, below, together
from scalegrow.runs.importers.sqlite import columns, opened

DELETED = "deleted"
TRASH = ".trash"
METRICS = {"run_uuid", "key", "value", "step", "is_nan"}
Metric = tuple[str, int, int, float]  # name, step, time, value


def find(path: Path) -> list[Path]:
    """The runs of folder stores, and the databases, at or below a path."""
    databases = [file for file in below(path, "*.db") if columns(file, "metrics") >= METRICS]
    if path.is_file():
        return databases
    runs = {folder.parent for folder in path.rglob("metrics") if folder.parent.joinpath("meta.yaml").is_file()}
    return [*databases, *sorted(run for run in runs if TRASH not in run.parts)]


def read_stores(paths: Sequence[Path]) -> Logs:
    """Every run that logged a metric and was not deleted."""
    logs = [log for path in paths for log in (folder_run(path) if path.is_dir() else database_runs(path))]
    if not logs:
        raise InputError(f"{paths[0]} holds no run with metrics: give another store.")
    return together("MLflow runs", renamed(logs))


def renamed(logs: Sequence[Log]) -> list[Log]:
    """Runs that share a name get a number behind it, in order."""
    names = [log.name for log in logs]
    numbers = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return [
        log if names.count(log.name) == 1 else replace(log, name=f"{log.name} {number}")
        for log, number in zip(logs, numbers, strict=True)
    ]


def folder_run(run: Path) -> list[Log]:
    """One run of a folder store; none where it logged nothing."""
    metrics = []
    for file in sorted(file for file in run.joinpath("metrics").rglob("*") if file.is_file()):
        name = file.relative_to(run / "metrics").as_posix()
        for line in file.read_text().splitlines():
            time, value, step = [*line.split(), "0"][:3]
            metrics.append((name, int(step), int(time), float(value)))
    settings = texts(run / "params")
    name = texts(run / "tags").get("mlflow.runName", run.name)
    return [Log(name, run, by_step(metrics), settings)] if metrics else []


def texts(folder: Path) -> dict[str, str]:
    """File name -> text of every file below a folder."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_text().strip() for file in files}


def database_runs(path: Path) -> list[Log]:
    """The runs of a database, in the order they were begun."""
    with opened(path) as connection:
        query = "select run_uuid, name, lifecycle_stage from runs order by start_time, run_uuid"
        runs = [(ident, name) for ident, name, stage in connection.execute(query) if stage != DELETED]
        logs = []
        for ident, name in runs:
            query = "select key, step, timestamp, case when is_nan then null else value end from metrics"
            rows = connection.execute(f"{query} where run_uuid = ?", (ident,)).fetchall()
            metrics = [(key, step, time, float("nan") if v is None else v) for key, step, time, v in rows]
            settings = dict(connection.execute("select key, value from params where run_uuid = ?", (ident,)))
            if metrics:
                logs.append(Log(name or ident, path, by_step(metrics), settings))
    return logs


def by_step(metrics: Sequence[Metric]) -> pl.DataFrame:
    """One row a step, one column a metric; of several values at one step the last by time."""
    rows: dict[int, dict[str, float | int]] = {}
    for name, step, _, value in sorted(metrics, key=lambda metric: (metric[1], metric[2])):
        rows.setdefault(step, {"step": step})[name if name != "step" else "step (metric)"] = value
    return pl.DataFrame(list(rows.values()), infer_schema_length=None)
