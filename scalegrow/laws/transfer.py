"""Laws of reusing what was trained before: data transferred (Hernandez), reuse (Liew and Kato)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.law import Coefficient, exponent, scale
from scalegrow.laws.points import FloatArray, Points, Units
from scalegrow.laws.terms import LinearForm, table


@dataclass(frozen=True)
class HernandezTransfer(LinearForm):
    """D_T = k D_F^a N^b: tokens that pre-training was worth, against D_F tokens of fine-tuning.

    D stands for D_F. The response is D_T in tokens, not a loss (Hernandez et al. 2021, eq. 1.1).
    """

    name: ClassVar[str] = "hernandez-transfer"
    formula: ClassVar[str] = "D_T = k D_F^a N^b"
    source: ClassVar[str] = "Hernandez et al. 2021 (arXiv 2102.01293), eq. 1.1"
    variables: ClassVar[tuple[str, ...]] = ("N", "D")
    response: ClassVar[str] = "tokens_transferred"
    scales_are_shares: ClassVar[bool] = False

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """k, a, b."""
        return scale("k", ("D", 1, "a"), ("N", 1, "b")), exponent("a", -4.0), exponent("b", -4.0)

    def features(self, points: Points) -> FloatArray:
        """ln k + a ln D_F + b ln N."""
        return table(len(points), [{0: 1.0, 1: np.log(points.D), 2: np.log(points.N)}], 3)

    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """a, b: the law is linear in its logs, so a coarse grid is enough."""
        return (0.0, 0.2, 0.5), (0.0, 0.4, 1.0)


@dataclass(frozen=True)
class LiewKatoReuse(LinearForm):
    """L = E + A D_1^-alpha_1 D_2^(-alpha_2 + alpha_3 ln D_1): an over-trained base helps less.

    D_1 is D_base, D_2 is D, at one model size (Liew and Kato 2025).
    """

    name: ClassVar[str] = "liew-kato-reuse"
    formula: ClassVar[str] = "L = E + A D_base^-alpha_1 D^(-alpha_2 + alpha_3 ln D_base)"
    source: ClassVar[str] = "Liew and Kato 2025 (arXiv 2510.06548)"
    variables: ClassVar[tuple[str, ...]] = ("D", "D_base")

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, alpha_1, alpha_2, alpha_3."""
        return (
            scale("E"),
            scale("A"),
            exponent("alpha_1", -4),
            exponent("alpha_2", -4),
            exponent("alpha_3", -4),
        )

    def check_runs(self, points: Points) -> None:
        """Every run needs a base: ln D_1 of no tokens is not a number."""
        if (points.D_base <= 0).any():
            raise InputError(f"{self.name} needs base_tokens above 0 in every row: leave scratch runs out.")

    def features(self, points: Points) -> FloatArray:
        """ln E; ln A - alpha_1 l_1 - alpha_2 l_2 + alpha_3 l_1 l_2 with l = ln D."""
        l1, l2 = np.log(points.D_base), np.log(points.D)
        return table(len(points), [{0: 1.0}, {1: 1.0, 2: -l1, 3: -l2, 4: l1 * l2}], 5)

    def change_units(self, theta: FloatArray, old: Units, new: Units) -> FloatArray:
        """The product l_1 l_2 moves the other exponents as well."""
        shift = np.log(new.D / old.D)
        out = np.array(theta, dtype=float)
        a1, a2, a3 = theta[..., 2], theta[..., 3], theta[..., 4]
        out[..., 1] += -(a1 + a2) * shift + a3 * shift**2
        out[..., 2] -= a3 * shift
        out[..., 3] -= a3 * shift
        return out

    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """alpha_1, alpha_2, alpha_3 in centred logs."""
        return (0.02, 0.1, 0.3, 0.6), (0.05, 0.15, 0.3, 0.6), (-0.05, 0.0, 0.02, 0.1)
