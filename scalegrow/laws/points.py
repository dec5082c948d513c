"""Where a law is asked: N, D and, for grown runs, g, D_base and the operator."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SCRATCH = "scratch"


@dataclass(frozen=True)
class Units:
    """The N and D that count as 1: logs measured in them are centred on the data."""

    N: float = 1.0
    D: float = 1.0


@dataclass(frozen=True)
class Points:
    """n places in (N, D, g, D_base, operator) space, each field an array of length n.

    N: parameters of the trained model. D: tokens it is trained on after growth. g: growth factor,
    target over base parameters, 1 from scratch. D_base: tokens the base had seen, 0 from scratch.
    """

    N: FloatArray
    D: FloatArray
    g: FloatArray
    D_base: FloatArray
    operator: npt.NDArray[np.str_]

    @classmethod
    def of(
        cls,
        N: npt.ArrayLike,
        D: npt.ArrayLike,
        g: npt.ArrayLike = 1.0,
        D_base: npt.ArrayLike = 0.0,
        operator: npt.ArrayLike = SCRATCH,
    ) -> Self:
        """Broadcast scalars and arrays to one length."""
        columns = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (N, D, g, D_base))
        n, d, growth, base = np.broadcast_arrays(*columns)
        return cls(n, d, growth, base, np.broadcast_to(np.asarray(operator, dtype=np.str_), n.shape))

    def __len__(self) -> int:
        return len(self.N)

    @property
    def C(self) -> FloatArray:
        """Training FLOPs of the run itself, C = 6 N D (Hoffmann et al. 2022)."""
        return 6.0 * self.N * self.D

    @property
    def grown(self) -> npt.NDArray[np.bool_]:
        """True where the run started from a grown base."""
        return self.operator != SCRATCH

    def from_scratch(self) -> "Points":
        """The same N and D trained from scratch."""
        return Points.of(self.N, self.D)

    def at(self, **fields: npt.ArrayLike) -> "Points":
        """The same points with some fields replaced (and broadcast)."""
        current = {"N": self.N, "D": self.D, "g": self.g, "D_base": self.D_base, "operator": self.operator}
        return Points.of(**(current | fields))

    def take(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Points":
        """The points picked by a mask or by indices."""
        return Points(self.N[keep], self.D[keep], self.g[keep], self.D_base[keep], self.operator[keep])

    def measured_in(self, units: Units) -> "Points":
        """N in units.N; D and D_base in units.D. g is a ratio and stays."""
        return replace(self, N=self.N / units.N, D=self.D / units.D, D_base=self.D_base / units.D)

    def centre(self) -> Units:
        """The geometric means of N and D: the units in which every log is centred."""
        return Units(float(np.exp(np.log(self.N).mean())), float(np.exp(np.log(self.D).mean())))
