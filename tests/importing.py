"""Logs of other trainers as the command reads them, and the numbers that the committed ones hold."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from scripts import module_at

from scalegrow.runs.importers.ask import ask_for_missing
from scalegrow.runs.importers.build import build, without
from scalegrow.runs.importers.checks import refuse_impossible
from scalegrow.runs.importers.mapping import Mapping, map_columns
from scalegrow.runs.importers.read import read_logs
from scalegrow.runs.importers.wishes import Wishes
from scalegrow.runs.table import checked

LOGS = Path(__file__).parent / "logs"
LAST = ("annealed=last",)


WRITE = module_at(LOGS / "write.py", known=True)  # the numbers that the committed files hold


def understood(
    *paths: Path,
    map_: tuple[str, ...] = (),
    set_: tuple[str, ...] = LAST,
    unit: tuple[str, ...] = (),
    about: Path | None = None,
    left_out: tuple[str, ...] = (),
    kind: str | None = None,
) -> tuple[pl.DataFrame, Mapping]:
    """The run table of some logs as the command makes it, and the mapping."""
    wishes = Wishes.of(map_, set_, unit, about)
    logs = read_logs(paths, kind)
    mapping = map_columns(logs, wishes)
    ask_for_missing(logs, mapping, wishes)
    table = without(build(logs, mapping, wishes).table, left_out)
    refuse_impossible(table, mapping, wishes)
    return checked(table, str(paths[0])), mapping


def imported(*paths: Path, **options: object) -> pl.DataFrame:
    return understood(*paths, **options)[0]  # type: ignore[arg-type]


def expected(name_of: str = "{}") -> Iterator[tuple[object, ...]]:
    """(run, tokens, loss, annealed) of every committed row."""
    for run in WRITE.RUNS:
        for step, tokens, loss, _ in run.rows():
            yield name_of.format(run.name), float(tokens), loss, step == WRITE.STEPS[-1]


def rows_of(table: pl.DataFrame) -> list[tuple[object, ...]]:
    return table.sort("run", "tokens").select("run", "tokens", "loss", "annealed").rows()
