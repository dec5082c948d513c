"""The decision map: where in growth factor x budget growing wins, how surely, and where the question lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import chances
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.advise import LIKELY, SURE
from scalegrow.plan.decide import Decision, Question, break_even_budget, grown_points
from scalegrow.plots.caption import Caption, budget_words, growth_words, of_fit

if TYPE_CHECKING:
    import altair as alt

HELD = ("target", "base")
EDGES = (0.0, 1 - SURE, 1 - LIKELY, 0.5, LIKELY, SURE, 1.0)  # where the words of the advice change
VERDICTS = (
    "train from scratch",
    "lean to scratch",
    "too close to call",
    "too close to call",
    "lean to growing",
    "grow",
)
CLASSES = [
    f"{low:.1f} to {high:.1f}: {verdict}" for low, high, verdict in zip(EDGES, EDGES[1:], VERDICTS, strict=False)
]
SHADES = ["#fffaf0", "#f2dfb8", "#d9bd86", "#a9a07c", "#5b8a86", "#12455a"]  # light to dark: in grey as in colour
BELOW, ABOVE = 4.0, 6.0  # times the fitted and asked budgets down to and up to which the map goes
BESIDE = 1.4  # times the fitted and asked growth factors
LEAST_G = 1.05
LINE_STEPS = 20  # growth factors at which a break-even budget is looked for, about
HATCH = 2  # cells between two strokes


@dataclass(frozen=True)
class DecisionMap:
    """cells: g, tpp, their edges, probability, its class, inside the fitted range or not.

    line: g and the break-even budget in tokens per parameter with its interval; 0 and inf as `Decision` has them.
    point: the question's g, tpp and probability with its interval.
    """

    cells: pl.DataFrame
    line: pl.DataFrame
    point: pl.DataFrame

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The ends of g and of tpp."""
        ends = self.cells.select(pl.col("g_low", "tpp_low").min(), pl.col("g_high", "tpp_high").max()).row(0)
        return (ends[0], ends[2]), (ends[1], ends[3])


