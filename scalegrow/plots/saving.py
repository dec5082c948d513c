"""Compute saved by growing, against the budget, by who pays the base."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.budget import BaseCost
from scalegrow.laws.fitted import Fit
from scalegrow.plan.decide import Decision, Estimate, Question, compute_saved, grown_points
from scalegrow.plan.wording import percent
from scalegrow.plots.caption import Caption, growth_words, of_fit, token_words
from scalegrow.plots.curves import THICK, ends_of, layers

if TYPE_CHECKING:
    import altair as alt

MODES = ("sunk", "amortised:4", "paid")
BEYOND = 2.0  # times the fitted and asked budgets that curves go on
POINTS = 17
LEAST = -1.0  # saving that is still drawn: twice the compute


@dataclass(frozen=True)
class Savings:
    """curves: see `curves`, x in tokens per parameter, value the share saved; -inf as `Decision` has it.

    asked: curve, x, value, low, high at the question's own budget.
    """

    curves: pl.DataFrame
    asked: pl.DataFrame


def savings(fit: Fit, decision: Decision, modes: Sequence[str] = MODES, points: int = POINTS) -> Savings:
    """One curve for each base-cost mode; budgets that cannot pay their share of the base are left out."""
    question, (low, high) = decision.question, fit.domain["tpp"]
    asked = question.D / question.N
    tpp = np.geomspace(min(low, asked) / BEYOND, max(high, asked) * BEYOND, points)
    by_mode = [(mode, replace(question, base_cost=BaseCost.parse(mode))) for mode in modes]
    curves = [_row(fit, mode, each.on(x), decision.level) for mode, each in by_mode for x in tpp]
    here = [_row(fit, mode, each, decision.level) for mode, each in by_mode]
    return Savings(*(pl.DataFrame([row for row in rows if row], schema=SCHEMA) for rows in (curves, here)))


SCHEMA = {"curve": pl.String, **dict.fromkeys(("x", "value", "low", "high"), pl.Float64), "inside": pl.Boolean}


def _row(fit: Fit, mode: str, question: Question, level: float) -> dict[str, object] | None:
    """The saving at one budget, or nothing where the base cannot be paid from it."""
    if question.D_grown <= 0:
        return None
    found: Estimate = compute_saved(fit, question, level)
    inside = bool(fit.domain.distance(grown_points(question))[0] == 0)
    return {"curve": mode, "x": question.D / question.N, **vars(found), "inside": inside}


def caption(name: str, fit: Fit, decision: Decision, drawn: Savings) -> Caption:
    """What the chart says of itself."""
    question = decision.question
    told = [
        f"{row['curve']} {percent(row['value'])} ({percent(row['low'])} to {percent(row['high'])})"
        for row in drawn.asked.iter_rows(named=True)
    ]
    asked = f"{growth_words(question)}, {token_words(question)}"
    notes = (
        f"Diamonds: {asked}: {'; '.join(told) or 'no base can be paid'}.",
        "Saved: 1 - compute of the grown run and its share of the base / scratch, at equal loss. "
        f"Band: {decision.level:.0%} interval of the mean. {THICK}",
    )
    return of_fit(name, fit, "Compute saved by growing, by who pays the base", decision.extrapolation, *notes)


def chart(drawn: Savings) -> "alt.HConcatChart":
    """A panel for each mode; what saves less than LEAST leaves it."""
    import altair as alt

    modes = drawn.curves["curve"].unique(maintain_order=True).to_list()
    panels = [_panel(drawn, mode, first=mode == modes[0]) for mode in modes]
    return alt.hconcat(*panels, spacing=12)


def _panel(drawn: Savings, mode: str, *, first: bool) -> "alt.LayerChart":
    """The curve of one mode over a rule at nought, and the question's point."""
    import altair as alt

    from scalegrow.plots.theme import diamond, log_x, panel

    frame, asked = (finite(each.filter(pl.col("curve") == mode)) for each in (drawn.curves, drawn.asked))
    x = log_x("x", "tokens per parameter", ends_of(drawn.curves["x"]))
    axis = alt.Axis(format="%", labels=first, title="compute saved" if first else None)
    y = alt.Y("value:Q", scale=alt.Scale(domain=[LEAST, 1], nice=False), axis=axis)
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color="#555555").encode(y="y:Q")
    point = diamond(asked).encode(x="x:Q", y="value:Q", tooltip=asked.columns)
    shown = panel(zero, *layers(frame, x, y, legend=False), point, width=190)
    return shown.properties(
        title=alt.TitleParams(mode, fontSize=12, fontWeight="normal", anchor="middle", offset=4)
    )


def finite(frame: pl.DataFrame) -> pl.DataFrame:
    """With what lies far below the chart just below it, for JSON has no infinity."""
    return frame.with_columns(pl.col("value", "low", "high").clip(2 * LEAST, 1))
