"""How every chart looks: readable in grey, lines differing in dashes and points in shape; log axes in words."""

import math
from typing import Any

import altair as alt
import polars as pl

from scalegrow.plots.caption import Caption

INK, FAINT = "#1a1a1a", "#6b6b6b"
COLOURS = ["#0b3c5d", "#d1603d", "#3f8f4f", "#8a6fb0", "#b8860b", "#5f6a6a", "#c2185b", "#17a2b8"]
DASHES = [[1, 0], [7, 4], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4], [1, 5], [6, 2, 2, 2, 2, 2]]
SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-left",
    "triangle-right",
]
WIDTH, HEIGHT = 480, 320
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, Liberation Sans, sans-serif",
    "view": {"stroke": "#cccccc"},
    "axis": {
        "gridColor": "#eeeeee",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
    },
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 320},
    "header": {"labelFontSize": 12, "titleFontSize": 12},
    "title": {
        "anchor": "start",
        "fontSize": 14,
        "subtitleFontSize": 10.5,
        "subtitleColor": FAINT,
        "subtitlePadding": 5,
        "offset": 12,
    },
}
COUNTS = "replace(format(datum.value, '~s'), 'G', 'B')"  # 100M, 2B
FLOPS = "replace(format(datum.value, '~e'), '+', '')"  # 1e19
PLAIN = "format(datum.value, '~g')"
LOG_STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8))  # of a decade, coarse to fine
FEWEST_TICKS, MOST_TICKS = 4, 9


def finished(chart: Any, caption: Caption) -> alt.TopLevelMixin:
    """The chart under its title and caption, in the house's looks."""
    title = alt.TitleParams(caption.title, subtitle=caption.lines)
    return chart.properties(title=title, description=f"{caption.title}. {caption.range}").configure(**CONFIG)


def panel(*layers: Any, width: int = WIDTH, height: int = HEIGHT) -> alt.LayerChart:
    """Layers over one another, in the usual size."""
    return alt.layer(*layers).properties(width=width, height=height)  # type: ignore[return-value]


def diamond(frame: pl.DataFrame) -> alt.Chart:
    """Where the question lies."""
    mark: dict[str, Any] = {
        "shape": "diamond",
        "filled": True,
        "size": 160,
        "opacity": 1,
        "fill": "white",
        "stroke": "black",
    }
    return alt.Chart(frame, mark=alt.MarkDef(type="point", **mark))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between low and high: the coarsest of LOG_STEPS that gives FEWEST_TICKS, or the finest."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in LOG_STEPS:
        ticks = [float(f"{step}e{power}") for power in decades for step in steps]
        inside = [tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]
        if len(inside) >= FEWEST_TICKS:
            break
    return inside[:: math.ceil(len(inside) / MOST_TICKS)]


def log_x(field: str, title: str, limits: tuple[float, float], labels: str = PLAIN) -> alt.X:
    """A log axis from limit to limit, labelled as people write its numbers."""
    return alt.X(f"{field}:Q", title=title, scale=_log(limits), axis=_axis(limits, labels))


def log_y(field: str, title: str, limits: tuple[float, float], labels: str = PLAIN) -> alt.Y:
    """As log_x, upwards."""
    return alt.Y(f"{field}:Q", title=title, scale=_log(limits), axis=_axis(limits, labels))


def _log(limits: tuple[float, float]) -> alt.Scale:
    return alt.Scale(type="log", domain=list(limits), nice=False)


def _axis(limits: tuple[float, float], labels: str) -> alt.Axis:
    return alt.Axis(values=log_ticks(*limits), labelExpr=labels, grid=True)


def lines(names: list[str], *, legend: bool = True, title: str | None = None) -> dict[str, Any]:
    """Colour and dash of a line for each name of the field `curve`, in one legend."""
    # Bands and points have no encoded colour: one channel of a field without a legend takes it from all others.
    told = alt.Legend(title=title, symbolType="stroke", symbolSize=500, symbolStrokeWidth=2.2) if legend else None
    colour = alt.Color("curve:N", sort=names, scale=_series(names, COLOURS), legend=told)
    return {
        "color": colour,
        "strokeDash": alt.StrokeDash("curve:N", sort=names, scale=_series(names, DASHES), legend=told),
    }


def shapes(field: str, names: list[str]) -> alt.Shape:
    """A point's shape for each name of a field; other names than those of lines, or their legends become one."""
    return alt.Shape(f"{field}:N", title=None, sort=names, scale=_series(names, SHAPES))


def _series(names: list[str], values: list[Any]) -> alt.Scale:
    return alt.Scale(domain=names, range=[values[i % len(values)] for i in range(len(names))])
