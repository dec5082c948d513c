"""Laws of training from scratch: power laws with a floor, Kaplan's, Chinchilla."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scalegrow.laws.law import Coefficient, Form, Surface, exponent, scale
from scalegrow.laws.points import FloatArray, Points, Units
from scalegrow.laws.surfaces import Derivatives, Smooth, sum_of_terms
from scalegrow.laws.terms import LinearForm, solve_amplitudes, table

EXPONENTS = tuple(np.geomspace(0.05, 1.2, 16))  # wider than any published language-model exponent


@dataclass(frozen=True)
class PowerN(LinearForm):
    """L = E + A N^-alpha: loss against model size, data not the bottleneck."""

    name: ClassVar[str] = "power-n"
    formula: ClassVar[str] = "L = E + A N^-alpha"
    source: ClassVar[str] = "Kaplan et al. 2020 (arXiv 2001.08361) with a floor E (Henighan et al. 2020)"
    variables: ClassVar[tuple[str, ...]] = ("N",)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, alpha."""
        return scale("E"), scale("A", ("N", -1, "alpha")), exponent("alpha")

    def variable(self, points: Points) -> FloatArray:
        """x, here N."""
        return points.N

    def features(self, points: Points) -> FloatArray:
        """ln E; ln A - alpha ln x."""
        return table(len(points), [{0: 1.0}, {1: 1.0, 2: -np.log(self.variable(points))}], 3)

    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """alpha."""
        return (EXPONENTS,)


@dataclass(frozen=True)
class PowerD(PowerN):
    """L = E + A D^-alpha: loss against data, model size not the bottleneck."""

    name: ClassVar[str] = "power-d"
    formula: ClassVar[str] = "L = E + A D^-alpha"
    variables: ClassVar[tuple[str, ...]] = ("D",)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, alpha."""
        return scale("E"), scale("A", ("D", -1, "alpha")), exponent("alpha")

    def variable(self, points: Points) -> FloatArray:
        """x, here D."""
        return points.D


@dataclass(frozen=True)
class PowerC(PowerN):
    """L = E + A C^-alpha with C = 6 N D: loss along a frontier of runs."""

    name: ClassVar[str] = "power-c"
    formula: ClassVar[str] = "L = E + A C^-alpha, C = 6 N D"
    variables: ClassVar[tuple[str, ...]] = ("N", "D")

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, alpha."""
        return scale("E"), scale("A", ("N", -1, "alpha"), ("D", -1, "alpha")), exponent("alpha")

    def variable(self, points: Points) -> FloatArray:
        """x, here C."""
        return points.C


@dataclass(frozen=True)
class Chinchilla(LinearForm):
    """L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, eq. 2)."""

    name: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "L = E + A N^-alpha + B D^-beta"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556), eq. 2"
    variables: ClassVar[tuple[str, ...]] = ("N", "D")

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """E, A, B, alpha, beta."""
        return (
            scale("E"),
            scale("A", ("N", -1, "alpha")),
            scale("B", ("D", -1, "beta")),
            exponent("alpha"),
            exponent("beta"),
        )

    def features(self, points: Points) -> FloatArray:
        """ln E; ln A - alpha ln N; ln B - beta ln D."""
        size: dict[int, npt.ArrayLike] = {1: 1.0, 3: -np.log(points.N)}
        data: dict[int, npt.ArrayLike] = {2: 1.0, 4: -np.log(points.D)}
        return table(len(points), [{0: 1.0}, size, data], 5)

    def exponent_grid(self) -> tuple[tuple[float, ...], ...]:
        """alpha, beta."""
        return EXPONENTS, EXPONENTS


@dataclass(frozen=True)
class Kaplan(Form):
    """L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D: no floor (Kaplan et al. 2020, eq. 1.5)."""

    name: ClassVar[str] = "kaplan"
    formula: ClassVar[str] = "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D"
    source: ClassVar[str] = "Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5"
    variables: ClassVar[tuple[str, ...]] = ("N", "D")

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """N_c, D_c, alpha_N, alpha_D."""
        return scale("N_c"), scale("D_c"), exponent("alpha_N", 1e-4), exponent("alpha_D", 1e-4)

    def change_units(self, theta: FloatArray, old: Units, new: Units) -> FloatArray:
        """N_c and D_c are a model size and a token count themselves."""
        return theta - np.array([np.log(new.N / old.N), np.log(new.D / old.D), 0.0, 0.0])

    def surface(self, points: Points) -> Surface:
        """Not a plain sum of terms: the exponent alpha_D stands outside."""
        return Smooth(lambda theta: self._derivatives(theta, points))

    def _derivatives(self, theta: FloatArray, points: Points) -> Derivatives:
        """f = alpha_D S with S = ln(e^t1 + e^t2), t1 = (alpha_N/alpha_D) ln(N_c/N), t2 = ln(D_c/D)."""
        M, n = len(theta), len(points)
        a, b = theta[:, 2, None], theta[:, 3, None]
        z = theta[:, 0, None] - np.log(points.N)
        t, grad, hess = np.zeros((M, n, 2)), np.zeros((M, n, 2, 4)), np.zeros((M, n, 2, 4, 4))
        t[..., 0], t[..., 1] = z * a / b, theta[:, 1, None] - np.log(points.D)
        grad[..., 0, 0], grad[..., 0, 2], grad[..., 0, 3] = a / b, z / b, -a * z / b**2
        grad[..., 1, 1] = 1.0
        for i, j, value in ((0, 2, 1 / b), (0, 3, -a / b**2), (2, 3, -z / b**2), (3, 3, 2 * a * z / b**3)):
            hess[..., 0, i, j] = hess[..., 0, j, i] = value
        inner = sum_of_terms(t, grad, hess)
        outer_grad, outer_hess = b[..., None] * inner.grad, b[..., None, None] * inner.hess
        outer_grad[..., 3] += inner.f
        outer_hess[..., 3, :] += inner.grad
        outer_hess[..., :, 3] += inner.grad
        return Derivatives(b * inner.f, outer_grad, outer_hess)

    def starts(self, points: Points, y: FloatArray) -> FloatArray:
        """With the exponents fixed, L^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c."""
        seeds = []
        for a in EXPONENTS:
            for b in EXPONENTS:
                terms = np.stack([-(a / b) * np.log(points.N), -np.log(points.D)], axis=-1)[None]
                amplitudes, misfit = solve_amplitudes(terms, y / b)
                log_n, log_d = np.log(amplitudes[0])
                seeds.append((misfit[0] * b**2, (log_n * b / a, log_d, a, b)))
        seeds.sort(key=lambda seed: seed[0])
        return np.array([theta for _, theta in seeds[:8]])
