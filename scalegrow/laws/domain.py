"""Where a fit has data, and how far outside a question lies."""

from dataclasses import dataclass

import numpy as np

from scalegrow.laws.points import FloatArray, Points

ROUNDING = 0.01  # ln units: sizes snap to whole units and budgets to whole steps, which is no extrapolation
LABELS = {
    "N": "parameters",
    "D": "tokens",
    "tpp": "tokens per parameter",
    "g": "growth factor",
    "base_tpp": "tokens per parameter of the base",
}


@dataclass(frozen=True)
class Domain:
    """The smallest and largest value of each variable in the fitted runs; g and base_tpp of grown ones."""

    ranges: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, points: Points, variables: tuple[str, ...]) -> "Domain":
        """The ranges of the variables that the form uses."""
        found = []
        for name, values in coordinates(points).items():
            needs = {"tpp": {"N", "D"}, "base_tpp": {"D_base", "g"}}.get(name, {name})
            if needs <= set(variables) and len(values := values[np.isfinite(values)]):
                found.append((name, float(values.min()), float(values.max())))
        return cls(tuple(found))

    def __getitem__(self, name: str) -> tuple[float, float]:
        return next((low, high) for variable, low, high in self.ranges if variable == name)

    def __contains__(self, name: str) -> bool:
        return any(variable == name for variable, _, _ in self.ranges)

    def extrapolation(self, points: Points) -> dict[str, FloatArray]:
        """Per variable, how many times beyond the nearest edge each point lies; 1 inside, or ROUNDING outside.

        Above the range the ratio is > 1, below it < 1.
        """
        where = coordinates(points)
        out = {}
        for name, low, high in self.ranges:
            values = np.where(np.isfinite(where[name]), where[name], low)
            ratio = np.where(values > high, values / high, np.where(values < low, values / low, 1.0))
            out[name] = np.where(np.abs(np.log(ratio)) < ROUNDING, 1.0, ratio)
        return out

    def distance(self, points: Points) -> FloatArray:
        """Euclidean distance outside the ranges in ln units: 0 inside, 0.69 at twice the edge."""
        logs = [np.log(ratio) for ratio in self.extrapolation(points).values()]
        total: FloatArray = np.sqrt(np.sum(np.square(logs), axis=0)) if logs else np.zeros(len(points))
        return np.where(total < 1e-9, 0.0, total)


def coordinates(points: Points) -> dict[str, FloatArray]:
    """The variables that can extrapolate; NaN where one has no meaning (g of a scratch run)."""
    grown = points.grown
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "N": points.N,
            "D": points.D,
            "tpp": points.D / points.N,
            "g": np.where(grown, points.g, np.nan),
            "base_tpp": np.where(grown, points.D_base / (points.N / points.g), np.nan),
        }


def extrapolation_sentence(ratios: dict[str, float]) -> str:
    """'lies inside the fitted range', or which variables lie outside it and how far."""
    outside = [
        f"{LABELS[name]} {times(ratio)} x the largest fitted"
        if ratio > 1
        else f"{LABELS[name]} {ratio:.2g} x the smallest"
        for name, ratio in ratios.items()
        if ratio != 1
    ]
    return "lies inside the fitted range" if not outside else "EXTRAPOLATES: " + "; ".join(outside)


def times(ratio: float) -> str:
    """1.5, 24.3, 1,670."""
    return f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}"
