"""trackio's local store: one database a project, PROJECT.db, in ~/.cache/huggingface/trackio or TRACKIO_DIR.

Read without trackio, which looks into one folder alone, chosen when it is imported, and migrates what it opens.
metrics(run_id, run_name, step, timestamp, metrics) holds an
object in JSON a call; configs(run_id, run_name, config) one a run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import Log, Logs, below, frame_of, resumed, together
from scalegrow.runs.importers.sqlite import columns, opened

METRICS = {"run_name", "step", "metrics"}
NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def find(path: Path) -> list[Path]:
    """The projects' databases at or below a path."""
    return [file for file in below(path, "*.db") if columns(file, "metrics") >= METRICS]


def read_projects(paths: Sequence[Path]) -> Logs:
    """Every run of every project."""
    logs = [log for path in paths for log in project_runs(path)]
    if not logs:
        raise InputError(f"{paths[0]} holds no run: give another project.")
    return together("trackio runs", logs)


def project_runs(path: Path) -> list[Log]:
    """The runs of a project, in the order they were begun."""
    key = "coalesce(run_id, run_name)" if "run_id" in columns(path, "metrics") else "run_name"
    rows: dict[str, list[dict[str, Any]]] = {}
    names: dict[str, str] = {}
    with opened(path) as connection:
        for ident, name, step, text in connection.execute(
            f"select {key}, run_name, step, metrics from metrics order by id"
        ):
            names[ident] = name
            rows.setdefault(ident, []).append({"step": step, **numbers(text)})
        configs = dict(connection.execute(f"select {key}, config from configs"))
    repeated = [*names.values()]
    return [
        Log(
            names[ident] if repeated.count(names[ident]) == 1 else f"{names[ident]} {ident[:8]}",
            path,
            resumed(frame_of(found, path), "step"),
            {name: value for name, value in json.loads(configs.get(ident) or "{}").items() if name[:1] != "_"},
        )
        for ident, found in rows.items()
    ]


def numbers(text: str) -> dict[str, Any]:
    """What one call logged, with numbers that JSON lacks as trackio writes them."""
    told = json.loads(text)
    return {name: NUMBERS.get(value, value) if isinstance(value, str) else value for name, value in told.items()}
