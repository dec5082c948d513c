"""Which warm start ends best: candidates in order, each with its effect, its interval and P(best)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from scalegrow.laws.domain import extrapolation_sentence
from scalegrow.plan.select import Choice, Setting
from scalegrow.plan.selection import Selection
from scalegrow.plots.caption import Caption

if TYPE_CHECKING:
    import altair as alt

ROW = 26  # pixels of a candidate


def ranking(choices: Mapping[str, Choice]) -> pl.DataFrame:
    """regime, candidate, p_best, regret, effect, low, high: a row for each candidate, least regret first."""
    rows = [
        {"regime": regime, "candidate": choice.candidates[i]}
        | {name: float(getattr(choice, name)[i]) for name in ("p_best", "regret", "effect", "low", "high")}
        for regime, choice in choices.items()
        for i in choice.regret.argsort()
    ]
    return pl.DataFrame(rows)


def caption(
    name: str, selection: Selection, setting: Setting, outside: Mapping[str, float], level: float
) -> Caption:
    """What the chart says of itself."""
    effects = selection.effects
    where = f"g = {setting.g:.3g}, {setting.tpp:.3g} tokens per parameter, base of {setting.base_tpp:.3g}"
    notes = (
        f"Asked: {where}. Points: final loss minus the mean of these candidates; bars: {level:.0%} interval.",
        "P(best): how often a candidate of one new base ends lowest. Least regret first.",
    )
    data = f"{effects.n_runs} runs from {effects.n_bases} bases"
    law = f"effects on the final loss (study {name})"
    return Caption(
        "Warm starts, ranked", law, data, f"This question {extrapolation_sentence(dict(outside))}.", notes
    )


def chart(frame: pl.DataFrame) -> "alt.HConcatChart":
    """A panel for each regime, in the same scale."""
    import altair as alt

    from scalegrow.plots.curves import limits

    ends = limits(frame["low"], frame["high"])
    panels = [_panel(part, ends) for part in frame.partition_by("regime", maintain_order=True)]
    return alt.hconcat(*panels, spacing=24)


def _panel(frame: pl.DataFrame, ends: tuple[float, float]) -> "alt.LayerChart":
    """Candidates downwards; P(best) along the right."""
    import altair as alt

    from scalegrow.plots.theme import INK, panel

    order, width = frame["candidate"].to_list(), 250
    y = alt.Y("candidate:N", sort=order, title=None, axis=alt.Axis(labelLimit=200, grid=True))
    x = alt.X("effect:Q", title="nats per token, lower is better", scale=alt.Scale(domain=list(ends), nice=False))
    base = alt.Chart(frame).encode(y=y, tooltip=frame.columns)
    zero = alt.Chart(pl.DataFrame({"x": [0.0]})).mark_rule(color="#777777", strokeDash=[4, 3]).encode(x="x:Q")
    bars = base.mark_rule(strokeWidth=2.2, color="#5b8a86").encode(x=x, x2="high:Q").encode(x=alt.X("low:Q"))
    points = base.mark_point(filled=True, size=75, color=INK, opacity=1).encode(x=x)
    told = alt.Text("p_best:Q", format=".2f")
    chances = base.mark_text(align="left", color=INK).encode(x=alt.value(width + 6), text=told)
    shown = panel(zero, bars, points, chances, width=width, height=ROW * len(order))
    words = alt.TitleParams(frame["regime"][0], subtitle="P(best) on the right", fontSize=12, subtitleFontSize=10)
    return shown.properties(title=words)
