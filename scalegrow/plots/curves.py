"""Curves with bands, as several kinds draw them.

Their frames have a row for each point of a curve: curve (its name), x, value, low, high, new_low and new_high
where there is an interval for one new run, and inside: whether the point lies inside the fitted range.
"""

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import Forecast, forecast
from scalegrow.laws.points import FloatArray, Points

if TYPE_CHECKING:
    import altair as alt

FIELDS = ("value", "low", "high", "new_low", "new_high", "distance")
THICK = "Thick lines: inside the fitted range; thin ones EXTRAPOLATE."
BOTH_BANDS = "Dark band: {level:.0%} interval of the mean; light band: of one new run. "


def of_forecast(curve: str, x: FloatArray, found: Forecast) -> pl.DataFrame:
    """A curve of losses with both bands."""
    columns = ("value", "low", "high", "new_low", "new_high")
    data = {"curve": [curve] * len(x), "x": x} | {name: getattr(found, name) for name in columns}
    return pl.DataFrame(data | {"inside": found.distance == 0})


def pointwise(fit: Fit, points: Points, level: float) -> Forecast:
    """Forecasts one at a time, so that every point has the very interval that `predict` gives it alone.

    Residuals are drawn by draw and point: together, neighbours would have other ones, and a ragged band.
    """
    found = [forecast(fit, points.take(np.array([i])), level) for i in range(len(points))]
    return Forecast(*(np.concatenate([getattr(each, name) for each in found]) for name in FIELDS))


def limits(*values: pl.Series, pad: float = 0.04) -> tuple[float, float]:
    """From the least to the largest of finite numbers, with some room around."""
    everything = np.concatenate([each.drop_nulls().to_numpy() for each in values])
    low, high = float(everything.min()), float(everything.max())
    room = pad * (high - low or abs(high) or 1.0)
    return low - room, high + room


def ends_of(values: pl.Series) -> tuple[float, float]:
    """The least and the largest."""
    return float(values.min()), float(values.max())  # type: ignore[arg-type]


def layers(frame: pl.DataFrame, x: "alt.X", y: "alt.Y", *, legend: bool = True) -> list["alt.Chart"]:
    """Bands, thin lines, and thick ones where the fit has runs; a dash and a colour for each curve."""
    import altair as alt

    from scalegrow.plots.theme import COLOURS, lines

    names = frame["curve"].unique(maintain_order=True).to_list()
    base = alt.Chart(frame).encode(x=x, tooltip=_told(frame))
    bands = [("new_low", "new_high", 0.13)] if "new_low" in frame.columns else []
    areas = [
        alt.Chart(frame.filter(pl.col("curve") == name))
        .mark_area(opacity=opacity, clip=True, color=colour)
        .encode(x=x, y=_along(y, low), y2=f"{high}:Q")
        for low, high, opacity in (*bands, ("low", "high", 0.25))
        for name, colour in zip(names, cycle(COLOURS), strict=False)
    ]
    line = base.encode(y=_along(y, "value"), **lines(names, legend=legend))
    thick = line.transform_filter("datum.inside")
    return [*areas, line.mark_line(strokeWidth=1, clip=True), thick.mark_line(strokeWidth=2.6, clip=True)]


def _along(y: "alt.Y", field: str) -> "alt.Y":
    """The same axis for another field."""
    copied: alt.Y = y.copy()
    copied.shorthand = f"{field}:Q"
    return copied


def _told(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name != "inside"]
