"""What a probe adds to the study: how far probe losses foretell a base's outcomes beyond the usual effects.

Symbols: c candidate, y_c its final loss, z_c its probe loss after k steps, both minus the reference's. Over bases

    y_c - E[y_c] = b (z_c - E[z_c]) + error

with E from `Effects` of either and one slope b for all candidates: least squares, errors robust to bases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scalegrow.laws.points import FloatArray
from scalegrow.plan.select import (
    AT,
    DRAWS,
    REFERENCE,
    Choice,
    Effects,
    Setting,
    against,
    design,
    predictive,
)


@dataclass(frozen=True)
class ProbeLink:
    """b and its error, from n_bases, of a probe of `lag` steps; probe: the effects on the probe loss."""

    lag: int
    slope: float
    error: float
    n_bases: int
    probe: Effects

    @classmethod
    def fit(cls, rows: pl.DataFrame, lag: int, effects: Effects) -> "ProbeLink":
        """From rows of `outcomes`, whose effects on the final loss are given."""
        from statsmodels.api import OLS

        column = f"loss_{lag}"
        probe = Effects.fit(rows, column)
        z = _left(rows, column, probe).rename({"left": "z"})
        both = z.join(_left(rows, "loss", effects).rename({"left": "y"}), on=(*AT, "candidate"))
        groups = both["group"].to_numpy()
        found = OLS(both["y"].to_numpy(), both["z"].to_numpy()).fit(
            cov_type="cluster", cov_kwds={"groups": groups}
        )
        return cls(lag, float(found.params[0]), float(found.bse[0]), len(np.unique(groups)), probe)

    def choose(
        self, effects: Effects, setting: Setting, losses: FloatArray, level: float = 0.95, seed: int = 0
    ) -> Choice:
        """What study and probe say together, of the effects' candidates with these probe losses (C,), nats.

        On a new base y = E[y] + b (z - E[z]) + the part of y that z does not tell; b from its own t distribution.
        """
        rng = np.random.default_rng(seed)
        of_probe = self.probe.of(effects.candidates).by_base(setting)
        expected = of_probe.mean(0)
        left = predictive(effects.by_base(setting) - self.slope * (of_probe - expected), DRAWS, rng)
        slopes = self.slope + self.error * rng.standard_t(self.n_bases - 1, (DRAWS, 1))
        surprise = losses - expected
        return Choice.of(effects.candidates, left + slopes * (surprise - surprise.mean()), level)

    def to_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "lag": self.lag,
            "slope": self.slope,
            "error": self.error,
            "bases": self.n_bases,
            "probe": self.probe.to_data(),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "ProbeLink":
        """The link that `to_data` wrote. Raises KeyError, TypeError or ValueError on damage."""
        numbers = float(data["slope"]), float(data["error"]), int(data["bases"])
        return cls(int(data["lag"]), *numbers, Effects.from_data(data["probe"]))


def _left(rows: pl.DataFrame, outcome: str, effects: Effects) -> pl.DataFrame:
    """What a candidate's effect leaves of the outcome of every run but the reference's, as `left`."""
    told = against(rows, outcome, REFERENCE).filter(pl.col("candidate") != REFERENCE)
    at = [effects.candidates.index(name) for name in told["candidate"]]
    expected = (effects.coefficients[at] * design(told)).sum(1)
    return told.select(*AT, "candidate", left=pl.col("y") - pl.Series(expected))
