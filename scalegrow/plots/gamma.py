"""Loss against gamma, the exponent of the initialisation's std = fan_in^-gamma, at one size and some budgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.gamma import STANDARD, GammaLaw
from scalegrow.plan.gamma import choose_gamma, gamma_curve, grid
from scalegrow.plots.caption import Caption
from scalegrow.plots.curves import THICK, layers, limits
from scalegrow.units import format_count

if TYPE_CHECKING:
    import altair as alt

STEP = 0.02  # between gammas of a curve
HIGHEST = 0.15  # nats above the standard gamma that are drawn


@dataclass(frozen=True)
class GammaCurves:
    """curves: see `curves`, x gamma, value the loss minus that at STANDARD.

    found: curve, best gamma with low and high, gain there, critical, as `choose_gamma` has them.
    extrapolation: of the farthest budget.
    """

    curves: pl.DataFrame
    found: pl.DataFrame
    extrapolation: dict[str, float]


def gamma_curves(law: GammaLaw, N: float, budgets: Sequence[float], level: float) -> GammaCurves:
    """A curve for each number of tokens per parameter, along the measured gammas."""
    curves, found = [], []
    gammas = grid(law, STEP)
    ratios = dict.fromkeys(LABELS, 1.0)
    for tpp in budgets:
        choice, name = choose_gamma(law, N, tpp, level), f"{tpp:.3g} tokens per parameter"
        value, low, high = gamma_curve(law, gammas, N, tpp, level)
        columns = {"curve": [name] * len(gammas), "x": gammas, "value": value, "low": low, "high": high}
        curves.append(pl.DataFrame(columns | {"inside": [choice.inside_runs] * len(gammas)}))
        best = {"best": choice.best.value, "low": choice.best.low, "high": choice.best.high}
        found.append({"curve": name, **best, "gain": choice.gain.value, "critical": choice.critical.value})
        for variable, ratio in choice.extrapolation.items():
            ratios[variable] = max(ratios[variable], ratio, key=lambda each: abs(np.log(each)))
    return GammaCurves(pl.concat(curves), pl.DataFrame(found), ratios)


def middle_size(law: GammaLaw) -> float:
    """The geometric mean of the sizes behind a law."""
    return law.middle[0]


def budgets_of(law: GammaLaw) -> tuple[float, ...]:
    """The least, the middle and the largest number of tokens per parameter behind a law."""
    low, high = law.domain["tpp"]
    return (low, law.middle[1], high)


def caption(name: str, law: GammaLaw, N: float, drawn: GammaCurves, level: float) -> Caption:
    """What the chart says of itself."""
    told = "; ".join(
        f"{row['best']:.2f} ({row['low']:.2f} to {row['high']:.2f}) at {row['curve']}"
        for row in drawn.found.iter_rows(named=True)
    )
    notes = (
        f"{format_count(N)} parameters. Best gamma: {told}.",
        f"Points and bars: the best gamma and its interval. Bands: {level:.0%} interval of the mean. {THICK}",
    )
    data = f"{law.n_runs} runs on {law.data}"
    sentence = f"This question {extrapolation_sentence(drawn.extrapolation)}."
    return Caption(
        "Loss against gamma of the initialisation", f"curve in gamma (law {name})", data, sentence, notes
    )


def chart(drawn: GammaCurves) -> "alt.LayerChart":
    """Curves over a rule at nought, with the best gamma of each."""
    import altair as alt

    from scalegrow.plots.theme import INK, panel, shapes

    frame, names = drawn.curves, drawn.found["curve"].to_list()
    low, high = limits(frame["value"], frame["low"])
    y = alt.Y(
        "value:Q",
        title=f"loss - loss at gamma {STANDARD:g}, nats per token",
        scale=alt.Scale(domain=[low, min(high, HIGHEST)], nice=False),
    )
    x = alt.X("x:Q", title="gamma, of std = fan_in^-gamma", scale=alt.Scale(zero=False, nice=False))
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color="#777777", strokeDash=[4, 3]).encode(y="y:Q")
    found = alt.Chart(drawn.found.with_columns(which=pl.format("best at {}", "curve")))
    bars = found.mark_rule(strokeWidth=1.5, color=INK).encode(x="low:Q", x2="high:Q", y="gain:Q")
    points = found.mark_point(filled=True, size=80, color=INK, opacity=1, stroke="white")
    marks = points.encode(x="best:Q", y="gain:Q", shape=shapes("which", [f"best at {name}" for name in names]))
    return panel(zero, *layers(frame, x, y), bars, marks)
