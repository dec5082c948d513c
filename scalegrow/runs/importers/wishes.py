"""What the user said of logs: columns, constants, units, and a table of facts about each run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import inf, log
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.words import UNITS
from scalegrow.runs.table import COLUMNS, READERS
from scalegrow.units import parse_count, parse_flops

HELPERS = ("step", "tokens_per_step", "lr")  # not of the run table, but it is made with them
TARGETS = (*COLUMNS, *HELPERS)
COUNTS = ("n_params", "n_params_non_embedding", "tokens", "base_params", "base_tokens", "tokens_per_step")
LAST = "last"  # of annealed: the last loss of every run is, the others are not
ROW = "row"  # of run: every row is a run of its own
NATS_PER_BIT = log(2)


@dataclass(frozen=True)
class Wishes:
    """The options: column -> name of a source; column -> constant; column -> unit; facts by run."""

    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    about: pl.DataFrame | None = None
    files: tuple[Path, ...] = ()  # that the facts were read from

    @classmethod
    def of(
        cls, columns: Sequence[str], constants: Sequence[str], units: Sequence[str], about: Path | None
    ) -> "Wishes":
        """From NAME=VALUE texts. Raises InputError on one that is not understood."""
        facts, files = (None, ()) if about is None else (read_about(about), (about,))
        wishes = cls(_pairs("--map", columns), _pairs("--set", constants), _pairs("--unit", units), facts, files)
        if twice := {*wishes.columns} & {*wishes.constants}:
            name = min(twice)
            raise InputError(f"{name} has both --map and --set: give one of them.")
        return wishes

    def factor(self, column: str) -> float | None:
        """What the unit that was said multiplies by; None where none was said."""
        word = self.units.get(column)
        return None if word is None else factor_of(column, word)


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise InputError(f"{option} {text} is not understood: write COLUMN=VALUE.")
        if name not in TARGETS:
            near = get_close_matches(name, TARGETS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TARGETS)}."
            raise InputError(f"{option} {text}: {name} is no column of the run table; {hint}")
        found[name] = value
    return found


def factor_of(column: str, word: str) -> float:
    """1e9 of B, ln 2 of bits, or the number itself. Raises InputError on other words."""
    if column == "loss" and word in ("nats", "bits"):
        return NATS_PER_BIT if word == "bits" else 1.0
    if word.lower() in UNITS and column in COUNTS:
        return UNITS[word.lower()]
    try:
        factor = float(word)
    except ValueError:
        factor = 0.0
    if not 0 < factor < inf:
        known = "nats, bits, perplexity or a number" if column == "loss" else "k, M, B, T or a number"
        raise InputError(f"--unit {column}={word} is not understood: write {known}.")
    return factor


def constant(column: str, text: str) -> object:
    """--set COLUMN=TEXT as the column's type. Raises InputError where it is none."""
    if column == "loss":
        raise InputError(
            f"--set loss={text}: a loss is measured, not set: say which column holds it, --map loss=COLUMN."
        )
    if column in COUNTS and text != "0":
        return parse_count(text)
    if column == "flops":
        return parse_flops(text)
    dtype = COLUMNS[column].dtype if column in COLUMNS else pl.Float64()
    if isinstance(dtype, pl.String):
        return text
    if isinstance(dtype, pl.Boolean):
        if text.lower() not in ("true", "false"):
            also = ", false or last" if column == "annealed" else " or false"
            raise InputError(f"--set {column}={text} is not understood: write true{also}.")
        return text.lower() == "true"
    try:
        return int(text) if isinstance(dtype, pl.Int64) else float(text)
    except ValueError:
        raise InputError(f"--set {column}={text} is no number: give one.") from None


def read_about(path: Path) -> pl.DataFrame:
    """A table of facts by run: a column `run`, and columns of the run table. Raises InputError on another."""
    reader = READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise InputError(f"--about {path} is no table: give a {', '.join(READERS)} file with a column run.")
    try:
        facts = reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"--about {path} cannot be read: {str(error).splitlines()[0]}.") from None
    if "run" not in facts.columns:
        raise InputError(f"--about {path} has no column run: name each run that it tells of.")
    if unknown := [name for name in facts.columns if name not in TARGETS]:
        raise InputError(f"--about {path}: {unknown[0]} is no column of the run table; drop or rename it.")
    if facts["run"].is_duplicated().any():
        name = facts.filter(facts["run"].is_duplicated())["run"][0]
        raise InputError(f"--about {path} tells twice of {name}: give a row a run.")
    counts = [name for name in facts.columns if name in COUNTS and facts[name].dtype == pl.String]
    try:
        told = {name: [None if each is None else parse_count(each) for each in facts[name]] for name in counts}
    except InputError as error:
        raise InputError(f"--about {path}: {str(error).rstrip('.')}.") from None
    return facts.with_columns(
        pl.col("run").cast(pl.String), **{n: pl.Series(v, dtype=pl.Float64) for n, v in told.items()}
    )
