"""Joint laws of grown and scratch runs, L(N, D, g, D_base, operator).

All of them reduce to Chinchilla from scratch (g = 1, D_base = 0), and at g = 1 with a base to
Chinchilla on D + D_base tokens: growing by nothing is continued training. E and the exponents are
shared between arms; each operator adds two coefficients, rho (what growing by g costs) and kappa
(how fast the base's tokens lose their worth with g). They differ in where these act:

                    growing is paid in data              growing is paid in size
base discounted     effective-data                       capacity-penalty
  in tokens         B g^rho (D + g^-kappa D_base)^-beta  A N^-alpha g^rho, B (D + g^-kappa D_base)^-beta
base discounted     fading-transfer                      fading-capacity
  as a power        B g^rho F                            A N^-alpha g^rho, B F
with F = (D + D_base)^-beta (1 + D_base/D)^(kappa ln g). The fading forms have log-terms linear in
every coefficient, so kappa stays identified where an operator makes no use of the base's tokens.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scalegrow.laws.law import Coefficient, Surface, exponent, scale
from scalegrow.laws.points import FloatArray, Points
from scalegrow.laws.surfaces import BentTerms, Terms
from scalegrow.laws.terms import LinearForm, SumForm, table

SHARED = 5  # E, A, B, alpha, beta come first, then rho and kappa of each operator
ALPHA_BETA = tuple(np.geomspace(0.06, 0.8, 8))
JOINT_VARIABLES = ("N", "D", "g", "D_base", "operator")


@dataclass(frozen=True)
class WarmStartForm(SumForm):
    """What the joint laws have in common: coefficients, seeds, and who grew by which operator."""

    operators: tuple[str, ...] = ("szp",)
    variables: ClassVar[tuple[str, ...]] = JOINT_VARIABLES
    source: ClassVar[str] = "this project (docs/laws.md)"

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, B, alpha, beta, then rho[operator], kappa[operator] for each."""
        shared = (
            scale("E"),
            scale("A", ("N", -1, "alpha")),
            scale("B", ("D", -1, "beta")),
            exponent("alpha"),
            exponent("beta"),
        )
        own = (
            exponent(f"{symbol}[{operator}]", -5.0, 5.0)
            for operator in self.operators
            for symbol in ("rho", "kappa")
        )
        return (*shared, *own)

    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """alpha, beta; the operators' coefficients start near no effect."""
        return (ALPHA_BETA, ALPHA_BETA, *((0.03,), (0.3,)) * len(self.operators))

    @property
    @abstractmethod
    def penalised_term(self) -> int:
        """Which term carries g^rho: 1, A N^-alpha (the price stays) or 2, B D_eff^-beta (it fades with D)."""

    def own(self, points: Points, symbol: int) -> list[tuple[int, npt.NDArray[np.bool_]]]:
        """(coefficient index, mask of its rows) of each operator; symbol 0 is rho, 1 kappa."""
        return [(SHARED + 2 * i + symbol, points.operator == name) for i, name in enumerate(self.operators)]

    def spread(self, theta: FloatArray, points: Points, symbol: int) -> FloatArray:
        """rho or kappa of each row's own operator (M, n); 0 from scratch."""
        out = np.zeros((len(theta), len(points)))
        for i, rows in self.own(points, symbol):
            out += theta[:, i, None] * rows
        return out


@dataclass(frozen=True)
class FadingBase(WarmStartForm, LinearForm):
    """Joint laws in which the base's tokens count in full at g = 1, and less as a power, linear in ln g."""

    def features(self, points: Points) -> FloatArray:
        """ln E; ln A - alpha ln N; ln B - beta ln(D + D_base) + kappa ln g ln(1 + D_base/D); rho ln g on one."""
        log_g, head_start = np.log(points.g), np.log1p(points.D_base / points.D)
        size: dict[int, npt.ArrayLike] = {1: 1.0, 3: -np.log(points.N)}
        data: dict[int, npt.ArrayLike] = {2: 1.0, 4: -np.log(points.D + points.D_base)}
        terms: list[dict[int, npt.ArrayLike]] = [{0: 1.0}, size, data]
        terms[self.penalised_term] |= {i: log_g * rows for i, rows in self.own(points, 0)}
        data |= {i: log_g * head_start * rows for i, rows in self.own(points, 1)}
        return table(len(points), terms, len(self.coefficients))


