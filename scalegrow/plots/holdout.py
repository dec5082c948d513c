"""Predicted against true on runs that a law has not seen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from scalegrow.laws.validate import Validation
from scalegrow.plots.caption import Caption

if TYPE_CHECKING:
    import altair as alt

LOSSES, DIFFERENCES = "losses", "grown minus scratch"
COLUMNS = (
    "operator",
    "N",
    "tpp",
    "g",
    "observed",
    "predicted",
    "new_low",
    "new_high",
    "covered",
    "fold",
    "distance",
)


def held_out(validation: Validation) -> pl.DataFrame:
    """panel, and for every held-out row what was observed, predicted, and its interval of one new run."""
    both = {LOSSES: validation.losses, DIFFERENCES: validation.differences}
    return pl.concat(
        frame.select(*COLUMNS).with_columns(panel=pl.lit(name)) for name, frame in both.items() if frame.height
    )


def summary(frame: pl.DataFrame) -> Mapping[str, tuple[int, float, float]]:
    """By panel: rows, root mean square error in nats, share of intervals that cover."""
    error = (pl.col("predicted") - pl.col("observed")).pow(2).mean().sqrt()
    told = frame.group_by("panel", maintain_order=True).agg(pl.len(), error, pl.col("covered").mean())
    return {name: (rows, rmse, covered) for name, rows, rmse, covered in told.iter_rows()}


def caption(law: str, data: str, scheme: str, frame: pl.DataFrame, level: float) -> Caption:
    """What the chart says of itself."""
    words = [
        f"{name}: {rows} held out, error {rmse:.4f} (root mean square), {covered:.0%} of the intervals cover"
        for name, (rows, rmse, covered) in summary(frame).items()
    ]
    folds = frame["fold"].unique(maintain_order=True).to_list()
    notes = (
        f"Held out by {scheme}: {'; '.join(folds[:3])}{' ...' * (len(folds) > 3)}. Dashed: predicted = observed.",
        f"{'; '.join(words).capitalize()}. Bars: {level:.0%} interval of one new run; hollow: outside it.",
    )
    outside = frame.filter(pl.col("distance") > 0).height
    sentence = "All of these points lie inside the fitted range."
    if outside:
        sentence = f"Of {frame.height} points {outside} lie outside the runs of their fit: there it EXTRAPOLATES."
    return Caption(
        "Predicted against true on held-out runs", f"{law}, fitted to the others", data, sentence, notes
    )


def chart(frame: pl.DataFrame) -> "alt.HConcatChart":
    """A panel for losses, and one for differences where there are any."""
    import altair as alt

    operators = sorted(frame["operator"].unique().to_list())
    panels = [_panel(part, operators) for part in frame.partition_by("panel", maintain_order=True)]
    return alt.hconcat(*panels, spacing=24)


def _panel(frame: pl.DataFrame, operators: list[str]) -> "alt.LayerChart":
    """Points about the diagonal, a shape for each operator."""
    import altair as alt

    from scalegrow.plots.curves import limits
    from scalegrow.plots.theme import INK, panel, shapes

    ends = limits(frame["observed"], frame["predicted"], pad=0.12)
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    x, y = (
        alt.X("observed:Q", title="observed, nats", scale=scale),
        alt.Y("predicted:Q", title="predicted, nats", scale=scale),
    )
    diagonal = alt.Chart(pl.DataFrame({"observed": ends, "predicted": ends})).mark_line(
        color="#777777", strokeDash=[5, 4], strokeWidth=1.2
    )
    base = alt.Chart(frame).encode(x=x, tooltip=frame.columns)
    bars = base.mark_rule(color="#5b8a86", opacity=0.7, clip=True).encode(y=alt.Y("new_low:Q"), y2="new_high:Q")
    fill = alt.condition("datum.covered", alt.value(INK), alt.value("white"))
    points = base.mark_point(size=60, stroke=INK, opacity=1).encode(
        y=y, shape=shapes("operator", operators), fill=fill
    )
    shown = panel(diagonal.encode(x=x, y=y), bars, points, width=280, height=280)
    return shown.properties(title=alt.TitleParams(frame["panel"][0], fontSize=12, fontWeight="normal"))
