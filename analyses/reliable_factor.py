"""P1: twofold growth is the most reliable. Per factor: how often and how surely growing wins.

    python analyses/reliable_factor.py

Over all target sizes and budgets of a study (SZP, lambda 0.4): the share of cells whose mean beats scratch, the
mean probability that one new grown run beats one new scratch run, and the worst cell. Cells of one study are few,
so the shares are descriptions; P carries the noise of runs.

Intervals and P pool the noise s of a run over factors. Whether it rises with g is measured too: s ~ g^b within a
size. Of five factors the interval at 8 covers 95 % at b = 0, 94 % at 0.06, 90 % at 0.3, 87 % at 0.43, 72 % at 1,
that at 1.5 from 95 to 100 %. An own s for every cell would cover at any b, its intervals a fifth to a third wider.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, FACTOR_AXIS, save
from reference import LEVEL, MAIN, NAMES, everywhere, finals, studies, transferred
from scipy import stats

FEWEST_RUNS = 3  # of a cell that has a deviation of its own


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


def own_deviations(rows: pl.DataFrame) -> pl.DataFrame:
    """ln g and the ln s of every cell's own runs (SZP, lambda 0.4), by size and budget."""
    usual = (pl.col("arm") == MAIN) & (pl.col("base_budget") == 20) & (pl.col("lr") == transferred(rows))
    own = rows.filter(usual).group_by("n_params", "budget", "growth_factor").agg(pl.len(), pl.col("loss").std())
    enough = own.filter(pl.col("len") >= FEWEST_RUNS)
    return enough.select("n_params", "budget", ln_g=pl.col("growth_factor").log(), ln_s=pl.col("loss").log())


def noise_slope(deviations: pl.DataFrame) -> tuple[float, float, float] | None:
    """b of s ~ g^b within a size, low and high; None if too few. Budgets share runs: their mean ln s counts."""
    points = deviations.group_by("n_params", "ln_g").agg(pl.col("ln_s").mean())
    freedom = points.height - points["n_params"].n_unique() - 1
    if freedom < 1:
        return None
    x, y = (points.select(pl.col(name) - pl.col(name).mean().over("n_params")) for name in ("ln_g", "ln_s"))
    x, y = x.to_series().to_numpy(), y.to_series().to_numpy()
    b = float(x @ y / (x @ x))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(np.sum((y - b * x) ** 2) / freedom / (x @ x)))
    return b, b - reach, b + reach


def print_noise_slopes() -> None:
    print("\ns ~ g^b within a size: b (95 %); intervals and P above pool s over factors, as if b were 0")
    for study in studies():
        deviations = own_deviations(finals(study))
        parts = {f"{budget} tpp": deviations.filter(budget=budget) for budget in (5, 10, 20, 40)}
        for name, part in {**parts, "all": deviations}.items():
            if found := noise_slope(part):
                b, low, high = found
                print(f"{NAMES[study]:23s} {name:7s} {b:+.2f} ({low:+.2f} to {high:+.2f})")


def main() -> None:
    found = reliability(everywhere())
    print("won: cells whose mean is below scratch; surely: whose 95 % interval is; P: that one new grown run ends")
    print("below one new run from scratch, mean and worst cell; Delta: mean (nats; of networks ln error)\n")
    print("study                   budgets         g    cells  won   surely  surely lost  P     worst P  Delta")
    for row in found.iter_rows(named=True):
        print(
            f"{row['study']:23s} {row['budgets']:15s} {row['factor']:<4g} {row['cells']:5d}  {row['won']:4.0%}  "
            f"{row['surely']:5.0%}   {row['surely_lost']:9.0%}    {row['probability']:.2f}  {row['worst']:6.2f}   "
            f"{row['mean']:+.4f}"
        )
    print_noise_slopes()
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
