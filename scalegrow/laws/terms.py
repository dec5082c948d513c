"""Laws that are sums of positive terms, and how the fitter finds seeds for them.

Convention: such a form lists its scale coefficients first, one per term, in the order of the terms.
"""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scalegrow.laws.law import Form, Surface
from scalegrow.laws.points import FloatArray, Points
from scalegrow.laws.surfaces import LinearTerms

SEED_ROWS = 500  # seeds need the shape of the data, not every row
SEEDS = 8


@dataclass(frozen=True)
class SumForm(Form):
    """A form L = sum_k exp(t_k), each t_k with a scale coefficient of its own."""

    scales_are_shares: ClassVar[bool] = True

    @abstractmethod
    def log_terms(self, theta: FloatArray, points: Points) -> FloatArray:
        """t (M, n, K)."""

    @abstractmethod
    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """Values to try for each exponent, in the order of theta after the scales."""

    def starts(self, points: Points, y: FloatArray) -> FloatArray:
        """With the exponents fixed the scales are linear in L: solve for them over the whole grid."""
        rows = np.unique(np.linspace(0, len(points) - 1, SEED_ROWS).astype(int))
        points, y = points.take(rows), y[rows]
        exponents = np.array(list(product(*self.exponent_grid())))
        n_scales = len(self.coefficients) - exponents.shape[1]
        theta = np.hstack([np.zeros((len(exponents), n_scales)), exponents])
        terms = self.log_terms(theta, points)
        amplitudes, misfit = solve_amplitudes(terms, y)
        theta[:, :n_scales] = np.log(amplitudes)
        return theta[np.argsort(misfit)[:SEEDS]]


def solve_amplitudes(terms: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scales (M, K) of least relative squared error, kept positive, and that error (M,).

    A negative solution is replaced by a thousandth of the loss, which the fitter can still move.
    """
    basis = np.exp(np.clip(terms - y[:, None], -50, 50))
    normal = np.einsum("mnk,mnl->mkl", basis, basis)
    normal += 1e-12 * np.eye(normal.shape[1]) * np.einsum("mkk->m", normal)[:, None, None]
    amplitudes = np.linalg.solve(normal, basis.sum(axis=1)[..., None])[..., 0]
    floor = 1e-3 / basis.mean(axis=1)
    amplitudes = np.maximum(amplitudes, floor)
    misfit = np.square(np.einsum("mnk,mk->mn", basis, amplitudes) - 1).sum(axis=1)
    return amplitudes, misfit


@dataclass(frozen=True)
class LinearForm(SumForm):
    """A sum whose log-terms are linear in theta: the law is one short `features` method."""

    @abstractmethod
    def features(self, points: Points) -> FloatArray:
        """x (n, K, p): t_k = x_k . theta."""

    def surface(self, points: Points) -> Surface:
        """ln of the sum, by constant tables."""
        return LinearTerms(self.features(points))

    def log_terms(self, theta: FloatArray, points: Points) -> FloatArray:
        """t_k = x_k . theta."""
        terms: FloatArray = np.einsum("mp,nkp->mnk", theta, self.features(points))
        return terms


def table(n: int, rows: list[dict[int, npt.ArrayLike]], p: int) -> FloatArray:
    """x (n, K, p) from one {coefficient index: values} per term; all else is 0."""
    x = np.zeros((n, len(rows), p))
    for k, row in enumerate(rows):
        for i, values in row.items():
            x[:, k, i] = values
    return x
