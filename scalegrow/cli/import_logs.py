"""`scalegrow import`: logs of other trainers and trackers into a run table, once they are understood."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from scalegrow.cli.collect import require_known_ending, require_writable, write
from scalegrow.cli.render import console, counted, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.runs.importers.ask import ask_for_missing
from scalegrow.runs.importers.build import build, without
from scalegrow.runs.importers.checks import refuse_impossible
from scalegrow.runs.importers.logs import FILE
from scalegrow.runs.importers.mapping import Mapping, describe, map_columns
from scalegrow.runs.importers.read import read_logs
from scalegrow.runs.importers.wishes import Wishes
from scalegrow.runs.table import checked
from scalegrow.units import format_count

SHOWN = 40


def run(
    paths: Sequence[Path],
    out: Path | None,
    wishes: Wishes,
    kind: str | None,
    left_out: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Read, show what was understood, ask or refuse, write where asked, and show the runs."""
    if out:
        require_known_ending(out)
        require_writable(out)
    with understood(paths):
        logs = read_logs(paths, kind)
        require_apart(out, [*paths, *map(Path, logs.facts[FILE]), *wishes.files])
        mapping = map_columns(logs, wishes)
        if not as_json:
            show_mapping(logs.kind, mapping)
        ask_for_missing(logs, mapping, wishes)
        built = build(logs, mapping, wishes)
        del logs  # of a million rows what was read takes more than what is kept
        kept = without(built.table, left_out)
        refuse_impossible(kept, mapping, wishes)
        found = checked(kept, str(paths[0]))
    if out:
        write(found, out)
    if as_json:
        print_json(as_data(found, mapping, built.notes, out))
        return
    show_runs(found, built.notes)
    note(f"{counted(found.height, 'row')} written to {out}" if out else "nothing is written without --out")


def require_apart(out: Path | None, read: Sequence[Path]) -> None:
    """Raise InputError where the table would replace what it is made of."""
    if out and out.resolve() in {path.resolve() for path in read}:
        raise InputError(f"{out} is what is read: name another file for the table.")


@contextmanager
def understood(paths: Sequence[Path]) -> Iterator[None]:
    """Raise InputError where a log is so damaged that its own reader stumbles."""
    try:
        yield
    except InputError:
        raise
    except (pl.exceptions.PolarsError, ValueError, TypeError, LookupError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise InputError(
            f"{paths[0]} is damaged, or holds what no log of its format does ({reason}): mend it, or give its "
            "losses as a table with columns run, n_params, tokens, loss."
        ) from None


def as_data(found: pl.DataFrame, mapping: Mapping, notes: Sequence[str], out: Path | None) -> dict[str, Any]:
    """What was understood, for a program; the rows are in the file."""
    return {
        "schema": "scalegrow-import/1",
        "mapping": {column: {"source": source, "why": why} for column, source, why in describe(mapping)},
        "notes": list(notes),
        "runs": summary(found).to_dicts(),
        "rows": found.height,
        "out": str(out) if out else None,
    }


def show_mapping(kind: str, mapping: Mapping) -> None:
    """Column <- source, and why."""
    rows = [(column, f"<- {source}", why) for column, source, why in describe(mapping)]
    made = table(("column", f"of {kind}", "why"), rows)
    for column in made.columns:
        column.justify = "left"
    console().print(made)


def summary(found: pl.DataFrame) -> pl.DataFrame:
    """One row a run: its size, losses and tokens, the last loss, how it was grown."""
    return found.group_by("run", maintain_order=True).agg(
        pl.col("operator").first(),
        pl.col("n_params").first(),
        pl.len().alias("losses"),
        pl.col("annealed").sum().alias("annealed"),
        pl.col("tokens").max(),
        pl.col("loss").sort_by("tokens").last(),
    )


def show_runs(found: pl.DataFrame, notes: Sequence[str]) -> None:
    """The first runs, and the lines about what was done beyond reading."""
    runs = summary(found)
    rows = [
        (
            str(row["run"]),
            str(row["operator"]),
            format_count(row["n_params"]),
            str(row["losses"]),
            str(row["annealed"]),
            format_count(row["tokens"]),
            f"{row['tokens'] / row['n_params']:.3g}",
            f"{row['loss']:.4f}",
        )
        for row in runs.head(SHOWN).iter_rows(named=True)
    ]
    columns = ("run", "operator", "parameters", "losses", "annealed", "tokens", "tok/param", "last loss")
    console().print("", table(columns, rows), sep="\n")
    hidden = f" ({runs.height - SHOWN} not shown)" if runs.height > SHOWN else ""
    console().print(f"\n{counted(runs.height, 'run')}{hidden}, {counted(found.height, 'loss', 'losses')}")
    for line in notes:
        note(f"note: {line}")