def decision_map(
    fit: Fit, decision: Decision, held: str = "target", steps: tuple[int, int] = (40, 32)
) -> DecisionMap:
    """(g, tpp) in so many steps around the fitted range and the question.

    held: what stays the same along g; the target, its base N / g, or the base, its target g N_base. Either way a
    base saw the question's tokens per parameter. Raises InputError on another word.
    """
    if held not in HELD:
        raise InputError(f"'{held}' cannot be held: choose {' or '.join(HELD)}.")
    question = decision.question
    at = question.grown_by if held == "target" else question.grown_to
    g_edges, tpp_edges = edges(fit, question, steps)
    columns = [
        _column(fit, at(g), tpp_edges).with_columns(g_low=pl.lit(low), g_high=pl.lit(high))
        for g, (low, high) in zip(middles(g_edges), pairwise(g_edges), strict=True)
    ]
    along = [at(g) for g in sorted([question.g, *g_edges[:: steps[0] // LINE_STEPS or 1]])]
    return DecisionMap(pl.concat(columns), _line(fit, along, decision.level), point_of(decision))


def edges(fit: Fit, question: Question, steps: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """The edges of the cells, evenly spaced in the logs of g and of tpp."""
    asked, domain = question.D / question.N, fit.domain
    g_low, g_high = domain["g"]
    low, high = domain["tpp"]
    least = max(LEAST_G, min(g_low, question.g) / BESIDE)
    g = np.geomspace(least, max(g_high, question.g) * BESIDE, steps[0] + 1)
    return g, np.geomspace(min(low, asked) / BELOW, max(high, asked) * ABOVE, steps[1] + 1)


def middles(edges: FloatArray) -> FloatArray:
    """The middles of cells, in logs."""
    return np.sqrt(edges[1:] * edges[:-1])


def _column(fit: Fit, question: Question, tpp_edges: FloatArray) -> pl.DataFrame:
    """The cells of one g; where the base cannot be paid from the budget, growing cannot win."""
    tpp = middles(tpp_edges)
    D = tpp * question.N
    D_grown = D - (question.D - question.D_grown)
    payable = D_grown > 0
    grown = grown_points(question).at(D=np.where(payable, D_grown, D))
    probability = np.where(payable, chances(fit, grown, Points.of(question.N, D)), 0.0)
    classes = np.clip(np.searchsorted(EDGES, probability, side="right") - 1, 0, len(CLASSES) - 1)
    return pl.DataFrame(
        {
            "g": np.full(len(tpp), question.g),
            "tpp": tpp,
            "tpp_low": tpp_edges[:-1],
            "tpp_high": tpp_edges[1:],
            "probability": probability,
            "verdict": [CLASSES[i] for i in classes],
            "inside": (fit.domain.distance(grown) == 0) & payable,
        }
    )


def _line(fit: Fit, along: Sequence[Question], level: float) -> pl.DataFrame:
    """The break-even budget of each g."""
    found = [break_even_budget(fit, question, level) for question in along]
    rows = [(question.g, each.value, each.low, each.high) for question, each in zip(along, found, strict=True)]
    return pl.DataFrame(rows, schema=["g", "tpp", "low", "high"], orient="row")


def point_of(decision: Decision) -> pl.DataFrame:
    """The question on the map, with what `decide` found."""
    question, chance = decision.question, decision.probability_growing_wins
    row = (question.g, question.D / question.N, chance.value, chance.low, chance.high)
    return pl.DataFrame([row], schema=["g", "tpp", "probability", "low", "high"], orient="row")


def caption(name: str, fit: Fit, decision: Decision, held: str) -> Caption:
    """What the map says of itself."""
    question = decision.question
    notes = (
        f"Diamond: {growth_words(question)}; {budget_words(question)}. Along g the {held} stays the same.",
        "Line: up to where growing is expected to win; an end of its interval that is not drawn lies off the map.",
        "Hatched: outside the fitted runs, where the map EXTRAPOLATES.",
    )
    return of_fit(name, fit, "Where growing wins, and how surely", decision.extrapolation, *notes)


def chart(drawn: DecisionMap, level: float) -> "alt.LayerChart":
    """Cells in shades, the hatch, the break-even line with its band, the question."""
    import altair as alt

    from scalegrow.plots.theme import log_x, log_y, panel

    g, tpp = drawn.limits
    x, y = log_x("g_low", "growth factor g", g), log_y("tpp_low", "tokens per parameter", tpp)
    legend = alt.Legend(title="probability that growing wins", symbolStrokeColor="#999999", symbolStrokeWidth=1)
    shade: dict[str, Any] = {
        "legend": legend,
        "scale": alt.Scale(domain=CLASSES[::-1], range=SHADES[::-1]),
        "sort": CLASSES[::-1],
    }
    painted = {"fill": alt.Fill("verdict:O", **shade), "stroke": alt.Stroke("verdict:O", **shade)}  # no seams
    cells = alt.Chart(merged(drawn.cells)).mark_rect(strokeWidth=0.6, aria=False, clip=True)
    cells = cells.encode(x=x, x2="g_high:Q", y=y, y2="tpp_high:Q", tooltip=["verdict:N"], **painted)
    hatch = alt.Chart(hatched(drawn.cells)).mark_point(
        shape="stroke", angle=315, aria=False, size=70, color="#444444", opacity=0.75
    )
    return panel(
        cells,
        hatch.encode(x="g:Q", y="tpp:Q"),
        *_lines(drawn.line, f"{level:.0%} interval"),
        *_question(drawn.point),
    )


def merged(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells of one class above one another as one, for a small picture."""
    ordered = cells.sort("g", "tpp").with_columns(run=pl.struct("g", "verdict").rle_id())
    edges = pl.col("g_low", "g_high", "tpp_low").first(), pl.col("tpp_high").last()
    return ordered.group_by("run", maintain_order=True).agg(pl.col("verdict").first(), *edges).drop("run")


def hatched(cells: pl.DataFrame) -> pl.DataFrame:
    """Every HATCH-th cell outside the fitted range, in rows that alternate."""
    column, row = (pl.col(name).rank("dense").cast(pl.Int64) for name in ("g", "tpp"))
    return cells.filter(~pl.col("inside") & (row % HATCH == 0) & ((column + row // HATCH) % HATCH == 0))


def _lines(line: pl.DataFrame, interval: str) -> list["alt.Chart"]:
    """The break-even line and the ends of its interval, each over a halo."""
    import altair as alt

    names = {"tpp": "break-even budget", "low": interval, "high": interval}
    drawn = pl.concat(
        line.select("g", tpp=column, curve=pl.lit(curve), end=pl.lit(column)) for column, curve in names.items()
    )
    found = drawn.filter(pl.col("tpp").is_finite() & (pl.col("tpp") > 0))
    scale = alt.Scale(domain=[names["tpp"], interval], range=[[1, 0], [5, 3]])
    base = alt.Chart(found).encode(x="g:Q", y="tpp:Q", detail="end:N")
    return [
        base.mark_line(color="white", strokeWidth=4, opacity=0.8, clip=True),
        base.mark_line(color="black", strokeWidth=1.8, clip=True).encode(
            strokeDash=alt.StrokeDash("curve:N", title=None, scale=scale)
        ),
    ]


def _question(point: pl.DataFrame) -> list["alt.Chart"]:
    """A diamond with its probability."""
    import altair as alt

    from scalegrow.plots.theme import diamond

    mark = diamond(point).encode(x="g:Q", y="tpp:Q", tooltip=point.columns)
    text = alt.Chart(point).encode(x="g:Q", y="tpp:Q", text=alt.Text("probability:Q", format=".2f"))
    strokes = ({"stroke": "white", "strokeWidth": 4}, {"color": "black"})  # a halo below the words
    words: list[dict[str, Any]] = [{"dx": 12, "align": "left", "fontSize": 13, **stroke} for stroke in strokes]
    return [mark, *(text.mark_text(**each) for each in words)]
