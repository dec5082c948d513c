"""What runs that are not yet made would tell about a decision, by the draws of a fit.

Draws are what is believed: each predicts every loss that could be observed, and the decision. C is the
covariance of these predictions. An observation of coordinate i with noise of variance v updates it to
    C' = C - c c' / (v + C_ii),  c = C[:, i].
Of a law linear in its coefficients that is Sigma' = Sigma - Sigma j j' Sigma / (v + j' Sigma j), seen at the
points. Ours are not: draws lie along curved valleys, where a tangent at the optimum can be wrong tenfold.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalegrow.laws.fitted import Fit, Noise
from scalegrow.laws.observations import SAME_CELL
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.candidates import Rows

# Of a run's noise common to its budgets: the correlation of 5 to 40 tpp over seeds in this project's runs.
RUN_SHARE = 0.75
MOST_COMMON = 0.9  # of the noise that pairs may cancel: some is always a run's own


@dataclass(frozen=True)
class Variances:
    """Of a log loss around the law: common to all arms at one N and D, common to a run's budgets, and its own."""

    cell: float
    run: float
    own: float

    @classmethod
    def of(cls, noise: Noise) -> "Variances":
        """v: mean square of rows' residuals; that of pairs' is 2 (v - cell). Without pairs nothing is a cell's."""
        v = float(np.mean(noise.single**2))
        pairs = float(np.mean(noise.paired**2)) / 2 if len(noise.paired) > 1 else v
        cell = min(max(v - pairs, 0.0), MOST_COMMON * v)
        return cls(cell, RUN_SHARE * (v - cell), (1 - RUN_SHARE) * (v - cell))


@dataclass(frozen=True)
class Belief:
    """The covariance (n + 2, n + 2) of n rows without their own noise, of the decision, and of nothing (zeros).

    own: the variance of a row's own noise.
    """

    covariance: FloatArray
    own: float

    @classmethod
    def of(cls, fit: Fit, rows: Rows, grown: Points, scratch: Points) -> "Belief":
        """Before any run: from the fit's draws and residuals. The decision is ln L_grown - ln L_scratch."""
        draws, decision = (fit.log_predict(points)[1] for points in (rows.points, grown))
        difference = decision - fit.log_predict(scratch)[1]
        covariance = np.cov(np.hstack([draws, difference, np.zeros_like(difference)]), rowvar=False)
        noise = Variances.of(fit.noise)
        n = len(rows.points)
        covariance[:n, :n] += noise.cell * _same_cell(rows.points)
        covariance[:n, :n] += noise.run * (rows.run[:, None] == rows.run)
        return cls(covariance, noise.own)

    @property
    def decision(self) -> int:
        """The coordinate of the decision."""
        return len(self.covariance) - 2

    @property
    def nothing(self) -> int:
        """The coordinate that is known, and tells nothing."""
        return len(self.covariance) - 1

    @property
    def variance(self) -> float:
        """Of the decision."""
        return float(self.covariance[self.decision, self.decision])

    def observed(self, row: int) -> "Belief":
        """After one row: C - c c' / (v + C_ii)."""
        c = self.covariance[row]
        return Belief(self.covariance - np.outer(c, c / (self.own + c[row])), self.own)

    def reductions(self, groups: npt.NDArray[np.intp]) -> FloatArray:
        """By how much each group of rows (m, k) would lessen the decision's variance: c' (C + v I)^-1 c, (m,)."""
        inner = self.covariance[groups[:, :, None], groups[:, None, :]] + self.own * np.eye(groups.shape[1])
        c = self.covariance[groups, self.decision]
        return np.einsum("mk,mk->m", c, np.linalg.solve(inner, c[..., None])[..., 0])


def _same_cell(points: Points) -> npt.NDArray[np.bool_]:
    """Which rows lie at the same N and D, (n, n)."""
    near = [np.abs(x[:, None] - x) < SAME_CELL for x in (np.log(points.N), np.log(points.D))]
    return near[0] & near[1]
