"""What became of warm starts: a row for each that was trained on, from a study's run table.

A candidate is an operator with its settings, a whole training state (arXiv 2604.04281). Symbols: L held-out loss,
g growth factor, k the lag in steps.
"""

import re
from collections.abc import Sequence

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.table import SCRATCH

NEEDED = ("stage", "step", "arm", "data_seed", "base_budget")  # beside every run table's: a sweep's columns
DROPOUT = ("dropout", "model.dropout")  # the second where an older table's runs differ in it
DETERMINISTIC, STOCHASTIC = "deterministic", "stochastic"
NUMBERS = ("step", "data_seed", "seed", "base_tokens", "n_layers", *DROPOUT)
SETTING = ("regime", "n_params", "growth_factor", "base_tpp")  # with a base: what candidates are compared within
UNIT = ("group", "data_seed", *SETTING, "tpp")  # one run of each candidate: its base, batches, setting, budget


def outcomes(rows: pl.DataFrame, bases: pl.DataFrame | None = None) -> pl.DataFrame:
    """A row for each grown run and budget: its setting, its base's seed, `candidate`, `tpp` and `loss`, annealed.

    regime is deterministic where the run went on with its base's batch order and without dropout. base_tpp is what
    the base had seen when it was grown, tokens per parameter of its own. deeper: whether it was given layers, null
    where the table does not say. Runs whose base is not in the table are left out, since only it says which order
    was its own. `signal` columns (zero_step_kl, kl_K, escape_K, loss_K after K steps, area: the mean loss of the
    trunk from the first lag on) come along. bases: a table that holds them, where `rows` is a part of one. Raises
    InputError where the table is not a study's.
    """
    if missing := [name for name in NEEDED if name not in rows.columns]:
        raise InputError(f"the table has no column {missing[0]!r}: give one that scalegrow sweep has written.")
    rows, bases = _numbers(rows), bases if bases is None else _numbers(bases)
    if rows["data"].drop_nulls().n_unique() > 1:
        raise InputError("losses on other data do not compare: choose one of them with --where data=NAME.")
    grown = _with_base(_told(rows), _told(rows if bases is None else bases))
    same = (pl.col("data_seed") == pl.col("data_seed_base")) & (pl.col("dropout") == 0)
    grown = grown.with_columns(
        regime=pl.when(same).then(pl.lit(DETERMINISTIC)).otherwise(pl.lit(STOCHASTIC)),
        base_tpp=pl.col("base_tokens") / pl.col("base_params"),
        deeper=pl.col("n_layers") > pl.col("n_layers_base"),
        candidate=pl.col("arm"),
        group=pl.col("seed_base"),
        tpp=pl.col("tokens") / pl.col("n_params"),
    )
    final = grown.filter(pl.col("annealed")).join(_on_the_way(grown), on="run", how="left")
    _require_one_run_each(final)
    return final.sort(*UNIT, "candidate")


def _numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """With numbers where numbers must be. Raises InputError on a cell that is none or not finite."""
    for name in (each for each in NUMBERS if each in rows.columns):
        try:
            found = rows[name].cast(pl.Float64)
        except pl.exceptions.PolarsError:
            raise InputError(f"the column {name!r} holds more than numbers: mend it.") from None
        if not (fine := found.is_finite() & (found >= 0)).fill_null(True).all():
            raise InputError(f"{name} = {found.filter(~fine)[0]:g} is out of range: mend it.")
    return rows


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """With dropout and layers of every run: dropout nought, layers null where the table does not say."""
    dropout = [pl.col(name).cast(pl.Float64) for name in DROPOUT if name in rows.columns]
    layers = pl.col("n_layers").cast(pl.Int64) if "n_layers" in rows.columns else pl.lit(None, pl.Int64)
    return rows.with_columns(dropout=pl.coalesce(*dropout, pl.lit(0.0)), n_layers=layers)


def _with_base(rows: pl.DataFrame, bases: pl.DataFrame) -> pl.DataFrame:
    """The rows of grown runs whose base is there, with its seeds and layers. Raises InputError without any."""
    of_base = pl.col("seed", "data_seed", "n_layers").name.suffix("_base")
    known = bases.filter(pl.col("seed").is_not_null()).select("run", of_base).unique()
    named = pl.col("base") != pl.col("run")  # a table without the column says of every run that it is its own base
    grown = rows.filter(pl.col("operator") != SCRATCH, named).join(known, left_on="base", right_on="run")
    if not grown["annealed"].any():
        raise InputError(
            "the table has no final loss of a grown run with its base, and that one's seed: sweep factors above 1."
        )
    if (grown["base_tokens"] <= 0).any():
        raise InputError("a run was grown from a base that had seen no token: leave it out with --where.")
    return grown


def _require_one_run_each(final: pl.DataFrame) -> None:
    """Raise InputError where a candidate was run in several ways that a setting does not tell apart."""
    if (twice := final.filter(pl.struct(*UNIT, "candidate").is_duplicated())).is_empty():
        return
    name = twice["candidate"][0]
    raise InputError(
        f"{name} was run more than once from one base with the same budget: choose with --where, such as lr=0.005."
    )


def lags(columns: Sequence[str]) -> list[int]:
    """The steps K at which the runs were watched, by the columns kl_K that a sweep writes."""
    return sorted(int(name[3:]) for name in columns if re.fullmatch(r"kl_[1-9]\d*", name))


def _on_the_way(grown: pl.DataFrame) -> pl.DataFrame:
    """By run: loss_K at each lag, and the area under the curve from the first lag on over its tokens.

    Of the trunk; of a run without one, of its first budget's stage.
    """
    before = grown.filter(~pl.col("annealed"))
    ends = before.with_columns(end=pl.col("step").max().over("run", "stage"))
    first = ends.filter(pl.col("end") == pl.col("end").min().over("run")).sort("run", "step")
    at_lags = [
        pl.col("loss").filter(pl.col("step") == lag).first().alias(f"loss_{lag}") for lag in lags(grown.columns)
    ]
    width = pl.col("tokens").diff()
    mean = (pl.col("loss") + pl.col("loss").shift(1)) / 2
    area = ((width * mean).sum() / width.sum()).fill_nan(None)
    return first.group_by("run").agg(*at_lags, area=area)
