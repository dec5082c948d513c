"""Residuals of a fit, and how far each run moves it."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.fit import require_enough_runs
from scalegrow.laws.influence import influences, residuals
from scalegrow.laws.observations import Observations
from scalegrow.laws.solve import Setup, solve
from scalegrow.plots.caption import Caption
from scalegrow.units import format_count

if TYPE_CHECKING:
    import altair as alt

    from scalegrow.laws.law import Form
    from scalegrow.laws.loss import Loss
    from scalegrow.laws.solve import Fixed

MOST = 15  # runs whose influence is drawn
ROW = 19  # pixels of a run


def residual_frame(form: "Form", table: pl.DataFrame, loss: "Loss", fixed: "Fixed") -> pl.DataFrame:
    """run, operator, N, tpp, g, observed, predicted, residual (of ln L), influence (of its run on ln L)."""
    observations = Observations.from_table(table, form)
    setup = Setup.of(form, observations, loss, fixed)
    require_enough_runs(setup)
    optimum = solve(setup)
    r, moved = residuals(setup, optimum), influences(setup, optimum)
    points, observed = observations.points, np.exp(observations.y)
    return pl.DataFrame(
        {
            "run": table["run"].cast(pl.String),
            "operator": table["operator"],
            "N": points.N,
            "tpp": points.D / points.N,
            "g": points.g,
            "observed": observed,
            "predicted": observed * np.exp(-r),
            "residual": r,
            "influence": moved[observations.run],
        }
    )


def by_run(frame: pl.DataFrame) -> pl.DataFrame:
    """run, label, influence: a row for each run, the most influential first."""
    size = pl.col("N").map_elements(format_count, pl.String)
    words = pl.format("{}, {}, g {}", "operator", size, pl.col("g").round(2))
    label = pl.when(pl.col("g") > 1).then(words).otherwise(pl.format("{}, {}", "operator", size))
    runs = (
        frame.with_columns(what=label)
        .group_by("run", maintain_order=True)
        .agg(pl.col("what", "influence").first())
    )
    named = pl.format("{} ({})", pl.col("run").str.slice(0, 40), "what")
    return runs.select("run", "influence", label=named).sort("influence", descending=True)


def caption(law: str, loss: str, data: str, frame: pl.DataFrame) -> Caption:
    """What the chart says of itself."""
    runs = by_run(frame)
    first = runs.row(0, named=True)
    shown = f"the first {MOST} of {runs.height}" if runs.height > MOST else f"{runs.height}"
    notes = (
        f"Left: ln observed - ln predicted. Right: how far all predictions move without a run, {shown} runs.",
        f"The most influential, {first['label']}, moves them by {first['influence']:.2%} (root mean square).",
    )
    sentence = "No point EXTRAPOLATES: every run was fitted."
    return Caption("Residuals and influence", f"{law}, fitted by {loss}", data, sentence, notes)


def chart(frame: pl.DataFrame) -> "alt.HConcatChart":
    """Residuals against the prediction; influence by run."""
    import altair as alt

    return alt.hconcat(_residuals(frame), _influence(by_run(frame).head(MOST)), spacing=24)


def _residuals(frame: pl.DataFrame) -> "alt.LayerChart":
    import altair as alt

    from scalegrow.plots.theme import INK, panel, shapes

    operators = sorted(frame["operator"].unique().to_list())
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color="#777777", strokeDash=[4, 3]).encode(y="y:Q")
    x = alt.X("predicted:Q", title="predicted loss, nats", scale=alt.Scale(zero=False))
    y = alt.Y("residual:Q", title="residual of ln loss", axis=alt.Axis(format="+.1%"))
    points = alt.Chart(frame).mark_point(filled=True, color=INK, size=45, opacity=0.75)
    shown = points.encode(x=x, y=y, shape=shapes("operator", operators), tooltip=frame.columns)
    return panel(zero, shown, width=300, height=ROW * MOST)


def _influence(runs: pl.DataFrame) -> "alt.LayerChart":
    import altair as alt

    from scalegrow.plots.theme import panel

    x = alt.X("influence:Q", title="change of ln loss without the run", axis=alt.Axis(format=".1%", tickCount=2))
    y = alt.Y("label:N", sort=runs["label"].to_list(), title=None, axis=alt.Axis(labelLimit=330, labelFontSize=10))
    bars = alt.Chart(runs).mark_bar(color="#5b8a86").encode(x=x, y=y, tooltip=runs.columns)
    return panel(bars, width=170, height=ROW * runs.height)
