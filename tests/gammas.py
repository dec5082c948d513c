"""Studies of the initialisation's gamma that the law of laws/gamma.py itself has made."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import polars as pl

from scalegrow.laws.domain import Domain
from scalegrow.laws.gamma import GammaLaw, curve
from scalegrow.runs.table import checked

GAMMAS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
SIZES, BUDGETS = (3e4, 6e4, 1.2e5), (5.0, 10.0, 20.0)  # their geometric means, N0 and tpp0, are 6e4 and 10
MIDDLE = (6e4, 10.0)
MILD = np.array([0.85, 0.03, -0.05, -2.0, 0.1, -0.5, -0.5, 0.6])  # g0, gN, gD, a0, aN, aD, k, l
FLAT = np.array([0.85, 0.0, 0.0, -16.0, 0.0, 0.0, 0.0, 0.0])
SHARED = 0.9  # of a run's noise, by variance: common to its budgets


def study(
    theta: np.ndarray,
    noise: float = 0.0,
    seed: int = 0,
    *,
    sizes: Sequence[float] = SIZES,
    budgets: Sequence[float] = BUDGETS,
    gammas: Sequence[float] = GAMMAS,
    seeds: int = 3,
) -> pl.DataFrame:
    """A run table: every size, seed and gamma is a run, whose budgets share most of its noise; L* is free."""
    rng = np.random.default_rng(seed)
    runs = list(product(sizes, range(seeds), gammas))
    N, replica, gamma = (np.repeat(column, len(budgets)) for column in zip(*runs, strict=True))
    tpp, run = np.tile(budgets, len(runs)), np.repeat(np.arange(len(runs)), len(budgets))
    floor = 2 + rng.normal(0, 0.1, (len(sizes), seeds, len(budgets)))
    cell = np.searchsorted(sizes, N), replica, np.searchsorted(budgets, tpp)
    own, common = rng.normal(size=len(run)), rng.normal(size=len(runs))[run]
    told = curve(theta[None], gamma, np.log([N / MIDDLE[0], tpp / MIDDLE[1]]))[0]
    loss = floor[cell] + told + noise * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own)
    columns = {"n_params": N, "tokens": N * tpp, "gamma": gamma, "seed": replica, "loss": loss}
    constant = {"annealed": pl.lit(True), "data": pl.lit("simulated"), "lr": pl.lit(0.005)}
    return checked(pl.DataFrame(columns | {"run": [f"run {i}" for i in run]}).with_columns(**constant), "study")


def law_of(theta: np.ndarray, draws: int = 2) -> GammaLaw:
    """The law with these coefficients, known without doubt."""
    domain = Domain((("N", SIZES[0], SIZES[-1]), ("tpp", BUDGETS[0], BUDGETS[-1])))
    known = np.tile(theta, (draws, 1))
    return GammaLaw(theta, known, MIDDLE, (GAMMAS[0], GAMMAS[-1]), domain, 0.0, 63, "simulated")
