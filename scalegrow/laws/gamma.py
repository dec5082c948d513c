"""The loss against gamma, the exponent of the initialisation's std = fan_in^-gamma: its minimum, and how it moves.

Symbols: N parameters, D tokens, tpp = D / N, gamma* the best gamma, u = gamma - gamma*, L loss, nats per token.

    L(gamma; N, D) = L* + A (u^2 + k u^3 + l u^4)
    gamma* = g0 + gN ln(N / N0) + gD ln(tpp / tpp0)      ln A = a0 + aN ln(N / N0) + aD ln(tpp / tpp0)

L* is free in every cell (one size, budget and seed), whose runs saw the same batches, so only differences over
gamma count. gN, aN, gD, aD are nought where the runs vary no size, or no budget. Least squares; errors are robust
to runs, whose budgets share a trunk. gamma is that of arXiv 2606.17945; the form is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.domain import Domain
from scalegrow.laws.points import FloatArray
from scalegrow.laws.store import rounded
from scalegrow.runs.table import SCRATCH

IntArray = npt.NDArray[np.intp]
STANDARD = 0.5  # of gamma: std = fan_in^-1/2
NAMES = ("g0", "gN", "gD", "a0", "aN", "aD", "k", "l")
START = np.array([0.8, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.1])
LEAST, MOST = (-2.0, -1.0, -1.0, -16.0, -3.0, -3.0, -5.0, 0.0), (4.0, 1.0, 1.0, 6.0, 3.0, 3.0, 5.0, 20.0)
FEWEST_GAMMAS = 5  # L*, A, gamma*, k and l
DRAWS = 1000
STEP = 1e-6  # of a coefficient, for the Jacobian
REACH = math.log(1.5)  # from the middle: sizes and budgets that lie closer tell no trend
NEEDED = ("run", "n_params", "tokens", "loss", "gamma", "seed", "annealed")


@dataclass(frozen=True)
class GammaLaw:
    """A fitted curve: coefficients (8,) in the order of NAMES, draws (M, 8) of them, and what it rests on.

    middle: N0 and tpp0. gammas: the least and the largest measured. domain: N and tpp of the runs. noise: the
    standard deviation of a run about the curve of its cell, nats per token.
    """

    coefficients: FloatArray
    draws: FloatArray
    middle: tuple[float, float]
    gammas: tuple[float, float]
    domain: Domain
    noise: float
    n_runs: int
    data: str

    def change(self, gamma: FloatArray, N: float, tpp: float) -> tuple[FloatArray, FloatArray]:
        """L(gamma) - L(STANDARD) at every gamma: the estimate [n], and of every draw [M, n]."""
        where = np.log([N / self.middle[0], tpp / self.middle[1]])
        both = np.concatenate([self.coefficients[None], self.draws])
        found = curve(both, gamma, where) - curve(both, np.array([STANDARD]), where)
        return found[0], found[1:]

    def to_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "coefficients": dict(zip(NAMES, rounded(self.coefficients), strict=True)),
            "middle": list(self.middle),
            "gammas": list(self.gammas),
            "domain": {name: [low, high] for name, low, high in self.domain.ranges},
            "noise": self.noise,
            "runs": self.n_runs,
            "data": self.data,
            "draws": [rounded(draw) for draw in self.draws],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "GammaLaw":
        """The law that `to_data` wrote. Raises KeyError, TypeError or ValueError on damage."""
        draws = np.array(data["draws"], dtype=float)
        coefficients = np.array([data["coefficients"][name] for name in NAMES], dtype=float)
        if draws.ndim != 2 or draws.shape[1] != len(NAMES) or not np.isfinite([*draws, coefficients]).all():
            raise ValueError("draws do not match the law")
        (N0, tpp0), (low, high) = data["middle"], data["gammas"]
        domain = Domain(tuple((name, *edges) for name, edges in data["domain"].items()))
        facts = float(data["noise"]), int(data["runs"]), str(data["data"])
        return cls(coefficients, draws, (float(N0), float(tpp0)), (float(low), float(high)), domain, *facts)


def curve(theta: FloatArray, gamma: FloatArray, where: FloatArray) -> FloatArray:
    """A (u^2 + k u^3 + l u^4) of M coefficients [M, 8] at gamma [n].

    where: ln N / N0 and ln tpp / tpp0, one place [2] or each gamma's own [2, n].
    """
    g0, gN, gD, a0, aN, aD, k, l = (column[:, None] for column in theta.T)  # noqa: E741
    u = gamma - (g0 + gN * where[0] + gD * where[1])
    return np.asarray(np.exp(a0 + aN * where[0] + aD * where[1]) * u**2 * (1 + k * u + l * u**2))


@dataclass(frozen=True)
class _Rows:
    """What is fitted: y = L, and where; cell numbers the rows whose L* is shared, run the independent runs."""

    gamma: FloatArray
    loss: FloatArray
    where: FloatArray
    cell: IntArray
    run: IntArray

    @classmethod
    def of(cls, rows: pl.DataFrame, middle: tuple[float, float]) -> "_Rows":
        where = np.log(rows.select(pl.col("n_params") / middle[0], pl.col("tpp") / middle[1]).to_numpy().T)
        cell = rows.select(pl.struct("n_params", "tpp", "seed").rank("dense")).to_series()
        run = rows["run"].rank("dense")
        numbers = [(each.to_numpy() - 1).astype(np.intp) for each in (cell, run)]
        return cls(rows["gamma"].to_numpy(), rows["loss"].to_numpy(), where, *numbers)

    @property
    def free(self) -> Any:
        """Which coefficients the rows can tell: trends need two sizes, or budgets, apart."""
        moves = np.abs(self.where).max(1) > REACH
        return np.array([True, *moves, True, *moves, True, True])

    def centred(self, values: FloatArray) -> FloatArray:
        """values [.., n] minus their cell's mean, which takes L* out."""
        means = np.zeros((self.cell.max() + 1, *values.shape[:-1]))
        np.add.at(means, self.cell, values.T)
        return np.asarray(values - (means.T / np.bincount(self.cell))[..., self.cell])

    def predicted(self, theta: FloatArray) -> FloatArray:
        """The centred curve [n]."""
        return self.centred(curve(theta[None], self.gamma, self.where)[0])


