"""Tables that people export: CSV, Parquet and JSON lines, W&B's own exports among them."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import FILE, LOG, NAME, Logs, named
from scalegrow.runs.table import READERS

BETWEEN = " - "  # W&B's charts write "run - metric", with __MIN and __MAX of every line
BOUNDS = ("__MIN", "__MAX")


def find(path: Path) -> list[Path]:
    """The file itself, where it ends as tables do; folders are searched for what trackers leave."""
    return [path] if path.is_file() and path.suffix.lower() in READERS else []


def read_tables(paths: Sequence[Path]) -> Logs:
    """Every table's rows under its own column names. Raises InputError on one that cannot be read."""
    frames = [longer(read(path)).with_columns(pl.lit(i, pl.UInt32).alias(LOG)) for i, path in enumerate(paths)]
    names = named(paths)
    facts = pl.DataFrame({LOG: range(len(paths)), NAME: names, FILE: [*map(str, paths)]}, schema_overrides=_LOG)
    records = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed", rechunk=False)
    return Logs("table", records, facts, many=True)


_LOG = {LOG: pl.UInt32()}


def read(path: Path) -> pl.DataFrame:
    """One table; numbers that W&B writes as the text NaN or Infinity stay text for the checks to see."""
    try:
        if path.suffix.lower() == ".csv":
            frame = pl.read_csv(path, infer_schema_length=None, glob=False)
        else:
            frame = READERS[path.suffix.lower()](path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path} cannot be read as {path.suffix} ({why}): is it whole? export it again."
        ) from None
    if frame.is_empty():
        raise InputError(f"{path} has no rows: export the history again.")
    if len(frame.columns) == 1 and (mark := next((m for m in ";\t|" if m in frame.columns[0]), None)):
        raise InputError(f"{path} is separated by {mark!r}: save it with commas, or as .parquet or .jsonl.")
    return frame


def longer(frame: pl.DataFrame) -> pl.DataFrame:
    """A chart of W&B, a column for every run's metric, as rows of runs; other tables as they are."""
    lines = [name for name in frame.columns if BETWEEN in name and not name.endswith(BOUNDS)]
    if not lines or len(lines) + sum(name.endswith(BOUNDS) for name in frame.columns) < len(frame.columns) - 1:
        return frame
    shared = [name for name in frame.columns if BETWEEN not in name]
    runs: dict[str, dict[str, str]] = {}
    for line in lines:
        run, _, metric = line.rpartition(BETWEEN)
        runs.setdefault(run, {})[metric] = line
    parts = [
        frame.select(*shared, pl.lit(run).alias("run"), *(pl.col(c).alias(m) for m, c in metrics.items()))
        for run, metrics in runs.items()
    ]
    return pl.concat(parts, how="diagonal_relaxed").filter(
        ~pl.all_horizontal(pl.exclude(*shared, "run").is_null())
    )
