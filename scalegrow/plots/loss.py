"""Loss against compute: fitted curves with their bands, and the runs that were measured beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import SCRATCH, FloatArray, Points
from scalegrow.plan.decide import Decision, Question, grown_points
from scalegrow.plots.caption import Caption, budget_words, growth_words, of_fit
from scalegrow.plots.curves import BOTH_BANDS, THICK, ends_of, layers, limits, of_forecast, pointwise
from scalegrow.units import format_count

if TYPE_CHECKING:
    import altair as alt

NEAR = 1.1  # times in N and g within which a measured run stands beside a curve
BEYOND = 1.6  # times the fitted and asked budgets that curves go on
POINTS = 80


@dataclass(frozen=True)
class LossCurves:
    """curves: see `curves`, x in FLOPs of the budget, 6 N D. measured: curve, flops and loss of runs beside them.

    extrapolation: how many times outside the fitted range the question, or the farthest size, lies.
    """

    curves: pl.DataFrame
    measured: pl.DataFrame
    extrapolation: dict[str, float]


def of_question(fit: Fit, decision: Decision, table: pl.DataFrame | None) -> LossCurves:
    """The target from scratch and grown, over budgets; runs of about its size, by the same operator and g."""
    question = decision.question
    tpp = budgets(fit, question.D / question.N)
    D = tpp * question.N
    D_grown = D - (question.D - question.D_grown)
    payable = D_grown > 0
    scratch = pointwise(fit, Points.of(question.N, D), decision.level)
    grown = pointwise(fit, grown_points(question).at(D=D_grown[payable]), decision.level)
    flops = 6 * question.N * D
    names = {SCRATCH: "from scratch", question.operator: f"grown by {question.operator}, g = {question.g:.3g}"}
    curves = pl.concat(
        [of_forecast(names[SCRATCH], flops, scratch), of_forecast(names[question.operator], flops[payable], grown)]
    )
    return LossCurves(curves, beside_question(table, question, names), decision.extrapolation)


def of_sizes(fit: Fit, sizes: Sequence[float], table: pl.DataFrame | None, level: float) -> LossCurves:
    """Models of these sizes from scratch, over budgets; runs of about these sizes."""
    names = {N: format_count(N) for N in sizes}
    curves = []
    for N, name in names.items():
        D = tokens(fit, N)
        curves.append(of_forecast(name, 6 * N * D, pointwise(fit, Points.of(N, D), level)))
    measured = [beside(table, N, pl.col("operator") == SCRATCH, name) for N, name in names.items()]
    ratios = fit.domain.extrapolation(Points.of(list(sizes), np.multiply(sizes, fit.domain["tpp"][0])))["N"]
    farthest = {"N": float(ratios[np.argmax(np.abs(np.log(ratios)))])}
    return LossCurves(pl.concat(curves), pl.concat(measured), farthest)


def budgets(fit: Fit, asked: float) -> FloatArray:
    """Tokens per parameter from below the least fitted or asked to above the largest."""
    low, high = fit.domain["tpp"]
    return np.geomspace(min(low, asked) / BEYOND, max(high, asked) * BEYOND, POINTS)


def tokens(fit: Fit, N: float) -> FloatArray:
    """Tokens for a model of N parameters, about as far as runs go in tokens and in tokens per parameter."""
    (least, most), (low, high) = fit.domain["D"], fit.domain["tpp"]
    first = max(least, low * N)
    return np.geomspace(first, max(min(most, high * N), 2 * first) * BEYOND, POINTS)


def sizes_of(fit: Fit, n: int = 4) -> list[float]:
    """Round sizes over the fitted ones, for curves of a law of scratch runs."""
    low, high = fit.domain["N"]
    inner = np.geomspace(low, high, n + 2)[1:-1]
    return [float(f"{N:.1g}") for N in inner]


def beside_question(table: pl.DataFrame | None, question: Question, names: dict[str, str]) -> pl.DataFrame:
    """The measured runs of a question's two curves."""
    scratch = pl.col("operator") == SCRATCH
    grown = (pl.col("operator") == question.operator) & _near("growth_factor", question.g)
    kept = ((SCRATCH, scratch), (question.operator, grown))
    return pl.concat(beside(table, question.N, keep, names[name]) for name, keep in kept)


def beside(table: pl.DataFrame | None, N: float, keep: pl.Expr, curve: str) -> pl.DataFrame:
    """curve, flops = 6 N D, loss of the table's rows of about N parameters that `keep` keeps."""
    if table is None:
        return pl.DataFrame(schema={"curve": pl.String, "flops": pl.Float64, "loss": pl.Float64})
    found = table.filter(keep & _near("n_params", N))
    return found.select(
        curve=pl.lit(curve), flops=6 * pl.col("n_params") * pl.col("tokens"), loss=pl.col("loss").cast(pl.Float64)
    )


def _near(column: str, value: float) -> pl.Expr:
    return pl.col(column).is_between(value / NEAR, value * NEAR)


def caption(name: str, fit: Fit, level: float, drawn: LossCurves, decision: Decision | None) -> Caption:
    """What the chart says of itself; without a decision it is of a law of scratch runs."""
    count = drawn.measured.height
    points = (
        f"Points: {count} measured losses within {NEAR - 1:.0%} of a curve's size."
        if count
        else (f"No measured run within {NEAR - 1:.0%} of these sizes was given.")
    )
    bands = BOTH_BANDS.format(level=level) + THICK
    asked = (
        ()
        if decision is None
        else (f"Vertical: {growth_words(decision.question)}; {budget_words(decision.question)}.",)
    )
    return of_fit(name, fit, "Loss against compute", drawn.extrapolation, *asked, points, bands)


def chart(drawn: LossCurves, decision: Decision | None) -> "alt.LayerChart":
    """Curves, points and, of a question, its budget."""
    import altair as alt

    from scalegrow.plots.theme import FLOPS, log_x, panel

    frame, names = drawn.curves, drawn.curves["curve"].unique(maintain_order=True).to_list()
    x = log_x("x", "compute 6 N D, FLOPs", ends_of(frame["x"]), FLOPS)
    shown = frame.filter(pl.col("inside")) if frame["inside"].any() else frame  # far out bands hide the rest
    low, high = limits(frame["value"], shown["low"], shown["high"], drawn.measured["loss"], pad=0.08)
    y = alt.Y("value:Q", title="loss, nats per token", scale=alt.Scale(domain=[low, high], zero=False, nice=False))
    rule = [] if decision is None else [_budget(decision)]
    points = [] if drawn.measured.is_empty() else [_points(drawn.measured, names)]
    return panel(*layers(frame, x, y), *rule, *points)


def _points(measured: pl.DataFrame, names: list[str]) -> "alt.Chart":
    """Measured losses, a shape for each curve."""
    import altair as alt

    from scalegrow.plots.theme import INK, shapes

    named = measured.with_columns(run=pl.format("{}, measured", "curve"))
    shape = shapes("run", [f"{name}, measured" for name in names])
    points = alt.Chart(named).mark_point(filled=True, size=60, opacity=1, color=INK, stroke="white")
    return points.encode(x="flops:Q", y="loss:Q", shape=shape, tooltip=named.columns)


def _budget(decision: Decision) -> "alt.Chart":
    """The budget that was asked about."""
    import altair as alt

    flops = 6 * decision.question.N * decision.question.D
    return alt.Chart(pl.DataFrame({"x": [flops]})).mark_rule(color="#444444", strokeDash=[2, 2]).encode(x="x:Q")
