"""The gamma studies (data/reference/gamma.toml, gamma_text.toml), and differences over gamma, for their claims.

Symbols: gamma the exponent of std = fan_in^-gamma, N parameters, L held-out loss, nats per token. Runs of one
size, seed and setting saw the same batches, so differences to gamma = 0.5 are paired by seed.
"""

import polars as pl
from warm_starts import Mean

from scalegrow.laws.gamma import STANDARD
from scalegrow.runs.shipped import DATA
from scalegrow.runs.table import SCRATCH, read_table

STUDIES = {"gamma": "story language", "gamma_text": "English novels, bytes"}
EPS, GATE = "model.norm_eps", "model.shape.gate"
# Beyond it seeds lie 0.1 nats and more apart (gamma_curve.py prints it), and no smooth curve runs through them.
LARGEST = {"gamma": 1.3, "gamma_text": 1.1}
PLAIN = {EPS: "1e-05", GATE: "none"}
CELL = ("n_params", "budget", EPS, GATE)


def rows(study: str) -> pl.DataFrame:
    """Every loss of a study, with `budget` in tokens per parameter on annealed ones."""
    found = read_table(DATA / "reference" / f"{study}.parquet")
    absent = {
        name: pl.lit(value) for name, value in PLAIN.items() if name not in found.columns
    }  # alike in all runs
    found = found.with_columns(**absent)
    return found.with_columns(budget=pl.col("stage").str.strip_suffix("tpp").cast(pl.Int64, strict=False))


def scratch(study: str) -> pl.DataFrame:
    """Annealed losses from scratch, at every setting of norm epsilon and gate."""
    return rows(study).filter(pl.col("operator") == SCRATCH, pl.col("annealed"))


def plain(found: pl.DataFrame) -> pl.DataFrame:
    """Those with an epsilon of 1e-5 and no gate."""
    return found.filter(*(pl.col(name) == value for name, value in PLAIN.items()))


def fitted(study: str) -> pl.DataFrame:
    """What a study's law is fitted to: the plain runs, up to the gamma from where on seeds lie far apart."""
    return plain(scratch(study)).filter(pl.col("gamma") <= LARGEST[study])


def changes(found: pl.DataFrame, columns: tuple[str, ...] = ("loss",)) -> pl.DataFrame:
    """Columns minus those at gamma = 0.5 of the same size, budget, setting and seed."""
    at = (*CELL, "seed")
    standard = found.filter(pl.col("gamma") == STANDARD).select(*at, pl.col(columns).name.suffix("_standard"))
    paired = found.join(standard, on=at)
    return paired.with_columns(pl.col(name) - pl.col(f"{name}_standard") for name in columns)


def mean(values: pl.Series) -> Mean:
    """Over seeds, with Student's t at 95 %."""
    return Mean.of(values.to_numpy())
