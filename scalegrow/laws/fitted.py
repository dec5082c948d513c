"""A fit: a law with draws, a status, a domain and where it came from; one JSON file on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.domain import Domain
from scalegrow.laws.law import Law
from scalegrow.laws.points import FloatArray, Points
from scalegrow.laws.solve import Certificate, Fixed


class FitStatus(Enum):
    """How a fit ended; the value says what to do."""

    CONVERGED = "Every fitted coefficient is identified and the optimum is certified: use it inside its domain."
    AT_BOUND = "A coefficient ended on its bound: read its interval as one-sided, or choose a simpler law."
    NOT_IDENTIFIED = (
        "The runs do not determine every coefficient: give a wider range of N and D, choose a law with fewer "
        "coefficients, or hold the named one fixed, or sweep it over an interval, with --fix."
    )
    NOT_CERTIFIED = "The optimum could not be certified: give more runs, or another loss, before relying on it."

    @property
    def usable(self) -> bool:
        """Whether predictions and decisions may rest on it."""
        return self in (FitStatus.CONVERGED, FitStatus.AT_BOUND)


FEWEST_DRAWS = 100  # whose intervals are worth reading
EVERYWHERE = 1e3  # ln units: farther outside than anything


@dataclass(frozen=True)
class Noise:
    """Log residuals of the fit, inflated for the coefficients it used: what one new run adds.

    single: of each row. paired: grown minus scratch at the same N and D.
    """

    single: FloatArray
    paired: FloatArray


@dataclass(frozen=True)
class Calibration:
    """Factors by which intervals must widen to have covered held-out runs, at distances outside the data.

    loss and difference: (distance in ln units, factor) knots from `validate`. Between them the factor is
    interpolated; beyond the last, where nothing was ever checked, it grows at least in proportion to the
    distance. A fit that was not calibrated widens by 1 + distance. Never below 1.
    """

    loss: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    difference: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    from_runs: str = "no held-out runs"

    @classmethod
    def flat(cls) -> "Calibration":
        """No widening at any distance: what held-out scoring itself uses."""
        return cls(((0.0, 1.0), (EVERYWHERE, 1.0)), ((0.0, 1.0), (EVERYWHERE, 1.0)))

    def factor(self, distance: FloatArray, of: str) -> FloatArray:
        """How much wider, at these distances, for 'loss' or 'difference'."""
        x, y = np.array(getattr(self, of)).T
        if len(x) == 1:
            steepest = max(1.0, y[0])
        else:
            steepest = max((y[-1] - y[-2]) / (x[-1] - x[-2]), y[-1] / x[-1])
        beyond = np.maximum(np.asarray(distance) - x[-1], 0.0)
        return np.maximum(1.0, np.interp(distance, x, y) + steepest * beyond)


@dataclass(frozen=True)
class Fit:
    """law: the optimum. draws (M, p): theta of refits. fixed: coefficients held or swept, not fitted."""

    law: Law
    draws: FloatArray
    status: FitStatus
    message: str
    certificate: Certificate
    domain: Domain
    noise: Noise
    loss: str
    resampling: str
    n_rows: int
    n_runs: int
    n_clusters: int
    fixed: Fixed = field(default_factory=dict)
    calibration: Calibration = Calibration()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def log_predict(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """ln L at the points: by the law (n,) and by every draw (M, n)."""
        form = self.law.form
        form.check(points)
        surface = form.surface(points)
        return surface.value(self.law.theta[None])[0][0], surface.value(self.draws)[0]

    def require_usable(self) -> None:
        """Raise InputError when predictions and decisions may not rest on this fit."""
        if not self.status.usable:
            raise InputError(f"this fit is {self.status.name} ({self.message}) {self.status.value}")

    def values(self) -> FloatArray:
        """Natural coefficient values of every draw, (M, p)."""
        return self.law.form.values(self.draws)
