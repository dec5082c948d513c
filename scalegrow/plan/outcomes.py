"""What became of warm starts: a row for each that was trained on, from a study's run table.

A candidate is an operator with its settings, a whole training state (arXiv 2604.04281). Symbols: L held-out loss,
g growth factor, k the lag in steps.
"""

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.table import SCRATCH

NEEDED = ("run", "stage", "step", "arm", "base", "seed", "data_seed", "n_params", "base_budget", "growth_factor")
DETERMINISTIC, STOCHASTIC = "deterministic", "stochastic"
SETTING = ("regime", "n_params", "growth_factor", "base_tpp")  # with a base: what candidates are compared within


def outcomes(rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each grown run and budget: its setting, its base's seed, `candidate`, `tpp` and `loss`, annealed.

    regime is deterministic where the run went on with its base's batch order and without dropout. Runs whose base
    is not in the table are left out, since only it says which order was its own. `signal` columns (zero_step_kl,
    kl_K, escape_K, loss_K after K steps, area: the mean loss of the trunk from the first lag on) come along.
    Raises InputError where the table is not a study's.
    """
    if missing := [name for name in NEEDED if name not in rows.columns]:
        raise InputError(f"the table has no column {missing[0]!r}: give one that scalegrow sweep has written.")
    bases = rows.select("run", pl.col("seed", "data_seed").name.suffix("_base")).unique()
    grown = rows.filter(pl.col("operator") != SCRATCH).join(bases, left_on="base", right_on="run")
    if grown.is_empty():
        raise InputError("the table holds no grown run with its base: sweep a study with factors above 1.")
    dropout = pl.col("model.dropout").cast(pl.Float64) > 0 if "model.dropout" in rows.columns else pl.lit(False)
    other = dropout | (pl.col("data_seed") != pl.col("data_seed_base"))
    grown = grown.with_columns(
        regime=pl.when(other).then(pl.lit(STOCHASTIC)).otherwise(pl.lit(DETERMINISTIC)),
        base_tpp=pl.col("base_budget"),
        candidate=pl.col("arm"),
        group=pl.col("seed_base"),
        tpp=pl.col("tokens") / pl.col("n_params"),
    )
    final = grown.filter(pl.col("annealed"))
    return final.join(_on_the_way(grown), on="run", how="left").sort(*SETTING, "group", "tpp", "candidate")


def _on_the_way(grown: pl.DataFrame) -> pl.DataFrame:
    """By run: loss_K at each lag, and the area under the trunk's curve from the first lag on over its tokens."""
    trunk = grown.filter(~pl.col("annealed")).sort("run", "step")
    lags = [int(name.removeprefix("kl_")) for name in grown.columns if name.startswith("kl_")]
    at_lags = [pl.col("loss").filter(pl.col("step") == lag).first().alias(f"loss_{lag}") for lag in sorted(lags)]
    width = pl.col("tokens").diff()
    mean = (pl.col("loss") + pl.col("loss").shift(1)) / 2
    return trunk.group_by("run").agg(*at_lags, area=(width * mean).sum() / width.sum())
