"""Which rows of a run table tell how the loss depends on gamma, of std = fan_in^-gamma, and nothing else."""

import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.gamma import STANDARD
from scalegrow.runs.collect import ALWAYS
from scalegrow.runs.config import LARGEST_GAMMA
from scalegrow.runs.table import COLUMNS, SCRATCH, refuse_mixing

FEWEST_GAMMAS = 5  # L*, A, gamma*, k and l
NEEDED = (*COLUMNS, "gamma")
CELL = ("n_params", "tokens", "seed")  # whose runs saw the same batches


def gamma_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The annealed rows from scratch, with tpp = D / N, in one order whatever the table's.

    They differ in gamma, seed, size and budget alone. Raises InputError where a column or gammas are missing,
    where losses are of several kinds of data, and where runs differ in another setting too.
    """
    if missing := [name for name in NEEDED if name not in rows.columns]:
        raise InputError(f"the table has no column {missing[0]!r}: give one that scalegrow sweep has written.")
    rows = rows.filter(pl.col("annealed"), pl.col("operator") == SCRATCH, pl.col("gamma").is_not_null())
    rows = rows.with_columns(_numbers(rows["gamma"]), tpp=pl.col("tokens") / pl.col("n_params"))
    refuse_mixing(rows)
    _refuse_other_settings(rows)
    _refuse_copies(rows)
    rows = rows.filter(pl.col("gamma").n_unique().over(CELL) > 1)  # one gamma alone says nothing about another
    if (there := rows["gamma"].n_unique()) < FEWEST_GAMMAS:
        raise InputError(
            f"{there} different gammas among annealed losses from scratch draw no curve: "
            f"sweep {FEWEST_GAMMAS} or more at one size, budget and seed."
        )
    low, high = value_range(rows["gamma"])
    if not low <= STANDARD <= high:
        raise InputError(f"gammas of {low:g} to {high:g} leave out {STANDARD:g}, the standard: sweep it too.")
    return rows.sort(*CELL, "gamma", "loss")


def _numbers(gamma: pl.Series) -> pl.Series:
    """gamma as numbers. Raises InputError where one is none, or no exponent that a run can have."""
    try:
        found = gamma.cast(pl.Float64)
    except pl.exceptions.PolarsError:
        raise InputError("the column 'gamma' holds more than numbers: mend it.") from None
    if not (inside := found.is_between(0, LARGEST_GAMMA)).all():
        raise InputError(f"gamma = {found.filter(~inside)[0]:g} is out of range: give 0 to {LARGEST_GAMMA:g}.")
    return found


def _refuse_other_settings(rows: pl.DataFrame) -> None:
    """Raise InputError where runs differ in another setting than gamma, whose effect would pass for gamma's."""
    settings = (name for name in rows.columns if name == "lr" or ("." in name and name != ALWAYS["gamma"]))
    for name in settings:
        values = rows[name].unique().sort(nulls_last=True)
        if not name.startswith("start.") and values.len() > 1:
            raise InputError(
                f"runs differ in {name} ({', '.join(map(str, values.head(4)))}), not in gamma alone: "
                f"keep one value, as by --where {name}={values[0]}."
            )


def _refuse_copies(rows: pl.DataFrame) -> None:
    """Raise InputError where one gamma has two losses in a cell: copies would count as independent runs."""
    if (twice := rows.filter(pl.struct(*CELL, "gamma").is_duplicated())).height:
        gamma, seed = twice.select("gamma", "seed").row(0)
        raise InputError(
            f"gamma {gamma:g} was run more than once with seed {seed} and one budget: keep one, as by --where, "
            "or give other runs seeds of their own."
        )


def value_range(values: pl.Series) -> tuple[float, float]:
    """The least and the largest."""
    found = values.to_numpy()
    return float(found.min()), float(found.max())
