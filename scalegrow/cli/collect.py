"""`scalegrow collect`: run logs into a run table."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import polars as pl

from scalegrow.atomic import new_file
from scalegrow.cli.render import console, counted, print_json, table
from scalegrow.errors import InputError
from scalegrow.runs.collect import collect
from scalegrow.units import format_count

WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".csv": lambda frame, path: frame.write_csv(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
}
SHOWN = 40


def run(folder: Path, out: Path | None, *, as_json: bool) -> None:
    """Collect, write where asked, and show."""
    if out:
        require_known_ending(out)
    found = collect(folder)
    if out:
        write(found, out)
    if as_json:
        print_json({"schema": "scalegrow-collect/1", "out": str(out) if out else None, "rows": found.to_dicts()})
        return
    show(found)
    if out:
        console().print(f"\n{counted(found.height, 'row')} written to {out}")


def require_known_ending(out: Path) -> None:
    """Raise InputError unless a table can be written under this name."""
    if out.suffix not in WRITERS:
        raise InputError(f"{out} has no known ending: write to {', '.join(WRITERS)}.")


def write(frame: pl.DataFrame, out: Path) -> None:
    """A whole table or none. Raises InputError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_file(out) as partial:
            WRITERS[out.suffix](frame, partial)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({reason(error)}): choose another place.") from None
    except pl.exceptions.PolarsError as error:  # as it reports a full disk
        why = str(error).splitlines()[0]
        raise InputError(f"{out} cannot be written ({why}): free the disk, or choose another place.") from None


def require_writable(out: Path) -> None:
    """Raise InputError where a file could not be written in the end: before hours of work, not after."""
    there = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file.")
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"{out} cannot be written ({reason(error)}): choose another place.") from None


def reason(error: OSError) -> str:
    """Why a file could not be written, in the system's words."""
    return error.strerror or str(error)


def show(found: pl.DataFrame) -> None:
    """The final, annealed losses, or where there are none the last of every run; others are counted."""
    finals = found.filter(pl.col("annealed").fill_null(True)).sort("n_params", "tokens")
    kind = "final"
    if finals.is_empty():
        kind, finals = "last", found.sort("tokens").group_by("run", maintain_order=True).last().sort("n_params")
    rows = [
        (
            str(row["folder"]),
            str(row["data"] or ""),
            str(row["operator"]),
            format_count(row["n_params"]),
            format_count(row["tokens"]),
            f"{row['loss']:.4f}",
        )
        for row in finals.head(SHOWN).iter_rows(named=True)
    ]
    console().print(table(("folder", "data", "operator", "parameters", "tokens", "loss"), rows))
    hidden = f" ({finals.height - SHOWN} not shown)" if finals.height > SHOWN else ""
    mid_run = found.height - finals.height
    runs, losses = (
        counted(found["run"].n_unique(), "run"),
        counted(finals.height, f"{kind} loss", f"{kind} losses"),
    )
    console().print(f"\n{runs}, {losses}{hidden}, {counted(mid_run, 'other')}")
