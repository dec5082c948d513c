"""Simulated studies of warm starts, whose truth the tests of their selection know."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from scalegrow.laws.points import FloatArray
from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC
from scalegrow.plan.select import TERMS, Setting

NAMES = ("zero_pad", "tile", "szp:shrink=0.4", "split", "tile_noise", "zero_copy", "net2net")
N = 60e3
Cell = tuple[str, float, float]  # regime, g, base's tokens per parameter
CELLS: tuple[Cell, ...] = (
    (DETERMINISTIC, 4.0, 16.0),
    (DETERMINISTIC, 4.0, 64.0),
    (DETERMINISTIC, 3.0, 16.0),
    (STOCHASTIC, 4.0, 16.0),
)
BUDGETS = (5.0, 20.0)
LAG = 16


@dataclass(frozen=True)
class Truth:
    """The effects (C, K) of candidates and what runs scatter by, nats.

    by_base, by_run, by_loss: standard deviations of what a candidate's runs of one base have in common, its losses
    at the budgets of one run, and of each loss alone. root (C, C): candidates scatter by root @ normal. slope: of
    the final loss on the probe's surprise, which has standard deviations probe_base and probe_run.
    """

    coefficients: FloatArray
    by_base: float = 0.0
    by_run: float = 0.0
    by_loss: float = 0.0
    root: FloatArray | None = None
    slope: float = 0.0
    probe_base: float = 0.0
    probe_run: float = 0.0
    names: tuple[str, ...] = NAMES

    @classmethod
    def draw(
        cls, rng: np.random.Generator, spread: float = 0.02, *, alike: bool = True, **other: float
    ) -> "Truth":
        """Effects of this standard deviation; candidates vary alike and independently, or neither."""
        C = len(NAMES)
        coefficients = spread * rng.standard_normal((C, len(TERMS))) * [1, 0.3, 0.2, 0.2, 0.3, 0.1, 0.1]
        return cls(coefficients, root=None if alike else unequal(rng, C), **other)

    def scatter(self, rng: np.random.Generator, std: float) -> FloatArray:
        """(C,) of what candidates scatter by."""
        drawn = std * rng.standard_normal(len(self.names))
        return drawn if self.root is None else self.root @ drawn


def unequal(rng: np.random.Generator, C: int) -> FloatArray:
    """The root of a covariance with a common factor and variances that differ by a factor of some."""
    std, factor = np.exp(rng.normal(0, 0.5, C)), rng.standard_normal(C)
    root: FloatArray = np.linalg.cholesky(std[:, None] * (0.6 * np.eye(C) + 0.4 * np.outer(factor, factor)) * std)
    return root


def simulated(
    truth: Truth,
    rng: np.random.Generator,
    bases: Sequence[int] = range(5),
    cells: Sequence[Cell] = CELLS,
    budgets: Sequence[float] = BUDGETS,
) -> pl.DataFrame:
    """Rows as `outcomes` makes them. What all candidates of a run share is in no coefficient."""
    rows = []
    for base in bases:
        own, own_probe = truth.scatter(rng, truth.by_base), truth.scatter(rng, truth.probe_base)
        for regime, g, base_tpp in cells:
            surprise = own_probe + truth.scatter(rng, truth.probe_run)
            off = own + truth.slope * surprise + truth.scatter(rng, truth.by_run)
            probe = truth.coefficients @ features((regime, g, base_tpp), 10.0) + surprise + rng.normal(3, 0.2)
            for tpp in budgets:
                loss = truth.coefficients @ features((regime, g, base_tpp), tpp) + off + rng.normal(1.5, 0.2)
                loss = loss + truth.scatter(rng, truth.by_loss)
                setting = (base, base + 100 * (regime == STOCHASTIC), regime, N, g, base_tpp, tpp)
                rows += [
                    (f"{setting[:-1]} {name}", *setting, name, loss[i], probe[i])
                    for i, name in enumerate(truth.names)
                ]
    columns = "run group data_seed regime n_params growth_factor base_tpp tpp candidate loss"
    made = pl.DataFrame(rows, [*columns.split(), f"loss_{LAG}"], orient="row")
    return made.with_columns(pl.lit(0.1).alias(f"kl_{LAG}"), deeper=False)


def features(cell: Cell, tpp: float) -> FloatArray:
    regime, g, base_tpp = cell
    return Setting(regime == STOCHASTIC, tpp, base_tpp, g).features


def of_base(rows: pl.DataFrame, base: int, cell: Cell, tpp: float, column: str = "loss") -> dict[str, float]:
    """A column by candidate, of one base at one setting."""
    regime, g, base_tpp = cell
    found = rows.filter(group=base, regime=regime, growth_factor=g, base_tpp=base_tpp, tpp=tpp)
    return dict(found.select("candidate", column).iter_rows())