def fit_gamma(rows: pl.DataFrame, seed: int = 0) -> GammaLaw:
    """The law of annealed losses from scratch that differ in gamma, seed, size and budget alone.

    Raises InputError where columns or gammas are missing, losses are of several kinds of data, or no minimum lies
    within the measured gammas.
    """
    rows = _checked(rows)
    middle = _centre(rows["n_params"]), _centre(rows["tpp"])
    told = _Rows.of(rows, middle)
    theta = _least_squares(told)
    covariance, noise, freedom = _robust(told, theta)
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal(np.zeros(len(NAMES)), covariance, DRAWS, method="svd")
    draws = theta + normal * np.sqrt(freedom / rng.chisquare(freedom, (DRAWS, 1)))
    return GammaLaw(
        theta,
        np.clip(draws, LEAST, MOST),
        middle,
        _range(rows["gamma"]),
        Domain((("N", *_range(rows["n_params"])), ("tpp", *_range(rows["tpp"])))),
        noise,
        rows["run"].n_unique(),
        str(rows["data"][0]),
    )


def _centre(values: pl.Series) -> float:
    """The geometric mean."""
    return math.exp(float(np.log(values.to_numpy()).mean()))


def _range(values: pl.Series) -> tuple[float, float]:
    found = values.to_numpy()
    return float(found.min()), float(found.max())


def _checked(rows: pl.DataFrame) -> pl.DataFrame:
    """Annealed rows from scratch, with tpp. Raises InputError."""
    if missing := [name for name in NEEDED if name not in rows.columns]:
        raise InputError(f"the table has no column {missing[0]!r}: give one that scalegrow sweep has written.")
    rows = rows.filter(pl.col("annealed"), pl.col("operator") == SCRATCH, pl.col("gamma").is_not_null())
    rows = rows.with_columns(tpp=(pl.col("tokens") / pl.col("n_params")).round(1))
    if (data := rows["data"].unique()).len() > 1:
        raise InputError(f"losses on {data[0]!r} and {data[1]!r} do not compare: fit one kind of data at a time.")
    if (there := rows["gamma"].n_unique()) < FEWEST_GAMMAS:
        raise InputError(f"{there} different gammas draw no curve: sweep {FEWEST_GAMMAS} or more from scratch.")
    return rows


def _least_squares(told: _Rows) -> FloatArray:
    from scipy.optimize import least_squares

    free, y = told.free, told.centred(told.loss)
    bounds = np.array([LEAST, MOST])[:, free]

    def residuals(part: FloatArray) -> FloatArray:
        return y - told.predicted(_filled(part, free))

    found = least_squares(residuals, START[free], bounds=bounds, x_scale=(bounds[1] - bounds[0]) / 8)
    return _filled(found.x, free)


def _filled(part: FloatArray, free: Any) -> FloatArray:
    """All coefficients: those that are free, and nought."""
    theta = np.zeros(len(NAMES))
    theta[free] = part
    return theta


def _robust(told: _Rows, theta: FloatArray) -> tuple[FloatArray, float, int]:
    """The covariance of the coefficients, robust to runs (CR1), the noise of a run and the freedom, runs - p."""
    free = told.free
    jacobian = np.zeros((len(told.loss), len(NAMES)))
    for i in np.flatnonzero(free):
        step = np.zeros(len(NAMES))
        step[i] = STEP
        jacobian[:, i] = (told.predicted(theta + step) - told.predicted(theta - step)) / (2 * STEP)
    residuals = told.centred(told.loss) - told.predicted(theta)
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    scores = np.zeros((told.run.max() + 1, len(NAMES)))
    np.add.at(scores, told.run, jacobian * residuals[:, None])
    runs, p, n = len(scores), int(free.sum()), len(residuals)
    inside = n - p - (told.cell.max() + 1)
    correction = runs / (runs - 1) * (n - 1) / max(inside, 1)
    noise = math.sqrt(float(residuals @ residuals) / max(inside, 1))
    return correction * bread @ scores.T @ scores @ bread, noise, max(runs - p, 3)
