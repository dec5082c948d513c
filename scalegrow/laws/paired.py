"""The paired-difference model: ln(L_grown/L_scratch) at the same N and D, by regression.

    ln(L_grown/L_scratch) = rho ln g - tau ln(1 + D_base/D) + noise, one rho and tau per operator

What N and D do to both arms alike cancels, so neither E nor an exponent of N is needed: a rival to
the joint laws for the sign of the difference, silent about the losses themselves. Standard errors are
robust to clusters (runs that share a base) with statsmodels' small-sample correction.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scalegrow.errors import InputError
from scalegrow.laws.forecast import LEVEL
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import FloatArray, Points


@dataclass(frozen=True)
class PairedFit:
    """Coefficients rho and tau of each operator, their cluster-robust covariance, residual scale, t's freedom."""

    operators: tuple[str, ...]
    coefficients: FloatArray
    covariance: FloatArray
    scale: float
    freedom: int

    def predict(self, points: Points, level: float = LEVEL) -> tuple[FloatArray, FloatArray, FloatArray]:
        """ln(L_grown/L_scratch): the mean (n,), and one new pair's interval at the level."""
        from scipy.stats import t

        x = features(points, self.operators)
        mean: FloatArray = x @ self.coefficients
        spread = np.sqrt(np.einsum("ni,ij,nj->n", x, self.covariance, x) + self.scale**2)
        half = t.ppf((1 + level) / 2, self.freedom) * spread
        return mean, mean - half, mean + half

    def p_values(self) -> FloatArray:
        """Two-sided t-tests that each coefficient is 0."""
        from scipy.stats import t

        ratio = np.abs(self.coefficients) / np.sqrt(np.diag(self.covariance))
        values: FloatArray = 2 * t.sf(ratio, self.freedom)
        return values


def features(points: Points, operators: tuple[str, ...]) -> FloatArray:
    """[ln g, -ln(1 + D_base/D)] in the columns of each row's operator, (n, 2 x operators)."""
    effects = np.stack([np.log(points.g), -np.log1p(points.D_base / points.D)], axis=1)
    return np.hstack([effects * (points.operator == name)[:, None] for name in operators])


def fit_paired(
    observations: Observations, operators: tuple[str, ...], trained: npt.NDArray[np.bool_] | None = None
) -> PairedFit:
    """Least squares on the pairs of the table, clusters by base; trained: mask of rows that may be used."""
    import statsmodels.api as sm

    usable = np.ones(len(observations), dtype=bool) if trained is None else trained
    pairs = [(i, j) for i, j in observations.pairs() if usable[i] and usable[j]]
    need = 2 * len(operators) + 2
    if len(pairs) < need:
        raise InputError(
            f"{len(pairs)} grown-scratch pairs cannot determine a paired model: give at least {need}."
        )
    rows, partners = np.array(pairs, dtype=np.intp).T
    clusters = observations.cluster[rows]
    result: Any = sm.OLS(
        observations.y[rows] - observations.y[partners], features(observations.points.take(rows), operators)
    ).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    freedom = max(len(np.unique(clusters)) - 1, 1)
    return PairedFit(
        operators,
        np.asarray(result.params, dtype=float),
        np.asarray(result.cov_params(), dtype=float),
        float(np.sqrt(result.scale)),
        freedom,
    )
