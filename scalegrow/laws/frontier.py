"""Approach 2 of Hoffmann et al. 2022: a parabola per compute level, then N_opt against C.

Biased where the sizes of a level are few, wide or off-centre: every level says how it was fitted, and
levels whose parabola is not identified, or whose minimum lies outside its sizes, are left out by name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.fit import fit
from scalegrow.laws.isoflop import IsoFlopParabola
from scalegrow.laws.observations import Observations

LEAST_RUNS = 5  # a parabola has three coefficients
WIDTH = 0.25  # decades of compute that count as one level


@dataclass(frozen=True)
class Frontier:
    """N_opt = k C^exponent with a 95 % interval for the exponent, and the regression that made it."""

    exponent: float
    low: float
    high: float
    log_k: float
    method: str


def isoflop_minima(observations: Observations, width: float = WIDTH, draws: int = 500) -> pl.DataFrame:
    """One row per compute level: flops, runs, n_opt, se_log_n, loss_min, curvature (w), status."""
    rows = [_minimum(part, draws) for part in levels(observations, width)]
    return pl.DataFrame(rows, schema={"flops": float, "runs": int, **_FITTED})


def levels(observations: Observations, width: float = WIDTH) -> list[Observations]:
    """The runs whose log10 C rounds to the same multiple of `width`, from the least compute to the most."""
    level = np.round(np.log10(observations.points.C) / width).astype(int)
    return [observations.take(level == k) for k in np.unique(level)]


_FITTED = {"n_opt": float, "se_log_n": float, "loss_min": float, "curvature": float, "status": str}


def _minimum(observations: Observations, draws: int) -> dict[str, object]:
    points = observations.points
    row: dict[str, object] = {"flops": float(np.exp(np.log(points.C).mean())), "runs": len(points)}
    empty = dict.fromkeys(_FITTED)
    if len(points) < LEAST_RUNS:
        return row | empty | {"status": "TOO_FEW_RUNS"}
    made = fit(IsoFlopParabola(), observations, draws=draws)
    if not made.status.usable:
        return row | empty | {"status": made.status.name}
    n_opt = made.law["N_opt"]
    if not points.N.min() < n_opt < points.N.max():
        return row | empty | {"status": "OUTSIDE_SIZES"}
    return row | {
        "n_opt": n_opt,
        "se_log_n": float(np.diff(np.quantile(made.draws[:, 1], [0.16, 0.84]))[0] / 2),  # robust to stray draws
        "loss_min": made.law["L_min"],
        "curvature": made.law["w"],
        "status": made.status.name,
    }


def frontier(minima: pl.DataFrame, method: str = "weighted") -> Frontier:
    """ln N_opt = ln k + a ln C over the levels that have a minimum.

    weighted: least squares with weights 1/se^2 (statsmodels WLS, HC3 errors). robust: Huber's
    M-estimate (statsmodels RLM), for levels whose standard errors are not to be trusted.
    """
    import statsmodels.api as sm

    kept = minima.drop_nulls("n_opt")
    if kept.height < 3:
        raise InputError(f"{kept.height} compute levels have a minimum, but a frontier needs 3: give more levels.")
    log_n, log_c = np.log(kept["n_opt"].to_numpy()), np.log(kept["flops"].to_numpy())
    design = sm.add_constant(log_c - log_c.mean())
    if method == "weighted":
        answer: Any = sm.WLS(log_n, design, weights=kept["se_log_n"].to_numpy() ** -2.0).fit(cov_type="HC3")
    elif method == "robust":
        answer = sm.RLM(log_n, design, M=sm.robust.norms.HuberT()).fit()
    else:
        raise InputError(f"'{method}' is no frontier regression: choose weighted or robust.")
    low, high = np.asarray(answer.conf_int())[1]
    slope = float(answer.params[1])
    return Frontier(slope, float(low), float(high), float(answer.params[0] - slope * log_c.mean()), method)
