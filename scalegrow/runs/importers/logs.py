"""What a reader gives: every record under the names it was logged with, and what is known of each log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.fields import flatten

LOG, NAME, FILE = "__log", "__name", "__file"  # columns that no tracker writes
SETTING = "setting:"  # in front of a setting, whose name a record may have too


@dataclass(frozen=True)
class Logs:
    """records: a row for every moment that was logged, LOG and numbers; facts: a row for every log.

    kind: the format, in words. facts hold LOG, NAME, FILE and the settings, each with SETTING in front. many: true
    where one log may hold several runs, as a table may.
    """

    kind: str
    records: pl.DataFrame
    facts: pl.DataFrame
    many: bool = False

    @property
    def columns(self) -> list[str]:
        """The names that records were logged under."""
        return [name for name in self.records.columns if name != LOG]

    @property
    def settings(self) -> list[str]:
        """The names of the settings."""
        return [name.removeprefix(SETTING) for name in self.facts.columns if name.startswith(SETTING)]

    def joined(self, names: Sequence[str]) -> pl.DataFrame:
        """The records with these of the facts beside each."""
        wanted = [name for name in self.facts.columns if name in names and name != LOG]
        return self.records.join(self.facts.select(LOG, *wanted), on=LOG, how="left", maintain_order="left")


@dataclass(frozen=True)
class Log:
    """One run's records and settings, before they are put together with others'."""

    name: str
    file: Path
    records: pl.DataFrame
    settings: Mapping[str, Any]


def together(kind: str, logs: Sequence[Log]) -> Logs:
    """Many logs as one table of records and one of facts."""
    records = [log.records.with_columns(pl.lit(i, pl.UInt32).alias(LOG)) for i, log in enumerate(logs)]
    facts = [
        {LOG: i, NAME: log.name, FILE: str(log.file), **{SETTING + k: v for k, v in plain(log.settings).items()}}
        for i, log in enumerate(logs)
    ]
    return Logs(
        kind,
        pl.concat(records, how="diagonal_relaxed", rechunk=False),
        pl.DataFrame(facts, schema_overrides={LOG: pl.UInt32}, infer_schema_length=None, strict=False),
    )


def plain(settings: Mapping[str, Any]) -> dict[str, float | str | bool]:
    """Nested settings under dotted names; lists and empty ones, which no column wants, are left out."""
    found = flatten(dict(settings))
    return {name: value for name, value in found.items() if isinstance(value, str | int | float | bool)}


def frame_of(rows: Sequence[Mapping[str, Any]], where: Path) -> pl.DataFrame:
    """Records as columns, of numbers, texts and truths alone. Raises InputError where none is left."""
    kept = [{k: v for k, v in row.items() if isinstance(v, str | int | float | bool)} for row in rows]
    kept = [row for row in kept if row]
    if not kept:
        raise InputError(f"{where} holds no logged number: give a log that has losses.")
    return pl.DataFrame(kept, infer_schema_length=None, strict=False)


def library(name: str, extra: str) -> ModuleType:
    """A tracker's own library. Raises InputError that names what to install."""
    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            f"reading these logs needs {extra}: pip install 'scalegrow[{extra}]', or '.[{extra}]' here."
        ) from None


def below(path: Path, pattern: str) -> list[Path]:
    """The file itself or what a folder holds, where the name is so."""
    if path.is_file():
        return [path] if fnmatchcase(path.name, pattern) else []
    return sorted(found for found in path.rglob(pattern) if found.is_file())


def resumed(records: pl.DataFrame, step: str) -> pl.DataFrame:
    """Records in the order they were written, without values that a restart from an earlier step wrote again.

    Where the step falls a session begins. What an earlier session wrote from its first step on is what the run did
    not go on from, of every column that the later session wrote too: a stray record replaces no loss.
    """
    steps = pl.col(step).forward_fill()
    session = (steps < steps.shift(1)).fill_null(False).cum_sum().alias("session")
    marked = records.with_columns(session)
    if not marked["session"].max():
        return records
    values = [name for name in records.columns if name != step]
    began = pl.col(step).min()
    begun = marked.group_by("session").agg(
        pl.when(pl.col(name).is_not_null().any()).then(began).alias(f"after {name}") for name in values
    )
    later = [pl.col(f"after {name}").reverse().fill_null(inf).cum_min().reverse().shift(-1) for name in values]
    marked = marked.join(
        begun.sort("session").with_columns(later), on="session", how="left", maintain_order="left"
    )
    stale = {name: (pl.col(step) >= pl.col(f"after {name}")).fill_null(False) for name in values}
    kept = marked.with_columns(pl.when(~gone).then(name).alias(name) for name, gone in stale.items())
    return kept.filter(pl.any_horizontal(pl.col(values).is_not_null())).select(records.columns)


def named(paths: Sequence[Path]) -> list[str]:
    """A short name for each path, all different: stems, with as many folders in front as tell them apart."""
    parts = [(*path.absolute().parent.parts, path.stem) for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len({*names}) == len(names):
            return names
    raise InputError(f"{paths[0]} is given twice: name each log once.")
