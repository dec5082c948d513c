"""The isoFLOP parabola: loss against N along 6 N D = C (Hoffmann et al. 2022, approach 2)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.law import Coefficient, Form, Surface, exponent, scale
from scalegrow.laws.points import FloatArray, Points, Units
from scalegrow.laws.surfaces import Derivatives, Smooth

ONE_LEVEL = 2.0  # times in compute that still count as one level


@dataclass(frozen=True)
class IsoFlopParabola(Form):
    """ln L = ln L_min + w (ln N - ln N_opt)^2 at one compute C: N_opt and its loss are coefficients."""

    name: ClassVar[str] = "isoflop-parabola"
    formula: ClassVar[str] = "ln L = ln L_min + w ln^2(N/N_opt)"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556), approach 2"
    variables: ClassVar[tuple[str, ...]] = ("N",)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """L_min, N_opt, w."""
        return scale("L_min"), scale("N_opt"), exponent("w", 0.0, 10.0)

    def check_runs(self, points: Points) -> None:
        """One parabola is for one compute level."""
        low, high = points.C.min(), points.C.max()
        if high > ONE_LEVEL * low:
            raise InputError(
                f"{self.name} is for runs of one compute, but these span {low:.2g} to {high:.2g} FLOPs: "
                "keep one level, or fit chinchilla."
            )

    def change_units(self, theta: FloatArray, old: Units, new: Units) -> FloatArray:
        """N_opt is a model size itself."""
        return theta - np.array([0.0, np.log(new.N / old.N), 0.0])

    def surface(self, points: Points) -> Surface:
        """Quadratic in ln N_opt, so derivatives are written out."""
        log_N = np.log(points.N)

        def derivatives(theta: FloatArray) -> Derivatives:
            z = log_N - theta[:, 1, None]
            w = theta[:, 2, None]
            grad, hess = np.zeros((*z.shape, 3)), np.zeros((*z.shape, 3, 3))
            grad[..., 0], grad[..., 1], grad[..., 2] = 1.0, -2 * w * z, z**2
            hess[..., 1, 1] = 2 * w
            hess[..., 1, 2] = hess[..., 2, 1] = -2 * z
            return Derivatives(theta[:, 0, None] + w * z**2, grad, hess)

        return Smooth(derivatives)

    def starts(self, points: Points, y: FloatArray) -> FloatArray:
        """The least-squares parabola, opened upwards if the data bend the other way."""
        log_N = np.log(points.N)
        c2, c1, _ = np.polyfit(log_N, y, 2) if len(y) > 2 else (0.0, 0.0, float(np.mean(y)))
        w = max(c2, 1e-4)
        middle = float(np.clip(-c1 / (2 * w), log_N.min() - 3, log_N.max() + 3))
        return np.array([[y.min(), middle, w], [y.min(), log_N[np.argmin(y)], max(w, 0.01)]])
