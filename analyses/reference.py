"""The reference study's tables, and differences of grown runs to scratch with intervals; for the scripts of its claims.

Symbols: g growth factor, Delta = L_grown - L_scratch (negative: growing wins), s the pooled standard deviation of
one run about its cell's mean.
"""

import numpy as np
import polars as pl
from scipy import stats

from scalegrow.runs.shipped import DATA
from scalegrow.runs.table import SCRATCH, read_table

NAMES = {"stories": "story language", "networks": "dense networks", "text": "English novels, bytes"}
LEVEL = 0.95
CELL = ("n_params", "budget", "arm", "factor", "base_budget", "lr")
MAIN = "szp:shrink=0.4"  # lambda in every law of arXiv 2605.13405


def studies() -> list[str]:
    """The names of the tables that are there, in the order of NAMES."""
    return [name for name in NAMES if (DATA / "reference" / f"{name}.parquet").exists()]


def finals(study: str) -> pl.DataFrame:
    """Annealed rows, with `budget` in tokens per parameter and the `factor` and `base_budget` that were asked for.

    Of networks the loss is the mean square error above the noise, for that is what a model can change.
    """
    rows = read_table(DATA / "reference" / f"{study}.parquet").filter(pl.col("annealed"))
    if study == "networks":
        rows = rows.with_columns(loss=pl.col("excess"))
    return rows.with_columns(budget=pl.col("stage").str.strip_suffix("tpp").cast(pl.Int64))


def transferred(rows: pl.DataFrame) -> float:
    """The learning rate that was tuned at the base's scale: the one that grown runs were given."""
    return float(rows.filter(pl.col("operator") != SCRATCH)["lr"].mode().item())


def cells(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a cell: its mean loss, how many runs, and s, pooled over all cells of its size and budget.

    The runs of a cell differ in seed alone, so s^2 = sum (L - mean)^2 / df with df = sum (n - 1): independent runs,
    never budgets of one run, since those are other cells.
    """
    found = rows.group_by(*CELL).agg(
        pl.col("loss").mean(),
        pl.len().alias("n"),
        (pl.col("loss") - pl.col("loss").mean()).pow(2).sum().alias("squares"),
        pl.col("growth_factor", "growth_factor_non_embedding", "growth_factor_width", "zero_step_kl").mean(),
        pl.col("base_params", "base_tokens", "tokens", "operator").first(),
    )
    df = (pl.col("n") - 1).sum().over("n_params", "budget")
    pooled = (pl.col("squares").sum().over("n_params", "budget") / df).sqrt()
    return found.with_columns(s=pooled, df=df).drop("squares").sort(*CELL)


def scratch(found: pl.DataFrame, *, tuned: bool = True) -> pl.DataFrame:
    """The scratch cell of each size and budget: at its own best learning rate, or at the transferred one."""
    mine = found.filter(pl.col("operator") == SCRATCH)
    if not tuned:
        rate = found.filter(pl.col("operator") != SCRATCH)["lr"].mode().item()
        mine = mine.filter(pl.col("lr") == rate)
    return mine.sort("loss").group_by("n_params", "budget", maintain_order=True).first()


def gains(found: pl.DataFrame, *, tuned: bool = True) -> pl.DataFrame:
    """Delta of every grown cell to scratch at equal parameters and tokens, its interval, and P(one run wins).

    Student's t with the pooled df: Delta +- t s sqrt(1/n + 1/m), and for one new run of each
    P = F_t(-Delta / (s sqrt(2 + 1/n + 1/m))).
    """
    partner = scratch(found, tuned=tuned).select(
        "n_params", "budget", pl.col("loss").alias("loss_scratch"), pl.col("n").alias("m")
    )
    pairs = found.filter(pl.col("operator") != SCRATCH).join(partner, on=("n_params", "budget"))
    difference = (pairs["loss"] - pairs["loss_scratch"]).to_numpy()
    s, df = pairs["s"].to_numpy(), pairs["df"].to_numpy()
    shared = 1 / pairs["n"].to_numpy() + 1 / pairs["m"].to_numpy()
    reach = stats.t.ppf((1 + LEVEL) / 2, df) * s * np.sqrt(shared)
    wins = stats.t.cdf(-difference / (s * np.sqrt(2 + shared)), df)
    return pairs.with_columns(
        difference=pl.Series(difference),
        low=pl.Series(difference - reach),
        high=pl.Series(difference + reach),
        wins=pl.Series(wins),
    )
