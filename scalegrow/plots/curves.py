"""Curves with bands, as several kinds draw them.

Their frames have a row for each point of a curve: curve (its name), x, value, low, high, new_low and new_high
where there is an interval for one new run, and inside: whether the point lies inside the fitted range.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.forecast import Forecast
from scalegrow.laws.points import FloatArray

if TYPE_CHECKING:
    import altair as alt

THICK = "Thick lines: inside the fitted range; thin ones EXTRAPOLATE."
BOTH_BANDS = "Dark band: {level:.0%} interval of the mean; light band: of one new run. "


def of_forecast(curve: str, x: FloatArray, found: Forecast) -> pl.DataFrame:
    """A curve of losses with both bands."""
    columns = ("value", "low", "high", "new_low", "new_high")
    data = {"curve": [curve] * len(x), "x": x} | {name: getattr(found, name) for name in columns}
    return pl.DataFrame(data | {"inside": found.distance == 0})


def limits(*values: pl.Series, pad: float = 0.04) -> tuple[float, float]:
    """From the least to the largest of finite numbers, with some room around."""
    everything = np.concatenate([each.drop_nulls().to_numpy() for each in values])
    low, high = float(everything.min()), float(everything.max())
    room = pad * (high - low or abs(high) or 1.0)
    return low - room, high + room


def layers(frame: pl.DataFrame, x: "alt.X", y: "alt.Y") -> list["alt.Chart"]:
    """Bands, thin lines, and thick ones where the fit has runs; a dash and a colour for each curve."""
    import altair as alt

    from scalegrow.plots.theme import colours, dashes

    names = frame["curve"].unique(maintain_order=True).to_list()
    base = alt.Chart(frame).encode(x=x, color=colours(names), tooltip=_told(frame))
    bands = [("new_low", "new_high", 0.13)] if "new_low" in frame.columns else []
    areas = [
        base.mark_area(opacity=opacity, clip=True).encode(y=_along(y, low), y2=f"{high}:Q")
        for low, high, opacity in (*bands, ("low", "high", 0.25))
    ]
    line = base.encode(y=_along(y, "value"), strokeDash=dashes(names))
    thick = line.transform_filter("datum.inside")
    return [*areas, line.mark_line(strokeWidth=1, clip=True), thick.mark_line(strokeWidth=2.6, clip=True)]


def _along(y: "alt.Y", field: str) -> "alt.Y":
    """The same axis for another field."""
    copied: alt.Y = y.copy()
    copied.shorthand = f"{field}:Q"
    return copied


def _told(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name != "inside"]
