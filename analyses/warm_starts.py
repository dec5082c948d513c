"""The selection study (data/reference/selection.toml), and means over its bases with intervals, for its claims.

Symbols: c candidate, L held-out loss, nats per token, k the lag in steps. Bases are the independent runs: every
number is a mean over their seeds, and its interval Student's t of so many.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl
from reference import LEVEL
from scipy import stats

from scalegrow.plan.outcomes import SETTING, STOCHASTIC, outcomes
from scalegrow.plan.select import FEWEST_BASES, Setting
from scalegrow.runs.shipped import DATA
from scalegrow.runs.table import read_table

FINAL = 20  # tokens per parameter, the long lag
LAGS = (16, 128)
COPY, SZP = "tile", "szp:shrink=0.4"
PUBLISHED = ("tile", "perturbative_copy", "asymmetric_reset", "structured_non_clone")  # the pool of 2604.04281
ROUNDED = (*SETTING[:1], "g", "base_tpp")


class Mean(NamedTuple):
    """Over bases, with the reach of its interval."""

    value: float
    reach: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """mean +- t s / sqrt n."""
        n = len(values)
        if n < 2:
            return cls(float(values.mean()), math.nan)
        return cls(
            float(values.mean()), float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
        )

    @property
    def ends(self) -> dict[str, float]:
        """y, low and high, for a figure."""
        return {"y": self.value, "low": self.value - self.reach, "high": self.value + self.reach}

    @property
    def star(self) -> str:
        """* where nought lies outside the interval."""
        return "*" if abs(self.value) > self.reach else " "

    def __str__(self) -> str:
        return f"{self.value:+.4f} ± {self.reach:.4f}{self.star}"


def rows() -> pl.DataFrame:
    """Every grown run and budget of the study, with budget and g rounded."""
    found = outcomes(read_table(DATA / "reference" / "selection.parquet"))
    return found.with_columns(
        budget=pl.col("tpp").round().cast(pl.Int64),
        g=pl.col("growth_factor").round().cast(pl.Int64),
        base_tpp=pl.col("base_tpp").round(),
    )


def settings(found: pl.DataFrame) -> list[tuple[tuple[str, int, float], pl.DataFrame]]:
    """(regime, g, base tpp) and its rows, of the bases on which all of a setting's candidates ran."""
    mine = pl.col("candidate").n_unique()
    whole = found.filter(mine.over(*ROUNDED, "group") == mine.over(*ROUNDED))
    groups = whole.group_by(ROUNDED, maintain_order=True)
    return [(key, cell) for key, cell in groups if cell["group"].n_unique() >= FEWEST_BASES]  # type: ignore[misc]


def by_base(cell: pl.DataFrame, column: str) -> tuple[list[str], np.ndarray]:
    """Candidates, and a column of the final rows by base and candidate [G, C]."""
    final = cell.filter(pl.col("budget") == FINAL)
    wide = (
        final.pivot(on="candidate", index="group", values=column, maintain_order=True).sort("group").drop("group")
    )
    return wide.columns, wide.to_numpy()


def named(setting: tuple[str, int, float]) -> str:
    """A setting, for a person."""
    return f"{setting[0]}, g = {setting[1]}, base {setting[2]:g} tpp"


def used_at(setting: tuple[str, int, float]) -> Setting:
    """A setting as the model of plan/select.py knows it, at the end of the long lag."""
    regime, g, base_tpp = setting
    return Setting(regime == STOCHASTIC, FINAL, base_tpp, float(g))
