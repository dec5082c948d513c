"""Loss against the growth factor: where growing to this target is best, and up to which g it pays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.decide import FACTORS, Decision, Question
from scalegrow.plan.wording import factor_text
from scalegrow.plots.caption import Caption, budget_words, of_fit
from scalegrow.plots.curves import BOTH_BANDS, THICK, ends_of, layers, limits, of_forecast, pointwise
from scalegrow.units import format_count

if TYPE_CHECKING:
    import altair as alt

POINTS = 120
BESIDE = 1.5  # times the fitted, asked and found growth factors that curves go on
SCRATCH, GROWN = "from scratch", "grown"


@dataclass(frozen=True)
class FactorCurves:
    """curves: see `curves`, x the growth factor. found: what (g_opt, g_upper), value, low, high, as `Decision`."""

    curves: pl.DataFrame
    found: pl.DataFrame


def factor_curves(fit: Fit, decision: Decision) -> FactorCurves:
    """The target at this budget, grown by g from bases of N / g, against the same from scratch."""
    question, level = decision.question, decision.level
    g = factors(fit, decision)
    grown, payable = points_of(question, g)
    curve = of_forecast(GROWN, g[payable], pointwise(fit, grown.take(payable), level))
    scratch = pointwise(fit, Points.of(np.full(2, question.N), question.D), level)
    flat = of_forecast(SCRATCH, g[[0, -1]], scratch)
    found = {"g_opt": decision.best_factor, "g_upper": decision.largest_useful_factor}
    rows = [(name, each.value, each.low, each.high) for name, each in found.items()]
    return FactorCurves(
        pl.concat([flat, curve]), pl.DataFrame(rows, schema=["what", "value", "low", "high"], orient="row")
    )


def factors(fit: Fit, decision: Decision) -> FloatArray:
    """From the scan's start to beyond all that is of interest, within the scan."""
    upper = decision.largest_useful_factor.value
    most = max(fit.domain["g"][1], decision.question.g, upper if np.isfinite(upper) else 0)
    return np.geomspace(FACTORS[0], min(most * BESIDE, FACTORS[1]), POINTS)


def points_of(question: Question, g: FloatArray) -> tuple[Points, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The grown run by every g, and whether its base can be paid from the budget."""
    asked = [question.grown_by(float(each)) for each in g]
    tokens, base = (np.array([getattr(each, name) for each in asked]) for name in ("D_grown", "D_base"))
    return Points.of(question.N, tokens, g, base, question.operator), tokens > 0


def words(row: dict[str, float]) -> str:
    """'g_upper 2.85 (1.51 to over 100)'."""
    return f"{row['what']} {factor_text(row['value'])} ({factor_text(row['low'])} to {factor_text(row['high'])})"


def caption(name: str, fit: Fit, decision: Decision, drawn: FactorCurves) -> Caption:
    """What the chart says of itself."""
    question = decision.question
    target = (
        f"A target of {format_count(question.N)} parameters grown by {question.operator} from bases of 1/g of it"
    )
    opt, upper = (words(row) for row in drawn.found.iter_rows(named=True))
    notes = (
        f"{target}; {budget_words(question)}. Diamond: g = {question.g:.3g}.",
        f"{opt}: the least loss among the fitted g. {upper}: up to where growing wins.",
        BOTH_BANDS.format(level=decision.level) + THICK,
    )
    return of_fit(name, fit, "Loss against the growth factor", decision.extrapolation, *notes)


def chart(drawn: FactorCurves, decision: Decision) -> "alt.LayerChart":
    """Curves, and g_opt and g_upper as rules, their intervals as bars along the bottom."""
    import altair as alt

    from scalegrow.plots.theme import diamond, log_x, panel

    frame, ends = drawn.curves, ends_of(drawn.curves["x"])
    low, high = limits(frame["low"], frame["high"].filter(frame["curve"] == SCRATCH), pad=0.15)
    y = alt.Y("value:Q", title="loss, nats per token", scale=alt.Scale(domain=[low, high], zero=False, nice=False))
    asked = pl.DataFrame({"x": [decision.question.g], "loss": [decision.loss_grown.value]})
    x = log_x("x", "growth factor g", ends)
    shown = [*layers(frame, x, y), *_found(drawn.found, ends), diamond(asked).encode(x="x:Q", y="loss:Q")]
    return panel(*shown)


def _found(found: pl.DataFrame, ends: tuple[float, float]) -> list["alt.Chart"]:
    """A rule and a bar for each of g_opt and g_upper; what lies beyond the axis ends at its edge."""
    import altair as alt

    from scalegrow.plots.theme import HEIGHT

    told = pl.col("value", "low", "high")
    cut = found.with_columns(told.clip(*ends).name.suffix("_drawn"), reached=pl.col("value").is_between(*ends))
    cut = cut.with_columns(pl.when(told.is_finite()).then(told))  # JSON has no infinity
    drawn = []
    for i, row in enumerate(cut.partition_by("what", maintain_order=True)):
        height = alt.value(HEIGHT - 12 - 20 * i)
        base = alt.Chart(row)
        drawn += [
            base.transform_filter("datum.reached").mark_rule(strokeDash=[3, 2], color="black").encode(x="value:Q"),
            base.mark_rule(strokeWidth=3, color="black").encode(x="low_drawn:Q", x2="high_drawn:Q", y=height),
            base.mark_point(filled=True, color="black", size=60, opacity=1).encode(x="value_drawn:Q", y=height),
            base.mark_text(dx=8, dy=-9, align="left", color="black").encode(
                x="value_drawn:Q", y=height, text="what:N"
            ),
        ]
    return drawn
