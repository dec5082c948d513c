"""The tables and fits that come with scalegrow."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.table import read_table

_PACKAGE = Path(__file__).parents[1]
# Installed, data/ travels inside the package; in a checkout it stands beside it.
DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent / "data"
TABLES = {
    "chinchilla_epoch": "chinchilla_epoch.csv",
    "stories_ladder": "stories_ladder.csv",
    "warmstart_2605_13405_digitised": "warmstart_2605_13405_digitised.csv",
    "warmstart_2605_13405_printed": "warmstart_2605_13405_printed.csv",
    "reference_stories": "reference/stories.parquet",
    "reference_networks": "reference/networks.parquet",
    "reference_text": "reference/text.parquet",
    "reference_untied": "reference/untied.parquet",
    "reference_selection": "reference/selection.parquet",
    "reference_gamma": "reference/gamma.parquet",
    "reference_gamma_text": "reference/gamma_text.parquet",
}


def load_table(name_or_path: str) -> pl.DataFrame:
    """A shipped run table by name, or any run table by path."""
    if not name_or_path:
        raise InputError("an empty name is no run table: give a path or the name of a shipped one.")
    if name_or_path in TABLES:
        return read_table(DATA / TABLES[name_or_path])
    path = Path(name_or_path)
    if not path.exists() and not path.suffix:
        raise InputError(
            f"'{name_or_path}' is neither a file nor a shipped table: give a path or one of {', '.join(TABLES)}."
        )
    return read_table(path)


def given_or(name: str, shipped: Callable[[str], Path]) -> Path:
    """What comes with scalegrow under that name, else a file that was given by its path.

    A bare word is what is shipped, even beside a file of that name, which is ./text. Raises InputError.
    """
    if not name:
        raise InputError("an empty name is no file: give a path, or leave the option out.")
    path = Path(name)
    if path.suffix or path.name != name:
        return path
    try:
        return shipped(name)
    except InputError:
        if path.exists():
            return path
        raise


def shipped_fit(name: str) -> Path:
    """The path of a fit that comes with scalegrow."""
    path = DATA / "fits" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (DATA / "fits").glob("*.json")))
        raise InputError(f"'{name}' is neither a file nor a shipped fit: give a path or one of {known}.")
    return path


def shipped_choice(name: str, family: str = "selection") -> Path:
    """The path of what was fitted for a choice, of a warm start or, of the family ``gamma_``, of gamma.

    Raises InputError on other names.
    """
    path = DATA / "choices" / (f"{name}.json" if name.startswith(family) else f"{family}{name}.json")
    if not path.is_file():
        stems = sorted(p.stem for p in (DATA / "choices").glob(f"{family}*.json"))
        known = ", ".join(stem.removeprefix(family) or stem for stem in stems)
        there = f"give a path or one of {known}" if known else "give a path"
        raise InputError(f"'{name}' is neither a file nor comes with scalegrow: {there}.")
    return path
