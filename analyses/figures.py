"""How the figures of analyses/ look and where they go: docs/claims/NAME.svg."""

from pathlib import Path

import altair as alt

from scalegrow.plots import theme

FIGURES = Path(__file__).parents[1] / "docs" / "claims"
FACTOR_AXIS = alt.Axis(values=[1, 1.5, 2, 3, 4, 6, 8, 16])
COLOURS = ["#1b6ca8", "#d1603d", "#4d8b31", "#7a5195", "#8a8d91", "#b8860b", "#000000", "#c2185b"]
SHAPES = theme.SHAPES


def save(chart: alt.TopLevelMixin, name: str) -> None:
    """Write a chart with the house's theme."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    styled = chart.configure_view(stroke="#cccccc").configure_axis(gridColor="#eeeeee", labelFontSize=11)
    styled = styled.configure_legend(orient="bottom", columns=4, labelLimit=300)
    styled.configure_title(anchor="start", fontSize=13, subtitleFontSize=11).save(FIGURES / f"{name}.svg")
    print(f"figure: docs/claims/{name}.svg")


def by_budget_and_size(chart: alt.Chart, width: int = 150, height: int = 130) -> alt.FacetChart:
    """A chart for each target size (rows) and budget (columns), each with its own scale of losses."""
    order = chart.data.sort("study", "n_params")["size"].unique(maintain_order=True).to_list()
    budget = alt.Column("budget:O", title="tokens (samples) per parameter")
    zero = alt.Chart(chart.data).mark_rule(color="#555555", strokeDash=[4, 3]).encode(y=alt.datum(0))
    facets = (
        alt.layer(zero, chart, data=chart.data)
        .properties(width=width, height=height)
        .facet(column=budget, row=alt.Row("size:N", title=None, sort=order))
    )
    return facets.resolve_scale(y="independent")


def with_error_bars(x: alt.X, y: str, title: str, colour: alt.Color, **channels: object) -> alt.LayerChart:
    """Points with a bar from `low` to `high`, joined by lines, and a rule at zero; data come with the layer."""
    base = alt.Chart().encode(x=x, color=colour, **channels)
    bars = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    lines = base.mark_line(opacity=0.5).encode(y=f"{y}:Q")
    points = base.mark_point(filled=True, size=45).encode(y=f"{y}:Q")
    zero = alt.Chart().mark_rule(color="#555555", strokeDash=[4, 3]).encode(y=alt.datum(0))
    return zero + bars + lines + points
