"""The reference study's tables, and differences of grown runs to scratch with intervals, for the claims.

Symbols: g growth factor, Delta = L_grown - L_scratch (negative: growing wins), s the pooled standard deviation of
one run about its cell's mean, n and m the runs of a grown and a scratch cell.
"""

from typing import Any

import polars as pl
from scipy import stats

from scalegrow.runs.shipped import DATA
from scalegrow.runs.table import SCRATCH, read_table
from scalegrow.units import format_count

NAMES = {
    "stories": "story language",
    "networks": "dense networks",
    "text": "English novels, bytes",
    "untied": "stories, untied head",
}
LEVEL = 0.95
CELL = ("n_params", "budget", "arm", "factor", "base_budget", "lr")
MAIN = "szp:shrink=0.4"  # lambda in every law of arXiv 2605.13405


def studies() -> list[str]:
    """The names of the tables that are there, in the order of NAMES."""
    return [name for name in NAMES if (DATA / "reference" / f"{name}.parquet").exists()]


def annealed(study: str) -> pl.DataFrame:
    """Final losses as measured, with `budget` in tokens per parameter."""
    rows = read_table(DATA / "reference" / f"{study}.parquet").filter(pl.col("annealed"))
    return rows.with_columns(budget=pl.col("stage").str.strip_suffix("tpp").cast(pl.Int64))


def finals(study: str) -> pl.DataFrame:
    """Annealed rows, their losses on the scale on which they are compared.

    Of networks the loss is ln(mean square error above the noise), for that is what a model can change, so that a
    difference is a ratio of errors; of decoders it is nats a token.
    """
    rows = annealed(study)
    return rows.with_columns(loss=pl.col("excess").log()) if study == "networks" else rows


def transferred(rows: pl.DataFrame) -> float:
    """The learning rate that was tuned at the base's scale: the one that grown runs were given."""
    return float(rows.filter(pl.col("operator") != SCRATCH)["lr"].mode().item())


def cells(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a cell: its mean loss, how many runs, and s, pooled over the cells of its size, budget and kind.

    The runs of a cell differ in seed alone: s^2 = sum (L - mean)^2 / df with df = sum (n - 1) counts independent
    runs, never budgets of one run, since those are other cells. Kinds are scratch, SZP and all other operators:
    grown runs carry their base's seed as well and scatter more, and copies more than SZP.
    """
    found = rows.group_by(*CELL).agg(
        pl.col("loss").mean(),
        pl.len().alias("n"),
        (pl.col("loss") - pl.col("loss").mean()).pow(2).sum().alias("squares"),
        pl.col("growth_factor", "growth_factor_non_embedding", "growth_factor_width", "zero_step_kl").mean(),
        pl.col("base_params", "base_tokens", "tokens", "operator").first(),
    )
    kind = pl.when(pl.col("operator").is_in([SCRATCH, "szp"])).then("operator").otherwise(pl.lit("other"))
    alike = ("n_params", "budget", kind)
    df = (pl.col("n") - 1).sum().over(alike)
    pooled = (pl.col("squares").sum().over(alike) / df).sqrt()
    return found.with_columns(s=pooled, df=df).filter(pl.col("df") > 0).drop("squares").sort(*CELL)


def scratch(found: pl.DataFrame, *, tuned: bool = True) -> pl.DataFrame:
    """The scratch cell of each size and budget: at its own best learning rate, or at the transferred one."""
    mine = found.filter(pl.col("operator") == SCRATCH)
    if not tuned:
        mine = mine.filter(pl.col("lr") == transferred(found))
    return mine.sort("loss").group_by("n_params", "budget", maintain_order=True).first()


def gains(found: pl.DataFrame, *, tuned: bool = True) -> pl.DataFrame:
    """Delta of every grown cell to scratch at equal parameters and tokens, its interval, and P(one run wins).

    Welch's t: error^2 = s^2/n + s_scratch^2/m with Satterthwaite's freedom, Delta +- t error; for one new run of
    each P = F_t(-Delta / sqrt(s^2 + s_scratch^2 + error^2)).
    """
    told = {"loss": "loss_scratch", "n": "m", "s": "s_scratch", "df": "df_scratch"}
    partner = scratch(found, tuned=tuned).select(
        "n_params", "budget", *(pl.col(old).alias(new) for old, new in told.items())
    )
    pairs = found.filter(pl.col("operator") != SCRATCH).join(
        partner, on=("n_params", "budget"), maintain_order="left"
    )
    mine, theirs = pl.col("s") ** 2 / pl.col("n"), pl.col("s_scratch") ** 2 / pl.col("m")
    pairs = pairs.with_columns(
        difference=pl.col("loss") - pl.col("loss_scratch"),
        error=(mine + theirs).sqrt(),
        freedom=(mine + theirs) ** 2 / (mine**2 / pl.col("df") + theirs**2 / pl.col("df_scratch")),
        single=(pl.col("s") ** 2 + pl.col("s_scratch") ** 2 + mine + theirs).sqrt(),
    )
    wins = stats.t.cdf((-pairs["difference"] / pairs["single"]).to_numpy(), pairs["freedom"].to_numpy())
    return with_interval(pairs.with_columns(wins=pl.Series(wins)), "difference")


def with_interval(pairs: pl.DataFrame, value: str) -> pl.DataFrame:
    """low and high: value +- t error, by each row's error and freedom."""
    reach = stats.t.ppf((1 + LEVEL) / 2, pairs["freedom"].to_numpy()) * pairs["error"].to_numpy()
    return pairs.with_columns(low=pl.col(value) - pl.Series(reach), high=pl.col(value) + pl.Series(reach))


def grown(study: str, *, tuned: bool = True) -> pl.DataFrame:
    """Gains of every arm from bases of 20 tokens per parameter at the transferred learning rate."""
    rows = finals(study)
    usual = (pl.col("base_budget") == 20) & (pl.col("lr") == transferred(rows))
    return gains(cells(rows), tuned=tuned).filter(usual).with_columns(study=pl.lit(NAMES[study]))


def everywhere(*, tuned: bool = True) -> pl.DataFrame:
    """`grown` of every study, with `size` as a label; Delta over s compares where losses have other scales."""
    return labelled(pl.concat([grown(study, tuned=tuned) for study in studies()], how="diagonal"))


def labelled(found: pl.DataFrame) -> pl.DataFrame:
    """With `size`: study and parameters, for a person."""
    size = pl.col("n_params").map_elements(format_count, return_dtype=pl.String)
    return found.with_columns(size=pl.concat_str("study", size, separator=", "))


def starred(row: dict[str, Any], value: str) -> str:
    """A difference with its interval, and * where 0 is outside it."""
    star = "*" if row["low"] > 0 or row["high"] < 0 else " "
    return f"{row[value]:+.4f} ± {row['high'] - row[value]:.4f}{star}"


def for_laws(study: str) -> pl.DataFrame:
    """Run-table rows to fit: scratch at its own best learning rate, grown runs at the transferred one.

    Of SZP's lambdas only 0.4, so that an operator is one arm. Losses as measured: nats, or mean square errors.
    """
    rows = annealed(study)
    best = scratch(cells(finals(study))).select("n_params", "budget", "lr")
    mine = rows.filter(pl.col("operator") == SCRATCH).join(best, on=("n_params", "budget", "lr"), how="semi")
    usual = (pl.col("operator") != "szp") | (pl.col("arm") == MAIN)
    theirs = rows.filter(pl.col("operator") != SCRATCH, usual, pl.col("lr") == transferred(rows))
    return pl.concat([mine, theirs])
