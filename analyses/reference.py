"""The reference study's tables, and differences of grown runs to scratch with intervals, for the claims.

Symbols: g growth factor, Delta = L_grown - L_scratch (negative: growing wins), s the pooled standard deviation of
one run about its cell's mean, n the runs of a cell; primes are the partner's.
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
ARM = ("n_params", "budget", "arm", "factor", "base_budget")
CELL = (*ARM, "lr")
ALIKE = ("n_params", "budget", "pool")  # cells whose runs scatter alike
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


def with_noise(rows: pl.DataFrame) -> pl.DataFrame:
    """With the `pool` of every run (scratch, SZP or another operator), and s and df of its ALIKE."""
    pool = pl.when(pl.col("operator").is_in([SCRATCH, "szp"])).then("operator").otherwise(pl.lit("other"))
    rows = rows.with_columns(pool=pool)
    return rows.join(noise(rows), on=ALIKE, maintain_order="left")


def noise(rows: pl.DataFrame) -> pl.DataFrame:
    """s of every size, budget and pool with its freedom df: s^2 = sum (L - cell mean)^2 / sum (n - 1).

    The runs of a cell differ in seed alone, and budgets of one run are other cells. Runs of one seed that grew
    from one base move together (in the story language the residuals of two copying operators correlate at 0.7), so
    that df counts the seeds of a factor once, however many operators and rates it has. Those of scratch at several
    rates correlate at 0.1 to 0.2, and each rate counts.
    """
    source = pl.when(pl.col("operator") == SCRATCH).then("lr").otherwise("factor").alias("source")
    squares = (pl.col("loss") - pl.col("loss").mean()).pow(2).sum()
    by_cell = rows.group_by(*CELL, "pool", source).agg(
        squares.alias("squares"), free=pl.len().cast(pl.Float64) - 1
    )
    by_source = by_cell.group_by(*ALIKE, "source").agg(pl.col("squares", "free").sum(), df=pl.col("free").max())
    s = (pl.col("squares").sum() / pl.col("free").sum()).sqrt()
    return by_source.group_by(ALIKE).agg(s=s, df=pl.col("df").sum()).filter(pl.col("df") > 0)


def cells(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a cell: its mean loss, its runs n, and s with df."""
    return mean_rows(with_noise(rows), CELL)


def tuned_cells(rows: pl.DataFrame) -> pl.DataFrame:
    """A row an arm at its own best learning rate, chosen for each seed by the other seeds.

    The best of three equal rates, chosen by the runs that it is judged by, lies 0.8 standard errors too low. Here
    no run is judged by itself: the mean is that of runs whose rate was chosen on one seed fewer, at most 0.4
    standard errors above the best rate's. Where the seeds' choices differ their losses lean on each other: n then
    counts one run fewer, and intervals of Delta cover 93 to 96 %.
    """
    loss, runs = pl.col("loss"), pl.len().cast(pl.Float64)
    others = ((loss.sum() - loss) / (runs - 1)).over(*CELL).alias("others")
    judged = with_noise(rows).with_columns(others).filter(pl.col("others").is_finite()).sort("others", "lr")
    return mean_rows(judged.group_by(*ARM, "seed", maintain_order=True).first(), ARM)