@dataclass(frozen=True)
class FadingTransfer(FadingBase):
    """L = E + A N^-alpha + B g^rho (D + D_base)^-beta (1 + D_base/D)^(kappa ln g)."""

    name: ClassVar[str] = "fading-transfer"
    formula: ClassVar[str] = "L = E + A N^-alpha + B g^rho (D + D_base)^-beta (1 + D_base/D)^(kappa ln g)"

    @property
    def penalised_term(self) -> int:
        """The data term."""
        return 2


@dataclass(frozen=True)
class FadingCapacity(FadingBase):
    """L = E + A N^-alpha g^rho + B (D + D_base)^-beta (1 + D_base/D)^(kappa ln g)."""

    name: ClassVar[str] = "fading-capacity"
    formula: ClassVar[str] = "L = E + A N^-alpha g^rho + B (D + D_base)^-beta (1 + D_base/D)^(kappa ln g)"

    @property
    def penalised_term(self) -> int:
        """The size term."""
        return 1


@dataclass(frozen=True)
class DiscountedBase(WarmStartForm):
    """Joint laws in which g discounts the base's tokens: D_eff = D + g^-kappa D_base."""

    def log_terms(self, theta: FloatArray, points: Points) -> FloatArray:
        """ln E; ln A - alpha ln N; ln B - beta ln D_eff; rho ln g added to the penalised one."""
        log_eff, _ = self._effective(theta, points)
        t = np.empty((len(theta), len(points), 3))
        t[..., 0] = theta[:, 0, None]
        t[..., 1] = theta[:, 1, None] - theta[:, 3, None] * np.log(points.N)
        t[..., 2] = theta[:, 2, None] - theta[:, 4, None] * log_eff
        t[..., self.penalised_term] += self.spread(theta, points, 0) * np.log(points.g)
        return t

    def _effective(self, theta: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
        """ln D_eff and the share of it that the base gives."""
        base = points.D_base * np.exp(-self.spread(theta, points, 1) * np.log(points.g))
        return np.log(points.D + base), base / (points.D + base)

    def surface(self, points: Points) -> Surface:
        """Bilinear in beta and kappa, so derivatives are written out."""
        return BentTerms(lambda theta: self._terms(theta, points))

    def _terms(self, theta: FloatArray, points: Points) -> Terms:
        """With slope = -d ln D_eff / d kappa = ln g x (the base's share of D_eff)."""
        log_g = np.log(points.g)
        log_eff, share = self._effective(theta, points)
        beta, slope = theta[:, 4, None], log_g * share
        grad = np.zeros((len(theta), len(points), 3, len(self.coefficients)))
        for k in range(3):
            grad[..., k, k] = 1.0
        grad[..., 1, 3], grad[..., 2, 4] = -np.log(points.N), -log_eff
        second: dict[tuple[int, int, int], FloatArray] = {}
        for i, rows in self.own(points, 0):
            grad[..., self.penalised_term, i] = log_g * rows
        for i, rows in self.own(points, 1):
            grad[..., 2, i] = beta * slope * rows
            second[2, 4, i] = slope * rows
            second[2, i, i] = -beta * slope * log_g * (1 - share) * rows
        return Terms(self.log_terms(theta, points), grad, second)


@dataclass(frozen=True)
class EffectiveData(DiscountedBase):
    """L = E + A N^-alpha + B g^rho (D + g^-kappa D_base)^-beta: the price of growing is paid in data."""

    name: ClassVar[str] = "effective-data"
    formula: ClassVar[str] = "L = E + A N^-alpha + B g^rho (D + g^-kappa D_base)^-beta"

    @property
    def penalised_term(self) -> int:
        """The data term."""
        return 2


@dataclass(frozen=True)
class CapacityPenalty(DiscountedBase):
    """L = E + A N^-alpha g^rho + B (D + g^-kappa D_base)^-beta: the price is paid in parameters."""

    name: ClassVar[str] = "capacity-penalty"
    formula: ClassVar[str] = "L = E + A N^-alpha g^rho + B (D + g^-kappa D_base)^-beta"

    @property
    def penalised_term(self) -> int:
        """The size term."""
        return 1
