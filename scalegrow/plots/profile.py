"""Profile likelihoods of a law's coefficients, with their intervals beside those of the draws."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import quantiles
from scalegrow.laws.profile import profile
from scalegrow.laws.solve import Setup, solve
from scalegrow.plots.caption import Caption

if TYPE_CHECKING:
    import altair as alt

    from scalegrow.laws.law import Form
    from scalegrow.laws.loss import Loss
    from scalegrow.laws.observations import Observations
    from scalegrow.laws.solve import Fixed

COLUMNS = 3  # panels in a row
HIGHEST = 2.0  # times the threshold up to which D is drawn
LIKELIHOOD, DRAWS = "likelihood ratio", "draws"


@dataclass(frozen=True)
class Profiles:
    """curves: coefficient, value, D. intervals: coefficient, kind (profile or draws), best, low, high.

    threshold: of D, at the level. made: the fit.
    """

    curves: pl.DataFrame
    intervals: pl.DataFrame
    threshold: float
    made: Fit


def profiles(
    form: "Form", observations: "Observations", loss: "Loss", fixed: "Fixed", draws: int, level: float
) -> Profiles:
    """Of every fitted coefficient."""
    made = fit(form, observations, loss=loss, fixed=fixed, draws=draws)
    setup = Setup.of(form, observations, loss, fixed)
    optimum = solve(setup)
    found = [profile(setup, optimum, name, level) for name in form.names if name not in fixed]
    curves = [pl.DataFrame({"coefficient": each.name, "value": each.values, "D": each.D}) for each in found]
    low, high = quantiles(made.values(), level)
    rows = []
    for each in found:
        i = form.index(each.name)
        rows.append((each.name, LIKELIHOOD, each.best, each.low, each.high))
        rows.append((each.name, DRAWS, each.best, float(low[i]), float(high[i])))
    columns = ["coefficient", "kind", "best", "low", "high"]
    return Profiles(pl.concat(curves), pl.DataFrame(rows, schema=columns, orient="row"), found[0].threshold, made)


def caption(data: str, drawn: Profiles, level: float) -> Caption:
    """What the chart says of itself."""
    made = drawn.made
    held = ", ".join(made.fixed)
    notes = (
        f"D = -2 ln(L / L_max), all other coefficients fitted again{'; held: ' + held if held else ''}. "
        f"Dashed: D of the {level:.0%} interval.",
        f"Bars: solid, likelihood ratio (rows independent, law true); hollow, the draws ({made.resampling}).",
    )
    law = f"{made.law.form.name}, {made.law.form.formula} ({made.n_runs} runs, {made.status.name}), {made.loss}"
    sentence = "Nothing here EXTRAPOLATES: the profile is of the runs that were fitted."
    return Caption("Profile likelihoods", law, data, sentence, notes)


def chart(drawn: Profiles) -> "alt.VConcatChart":
    """A panel for each coefficient."""
    import altair as alt

    names = drawn.curves["coefficient"].unique(maintain_order=True).to_list()
    panels = [_panel(drawn, name) for name in names]
    rows = [alt.hconcat(*panels[i : i + COLUMNS], spacing=16) for i in range(0, len(panels), COLUMNS)]
    return alt.vconcat(*rows, spacing=12)


def _panel(drawn: Profiles, name: str) -> "alt.LayerChart":
    """D against the coefficient, on a log axis where it spans decades, and both intervals below."""
    import altair as alt

    from scalegrow.plots.curves import ends_of
    from scalegrow.plots.theme import INK, log_x, panel

    curve, intervals = (each.filter(pl.col("coefficient") == name) for each in (drawn.curves, drawn.intervals))
    ends = ends_of(pl.concat([curve["value"], *(finite(intervals[end]) for end in ("low", "high"))]))
    decades = ends[0] > 0 and ends[1] > 10 * ends[0]
    plain = alt.X("value:Q", title=name, scale=alt.Scale(domain=list(ends), zero=False, nice=False))
    x = log_x("value", name, ends, "format(datum.value, '~s')") if decades else plain
    top, bottom = HIGHEST * drawn.threshold, -0.3 * HIGHEST * drawn.threshold
    y = alt.Y(
        "D:Q", title="D", scale=alt.Scale(domain=[bottom, top], nice=False), axis=alt.Axis(values=[0, 2, 4, 6])
    )
    line = alt.Chart(curve).mark_line(color=INK, strokeWidth=2, clip=True).encode(x=x, y=y)
    level = (
        alt.Chart(pl.DataFrame({"D": [drawn.threshold]})).mark_rule(strokeDash=[4, 3], color="#777777").encode(y=y)
    )
    return panel(line, level, *_bars(intervals, ends, bottom), width=200, height=170)


def _bars(intervals: pl.DataFrame, ends: tuple[float, float], bottom: float) -> list["alt.Chart"]:
    """The likelihood's interval above the draws'; an end that was not found is the panel's."""
    import altair as alt

    from scalegrow.plots.theme import INK

    bars = []
    for kind, height, fill in ((LIKELIHOOD, 0.3, INK), (DRAWS, 0.7, "white")):
        row = intervals.filter(pl.col("kind") == kind).with_columns(
            pl.col("low", "high").clip(*ends), at=bottom * height
        )
        base = alt.Chart(row).encode(y="at:Q")
        bars.append(base.mark_rule(strokeWidth=2.5, color=INK).encode(x="low:Q", x2="high:Q"))
        bars.append(base.mark_point(filled=True, fill=fill, stroke=INK, size=50, opacity=1).encode(x="best:Q"))
    return bars


def finite(values: pl.Series) -> pl.Series:
    """Without the ends that were not found."""
    return values.filter(pl.Series(np.isfinite(values.to_numpy())))