def mean_rows(rows: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    """Means over seeds; n is a run fewer than there are where they are of several learning rates."""
    factors = ("growth_factor", "growth_factor_non_embedding", "growth_factor_width")
    found = rows.group_by(*by).agg(
        pl.col("loss", "zero_step_kl", *factors).mean(),
        pl.col("base_params", "base_tokens", "tokens", "operator", "pool", "s", "df").first(),
        n=pl.len() - (pl.col("lr").n_unique() > 1),
    )
    return found.sort(*by)


def scratch(rows: pl.DataFrame, *, tuned: bool = True) -> pl.DataFrame:
    """The scratch cell of each size and budget: at its own best learning rate, or at the transferred one."""
    if tuned:
        return tuned_cells(rows.filter(pl.col("operator") == SCRATCH))
    return cells(rows).filter(pl.col("operator") == SCRATCH, pl.col("lr") == transferred(rows))


def welch(pairs: pl.DataFrame, suffix: str) -> pl.DataFrame:
    """With the error and freedom of every row's loss minus its partner's, whose s, n, df and pool have the suffix.

    error^2 = s^2/n + s'^2/n', of Satterthwaite's freedom; two of one pool share s and its df.
    """
    mine, theirs = pl.col("s") ** 2 / pl.col("n"), pl.col(f"s{suffix}") ** 2 / pl.col(f"n{suffix}")
    apart = satterthwaite(mine, "df", theirs, f"df{suffix}")
    freedom = pl.when(pl.col("pool") == pl.col(f"pool{suffix}")).then("df").otherwise(apart)
    return pairs.with_columns(error=(mine + theirs).sqrt(), freedom=freedom)


def satterthwaite(mine: pl.Expr, df: str, theirs: pl.Expr, df_theirs: str) -> pl.Expr:
    """Freedom of the sum of two estimated variances: (v + v')^2 / (v^2/df + v'^2/df')."""
    return (mine + theirs) ** 2 / (mine**2 / pl.col(df) + theirs**2 / pl.col(df_theirs))


def gains(mine: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Delta of every grown cell to scratch at equal parameters and tokens, its interval, and P(one run wins).

    Delta +- t error by Welch. A new run of each differs by Delta with variance s^2 (1 + 1/n) + s'^2 (1 + 1/n'):
    P = F_t(-Delta / its root), the level at which 0 bounds the next difference from above.
    """
    at = ("n_params", "budget")
    partner = theirs.select(*at, pl.col("loss", "n", "s", "df", "pool").name.suffix("_scratch"))
    pairs = mine.filter(pl.col("operator") != SCRATCH).join(partner, on=at, maintain_order="left")
    pairs = welch(pairs, "_scratch").with_columns(difference=pl.col("loss") - pl.col("loss_scratch"))
    return with_interval(pairs, "difference").with_columns(wins=one_run_wins(pairs))


def one_run_wins(pairs: pl.DataFrame) -> pl.Series:
    """P that one new grown run ends below one new run from scratch."""
    mine = pl.col("s") ** 2 * (1 + 1 / pl.col("n"))
    theirs = pl.col("s_scratch") ** 2 * (1 + 1 / pl.col("n_scratch"))
    freedom = satterthwaite(mine, "df", theirs, "df_scratch").alias("freedom")
    asked = pairs.select((-pl.col("difference") / (mine + theirs).sqrt()).alias("t"), freedom)
    return pl.Series(stats.t.cdf(asked["t"].to_numpy(), asked["freedom"].to_numpy()))


def with_interval(pairs: pl.DataFrame, value: str) -> pl.DataFrame:
    """low and high: value +- t error, by each row's error and freedom."""
    reach = stats.t.ppf((1 + LEVEL) / 2, pairs["freedom"].to_numpy()) * pairs["error"].to_numpy()
    return pairs.with_columns(low=pl.col(value) - pl.Series(reach), high=pl.col(value) + pl.Series(reach))


def grown(study: str, *, tuned: bool = True) -> pl.DataFrame:
    """Gains of every arm from bases of 20 tokens per parameter at the transferred learning rate."""
    rows = finals(study)
    usual = (pl.col("base_budget") == 20) & (pl.col("lr") == transferred(rows))
    return gains(cells(rows).filter(usual), scratch(rows, tuned=tuned)).with_columns(study=pl.lit(NAMES[study]))


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


def for_laws(study: str, *, tuned: bool = False) -> pl.DataFrame:
    """Run-table rows to fit: every run at the transferred learning rate, for a law is of one recipe.

    tuned: scratch at its own best rate at each size and budget instead, the grown runs at the transferred one. The
    best is then chosen by the runs that are fitted: where rates are equally good, up to 0.8 of a cell's standard
    errors too low. Of SZP's lambdas only 0.4, so that an operator is one arm. Losses as measured: nats, or mean
    square errors.
    """
    rows = annealed(study)
    usual = (pl.col("operator") != "szp") | (pl.col("arm") == MAIN)
    told = rows.filter(usual, pl.col("lr") == transferred(rows))
    if not tuned:
        return told
    of_scratch = cells(finals(study)).filter(pl.col("operator") == SCRATCH)
    best = of_scratch.sort("loss").group_by("n_params", "budget").first().select("n_params", "budget", "lr")
    mine = rows.filter(pl.col("operator") == SCRATCH).join(best, on=("n_params", "budget", "lr"), how="semi")
    return pl.concat([mine, told.filter(pl.col("operator") != SCRATCH)])


def scratch_and_main(rows: pl.DataFrame) -> pl.DataFrame:
    """Scratch and SZP at MAIN's lambda: what the joint laws are fitted to."""
    return rows.filter(pl.col("arm").is_in([SCRATCH, MAIN]))
