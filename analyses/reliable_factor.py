"""P1: twofold growth is the most reliable. Per factor: how often and how surely growing wins.

    python analyses/reliable_factor.py

Over all target sizes and budgets of a study (SZP, lambda 0.4): the share of cells whose mean beats scratch, the
mean probability that one new grown run beats one new scratch run, and the worst cell. Cells of one study are few,
so the shares are descriptions; P carries the noise of runs.
"""

import altair as alt
import polars as pl
from figures import COLOURS, FACTOR_AXIS, save
from reference import MAIN, everywhere


def reliability(found: pl.DataFrame) -> pl.DataFrame:
    """A row for each study, group of budgets and factor."""
    early = pl.when(pl.col("budget") <= 10).then(pl.lit("5 and 10 tpp")).otherwise(pl.lit("20 and 40 tpp"))
    return (
        found.filter(pl.col("arm") == MAIN)
        .with_columns(budgets=early)
        .group_by("study", "budgets", "factor")
        .agg(
            pl.len().alias("cells"),
            (pl.col("difference") < 0).mean().alias("won"),
            (pl.col("high") < 0).mean().alias("surely"),
            (pl.col("low") > 0).mean().alias("surely_lost"),
            pl.col("wins").mean().alias("probability"),
            pl.col("wins").min().alias("worst"),
            pl.col("difference").mean().alias("mean"),
        )
        .sort("study", "budgets", "factor", descending=[False, True, False])
    )


def main() -> None:
    found = reliability(everywhere())
    print("won: cells whose mean is below scratch; surely: whose 95 % interval is; P: that one new run wins, mean")
    print("and worst cell; Delta: mean difference (nats; of networks ln error)\n")
    print("study                   budgets         g    cells  won   surely  surely lost  P     worst P  Delta")
    for row in found.iter_rows(named=True):
        print(
            f"{row['study']:23s} {row['budgets']:15s} {row['factor']:<4g} {row['cells']:5d}  {row['won']:4.0%}  "
            f"{row['surely']:5.0%}   {row['surely_lost']:9.0%}    {row['probability']:.2f}  {row['worst']:6.2f}   "
            f"{row['mean']:+.4f}"
        )
    chart = alt.Chart(found).encode(
        x=alt.X(
            "factor:Q",
            scale=alt.Scale(type="log", base=2),
            axis=FACTOR_AXIS,
            title="growth factor asked for, in parameters",
        ),
        y=alt.Y(
            "probability:Q", title="P(one grown run ends below one scratch run)", scale=alt.Scale(domain=[0, 1])
        ),
        color=alt.Color("study:N", title=None, scale=alt.Scale(range=COLOURS)),
        strokeDash=alt.StrokeDash("budgets:N", title=None, legend=alt.Legend(symbolType="stroke")),
    )
    title = alt.Title("Which factor is reliable", subtitle="SZP, lambda 0.4; mean over target sizes")
    half = alt.Chart().mark_rule(color="#555555").encode(y=alt.datum(0.5))
    points = chart.mark_line(point=True)
    save(alt.layer(half, points, data=found).properties(width=420, height=280, title=title), "reliable_factor")


if __name__ == "__main__":
    main()
