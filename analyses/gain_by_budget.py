"""P1: gains are largest under 20 tokens per parameter and diminish with the budget. The slope, with its interval.

    python analyses/gain_by_budget.py

Every run's losses at its budgets make one line in log2(tokens per parameter), so that a run counts once however
many budgets its trunk served. Delta's line is the mean line of the grown runs (SZP, lambda 0.4) minus that of
scratch, both at the transferred learning rate; its covariance is pooled between runs of a cell, draws are
multivariate t. The break-even budget is where the line meets zero: beyond 40 it is read off the line alone.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save, with_error_bars
from reference import MAIN, NAMES, everywhere, finals, studies, transferred

DRAWS, SEED = 4000, 0
MIDDLE = np.log2(14)  # about the middle of 5 to 40 tokens per parameter: there level and slope hardly depend
LATEST = 1e3  # tokens per parameter


def lines(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a run: its size, factor, level (at the middle) and slope per doubling of the budget."""
    found = []
    for key, run in rows.group_by("n_params", "factor", "run", maintain_order=True):
        if run.height > 2:
            slope, level = np.polyfit(np.log2(run["budget"].to_numpy()) - MIDDLE, run["loss"].to_numpy(), 1)
            found.append((key[0], key[1], level, slope))
    return pl.DataFrame(found, schema=["n_params", "factor", "level", "slope"], orient="row")


def differences(study: str, rng: np.random.Generator) -> list[tuple[float, int, np.ndarray]]:
    """(factor, sizes, draws [n, 2] of Delta's level and slope, the first the estimate), means over sizes."""
    rows = finals(study)
    alike = rows.filter(pl.col("lr") == transferred(rows))
    usual = (pl.col("arm") == MAIN) & (pl.col("base_budget") == 20)
    by_run = lines(alike.filter((pl.col("operator") == "scratch") | usual))
    values = {key: part.select("level", "slope").to_numpy() for key, part in by_run.group_by("n_params", "factor")}
    found = []
    for factor in by_run.filter(pl.col("factor") > 1)["factor"].unique().sort():
        arms = [(values[n, g], values.get((n, 1.0), ())) for n, g in values if g == factor]
        pairs = [(grown, scratch) for grown, scratch in arms if min(len(grown), len(scratch)) > 1]
        if pairs:
            found.append((factor, len(pairs), drawn(pairs, rng)))
    return found


def drawn(pairs: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    """Mean over pairs of (grown mean - scratch mean), and draws of it from a multivariate t.

    Its covariance V is the sum of every pair's V_p, of df_p; sizes differ in noise, and Satterthwaite's freedom is
    1 / sum (share_p^2 / df_p) with share_p = tr(V^-1 V_p) / 2.
    """
    estimate = np.mean([grown.mean(0) - scratch.mean(0) for grown, scratch in pairs], axis=0)
    df = np.array([sum(len(runs) - 1 for runs in pair) for pair in pairs])
    parts = np.array([covariance(pair) for pair in pairs]) / len(pairs) ** 2
    total = parts.sum(0)
    shares = np.trace(np.linalg.solve(total, parts), axis1=1, axis2=2) / 2
    freedom = 1 / np.sum(shares**2 / df)
    normal = rng.multivariate_normal(np.zeros(2), total, DRAWS)
    return np.vstack([estimate, estimate + normal / np.sqrt(rng.chisquare(freedom, (DRAWS, 1)) / freedom)])


def covariance(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Of (grown mean - scratch mean), by the scatter of both cells' runs about their means."""
    squares = sum((runs - runs.mean(0)).T @ (runs - runs.mean(0)) for runs in pair)
    return squares / sum(len(runs) - 1 for runs in pair) * sum(1 / len(runs) for runs in pair)


def break_even(level: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Tokens per parameter at which Delta is 0; where it does not rise, 0 if growing loses, inf if it wins."""
    with np.errstate(divide="ignore", over="ignore"):
        meets = np.exp2(MIDDLE - level / slope)
    return np.where(slope > 0, meets, np.where(level > 0, 0.0, np.inf))


def main() -> None:
    rng = np.random.default_rng(SEED)
    print("95 % over draws; a break-even beyond the measured 40 is where the straight line would meet zero\n")
    print("study                   g    sizes  Delta's change per doubling     break-even, tokens per parameter")
    for study in studies():
        for factor, sizes, draws in differences(study, rng):
            low, high = np.quantile(draws[:, 1], [0.025, 0.975])
            evens = break_even(*draws.T)
            soon, late = np.quantile(evens, [0.025, 0.975], method="nearest")
            told = "  ".join(f"over {LATEST:.0f}" if each > LATEST else f"{each:.0f}" for each in (soon, late))
            print(
                f"{NAMES[study]:23s} {factor:<4g} {sizes:<6d} {draws[0, 1]:+.4f} ({low:+.4f} to {high:+.4f})"
                f"    {evens[0]:.0f} ({told.replace('  ', ' to ')})"
            )
    figure()


def figure() -> None:
    shown = everywhere().filter(pl.col("arm") == MAIN)
    x = alt.X("budget:O", title="tokens (samples) per parameter")
    colour = alt.Color("factor:N", title="g", scale=alt.Scale(range=COLOURS))
    charts = []
    for key, part in shown.group_by("size", maintain_order=True):
        chart = with_error_bars(x, "difference", "Delta", colour, xOffset="factor:N")
        charts.append(chart.properties(data=part, width=220, height=200, title=key[0]))
    save(alt.concat(*charts, columns=3).resolve_scale(y="independent"), "gain_by_budget")


if __name__ == "__main__":
    main()
