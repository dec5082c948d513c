"""The law of the loss against gamma, fitted to a run table.

L* is free in every cell (one size, budget and seed), whose runs saw the same batches. gN, aN, gD, aD are nought
where the runs vary no size, or no budget. Weighted least squares; draws are refits with the signs of whole runs at
random, since the budgets of a run share a trunk (wild-cluster, laws/uncertainty.py). Symbols as in laws/gamma.py.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.domain import Domain
from scalegrow.laws.gamma import LEAST, MOST, NAMES, GammaLaw, curve, curve_gradient
from scalegrow.laws.gamma_rows import CELL, gamma_rows, value_range
from scalegrow.laws.loss import LeastSquares
from scalegrow.laws.newton import Problem, minimise
from scalegrow.laws.points import FloatArray
from scalegrow.laws.uncertainty import random_signs, without_leverage

IntArray = npt.NDArray[np.intp]
START = np.array([0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.1])
STARTS = (0.25, 0.5, 0.75)  # of g0, between the least gamma measured and the largest
DRAWS = 1000
RIDGE = 5.0  # var(ln chi^2_1) over a prior variance of 1 for ln v's effects
WEIGHINGS = 2
LEAST_SQUARE = 1e-4  # of the mean square residual, added before logarithms
REACH = math.log(1.5)  # between the least and the largest: sizes and budgets that lie closer tell no trend


def fit_gamma(rows: pl.DataFrame, draws: int = DRAWS, seed: int = 0) -> GammaLaw:
    """The law of a run table's annealed losses from scratch, which differ in gamma, seed, size and budget alone.

    Raises InputError on other tables (gamma_rows), and on fewer runs than the law needs. The minimum may lie at an
    end of the measured gammas, or beyond.
    """
    rows = gamma_rows(rows)
    middle = _centre(rows["n_params"]), _centre(rows["tpp"])
    told = Cells.of(rows, middle)
    if told.freedom < 1:
        raise InputError(
            f"{told.n_runs} runs cannot determine {told.free.sum()} coefficients and the loss of {told.groups} "
            "sizes and seeds: sweep more gammas, or more seeds."
        )
    told, theta = weighted_fit(told)
    noise = math.sqrt(float(np.sum(told.residuals(theta) ** 2)) / told.freedom_of_losses)
    return GammaLaw(
        theta,
        _refits(told, theta, draws, np.random.default_rng(seed)),
        middle,
        value_range(rows["gamma"]),
        Domain((("N", *value_range(rows["n_params"])), ("tpp", *value_range(rows["tpp"])))),
        noise,
        told.n_runs,
        str(rows["data"].drop_nulls().first() or "unnamed data"),
    )


@dataclass(frozen=True)
class Cells:
    """Losses less the mean of their cell, and the curve so centred: a Surface of n points, its state the gradient.

    where: ln N / N0 and ln tpp / tpp0 [2, n]. cell numbers the rows whose L* is shared, run the independent runs.
    groups: how many sizes and seeds there are. root [n]: of each loss' weight; loss and curve come times it.
    """

    gamma: FloatArray
    loss: FloatArray
    where: FloatArray
    cell: IntArray
    run: IntArray
    groups: int
    root: FloatArray

    @classmethod
    def of(cls, rows: pl.DataFrame, middle: tuple[float, float]) -> "Cells":
        """From rows of gamma_rows; middle: N0 and tpp0."""
        where = np.log(rows.select(pl.col("n_params") / middle[0], pl.col("tpp") / middle[1]).to_numpy().T)
        cell, run = _numbered(rows, CELL), _numbered(rows, ("run",))
        groups = rows.select("n_params", "seed").n_unique()
        gamma, loss = rows["gamma"].to_numpy(), rows["loss"].to_numpy()
        made = cls(gamma, loss, where, cell, run, groups, np.ones(len(loss)))
        return replace(made, loss=made.centred(made.loss))

    def weighted(self, theta: FloatArray) -> "Cells":
        """With weights 1 / v from the residuals r: ln v = an effect of gamma + one of the size and budget.

        Multiplicative heteroscedasticity (Harvey 1976), by ridge regression of ln r^2 so that few runs say little:
        far from the best gamma seeds lie ten times further apart. The median weight is 1.
        """
        squares = np.square(self.residuals(theta) / self.root)
        z = np.log(squares + LEAST_SQUARE * squares.mean())
        x = np.concatenate([_one_hot(self.gamma), _one_hot(self.where.sum(0) + 1e3 * self.where[0])], axis=1)
        v = x @ np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (z - z.mean()))
        root = np.exp((np.median(v) - v) / 2)
        return replace(self, root=root, loss=replace(self, root=root).centred(self.loss / self.root))

    @property
    def n_runs(self) -> int:
        """How many runs there are."""
        return int(self.run.max()) + 1

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which coefficients the rows can tell: trends need two sizes, or budgets, apart."""
        moves = np.ptp(self.where, axis=1) > REACH
        return np.array([True, *moves, True, *moves, True, True])

    @property
    def freedom(self) -> int:
        """Runs less the free coefficients and an L* for every size and seed; no more than that of the losses."""
        return min(self.n_runs - self.groups - int(self.free.sum()), self.freedom_of_losses)

    @property
    def freedom_of_losses(self) -> int:
        """Losses less the free coefficients and every L*."""
        return len(self.loss) - int(self.cell.max()) - 1 - int(self.free.sum())

    def centred(self, values: FloatArray) -> FloatArray:
        """root x (values [.., n] minus their cell's weighted mean), which takes L* out."""
        return self.projected(self.root * values)

    def projected(self, values: FloatArray) -> FloatArray:
        """What weighted values [.., n] hold beside their cell's L*; rows of a cell follow one another."""
        first = np.flatnonzero(np.diff(self.cell, prepend=-1))
        sums = np.add.reduceat(self.root * values, first, axis=-1)
        return np.asarray(values - self.root * (sums / np.bincount(self.cell, self.root**2))[..., self.cell])

    def problem(self) -> Problem:
        """Least squares within wide bounds; coefficients that are not free stay nought."""
        ones = np.ones(len(self.loss))
        return Problem(self, self.loss, ones, LeastSquares(), LEAST, MOST, self.free)

    def value(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The centred curve [M, n], and its gradient [M, n, 8]."""
        gradient = self.centred(curve_gradient(theta, self.gamma, self.where))
        return self.centred(curve(theta, self.gamma, self.where)), gradient.transpose(1, 2, 0)

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """Of the centred curve at one theta [n, 8]."""
        return self.value(theta[None])[1][0]

    def gradient(self, state: FloatArray, b: FloatArray) -> FloatArray:
        """sum_n b_n grad f_n [M, 8]."""
        return np.asarray(np.matmul(b[:, None], state)[:, 0])

    def gram(self, state: FloatArray, a: FloatArray) -> FloatArray:
        """sum_n a_n grad f_n grad f_n' [M, 8, 8]."""
        return np.asarray(np.matmul((a[..., None] * state).transpose(0, 2, 1), state))

    def curvature(self, state: FloatArray, b: FloatArray) -> FloatArray:
        """Nought: residuals are small, and Gauss and Newton's method does without."""
        return np.zeros((len(state), len(NAMES), len(NAMES)))

    def residuals(self, theta: FloatArray) -> FloatArray:
        """Of the centred losses [n]."""
        return self.loss - self.value(theta[None])[0][0]


def _one_hot(values: FloatArray) -> FloatArray:
    """[n, kinds]: which of its kinds each value is."""
    _, kind = np.unique(values.round(9), return_inverse=True)
    return np.eye(int(kind.max()) + 1)[kind]


def _numbered(rows: pl.DataFrame, by: tuple[str, ...]) -> IntArray:
    """The rows' groups, numbered in order of appearance: their names decide nothing."""
    first = rows.with_row_index("first").select(pl.col("first").min().over(by).rank("dense"))
    return first.to_series().to_numpy().astype(np.intp) - 1


def _centre(values: pl.Series) -> float:
    """The geometric mean."""
    return math.exp(float(np.log(values.to_numpy()).mean()))


def weighted_fit(told: Cells) -> tuple[Cells, FloatArray]:
    """The cells with weights from their own residuals, and the coefficients under them (iterated twice)."""
    for _ in range(WEIGHINGS):
        told = told.weighted(_least_squares(told))
    return told, _least_squares(told)


def _least_squares(told: Cells) -> FloatArray:
    """The best of the optima that the starts lead to."""
    starts = np.tile(START, (len(STARTS), 1))
    starts[:, 0] = told.gamma.min() + np.ptp(told.gamma) * np.array(STARTS)
    found = minimise(told.problem(), np.where(told.free, starts, 0.0))
    return found.theta[found.objective.argmin()]


def _refits(told: Cells, theta: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """What the same runs could have said [draws, 8]."""
    signs = random_signs(told.n_runs, draws, rng)[:, told.run]
    y = told.loss - told.residuals(theta) + signs * inflated(told, theta)
    return minimise(replace(told.problem(), y=told.projected(y)), np.tile(theta, (draws, 1))).theta


def inflated(told: Cells, theta: FloatArray) -> FloatArray:
    """A run's residuals about the linearised law of all others (CR3), stretched as Student's t is for few runs."""
    jacobian, residuals = told.jacobian(theta)[:, told.free], told.residuals(theta)
    same_cell = np.eye(len(residuals)) - told.projected(np.eye(len(residuals)))
    hat = same_cell + jacobian @ np.linalg.pinv(jacobian)
    out = residuals.copy()
    for run in range(told.n_runs):
        rows = np.flatnonzero(told.run == run)
        out[rows] = without_leverage(hat[np.ix_(rows, rows)], residuals[rows])
    freedom = max(told.freedom, 3)
    return out * math.sqrt(freedom / (freedom - 2))
