"""What a residual r = ln L_observed - ln L_predicted costs: Huber, least absolute deviation, least squares."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.points import FloatArray

FAR, NEAR = 0.1, 1e-3  # delta to begin with from a seed, and from an optimum of like data
HUBER_DELTA = 1e-3  # Hoffmann et al. 2022, section 3.3, on log loss


class Loss(ABC):
    """rho(r), its first two derivatives, and the weight psi(r)/r of iterated least squares."""

    @abstractmethod
    def rho(self, r: FloatArray) -> FloatArray:
        """The cost of each residual."""

    @abstractmethod
    def psi(self, r: FloatArray) -> FloatArray:
        """rho'(r)."""

    @abstractmethod
    def psi_prime(self, r: FloatArray) -> FloatArray:
        """rho''(r)."""

    @abstractmethod
    def irls_weight(self, r: FloatArray) -> FloatArray:
        """psi(r) / r: the weight of the least-squares majoriser at r."""

    @abstractmethod
    def path(self, widest: float = FAR) -> list["Loss"]:
        """Smoother losses to solve first, from Huber's delta = widest, ending with the one that is minimised."""


@dataclass(frozen=True)
class Huber(Loss):
    """r^2/2 for |r| <= delta, delta (|r| - delta/2) beyond (Huber 1964)."""

    delta: float = HUBER_DELTA

    def __post_init__(self) -> None:
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise InputError(f"Huber delta {self.delta} is not possible: give a number > 0, such as 1e-3.")

    def rho(self, r: FloatArray) -> FloatArray:
        """r^2/2 inside delta, linear beyond."""
        a = np.abs(r)
        inside = np.minimum(a, self.delta)
        cost: FloatArray = inside * (a - 0.5 * inside)
        return cost

    def psi(self, r: FloatArray) -> FloatArray:
        """r clipped to [-delta, delta]."""
        return np.clip(r, -self.delta, self.delta)

    def psi_prime(self, r: FloatArray) -> FloatArray:
        """1 inside delta, 0 beyond."""
        return (np.abs(r) <= self.delta).astype(float)

    def irls_weight(self, r: FloatArray) -> FloatArray:
        """min(1, delta/|r|)."""
        weight: FloatArray = self.delta / np.maximum(np.abs(r), self.delta)
        return weight

    def path(self, widest: float = FAR) -> list[Loss]:
        """delta from the widest down to its own, a factor of 10 at a time."""
        steps: list[Loss] = []
        delta = widest
        while delta > self.delta * 1.01:
            steps.append(Huber(delta))
            delta /= 10
        return [*steps, self]


@dataclass(frozen=True)
class LeastSquares(Loss):
    """r^2/2 (L2)."""

    def rho(self, r: FloatArray) -> FloatArray:
        """r^2/2."""
        cost: FloatArray = 0.5 * r * r
        return cost

    def psi(self, r: FloatArray) -> FloatArray:
        """The residual itself."""
        return r

    def psi_prime(self, r: FloatArray) -> FloatArray:
        """1."""
        return np.ones_like(r)

    def irls_weight(self, r: FloatArray) -> FloatArray:
        """1."""
        return np.ones_like(r)

    def path(self, widest: float = FAR) -> list[Loss]:
        """Itself: it is already smooth."""
        return [self]


@dataclass(frozen=True)
class LeastAbsolute(Huber):
    """|r| (LAD), as the limit delta -> 0 of Huber's loss divided by delta.

    A LAD optimum passes exactly through p of the points; delta = 1e-9 in ln L is far below any
    digit that a loss is logged with.
    """

    delta: float = 1e-9

    def rho(self, r: FloatArray) -> FloatArray:
        """|r|, rounded within delta of 0."""
        return super().rho(r) / self.delta

    def psi(self, r: FloatArray) -> FloatArray:
        """The sign of r, rounded within delta of 0."""
        return super().psi(r) / self.delta

    def psi_prime(self, r: FloatArray) -> FloatArray:
        """1/delta within delta of 0, else 0."""
        return super().psi_prime(r) / self.delta

    def irls_weight(self, r: FloatArray) -> FloatArray:
        """1/max(|r|, delta)."""
        return super().irls_weight(r) / self.delta


LOSSES: dict[str, type[Loss]] = {"huber": Huber, "lad": LeastAbsolute, "l2": LeastSquares}
