"""P1: there is an upper bound on the growth factor, and it falls with the budget. Its place, with intervals.

    python analyses/growth_bound.py

For every target size and budget of SZP (lambda 0.4): Delta(g) = a + b x + c x^2 in x = ln g by least squares over
the measured factors, as arXiv 2605.13405 does with its curves, but on annealed losses, with the first crossing of
scratch instead of a count, and with an interval: draws of every cell's mean from its own error. That Delta may be
no parabola is not in the interval.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from reference import LEVEL, MAIN, everywhere

DRAWS, SEED, FINE = 4000, 0, 200
ENDS = ("low", "middle", "high")
QUANTILES = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
FEWEST = 3  # factors for three coefficients


def crossing(x: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """The first ln g beyond each curve's minimum where it is above 0; -inf if it never wins, inf if to the end."""
    found = np.full(len(curves), np.inf)
    for i, curve in enumerate(curves):
        least = int(curve.argmin())
        above = np.flatnonzero(curve[least:] > 0)
        if curve[least] >= 0:
            found[i] = -np.inf
        elif len(above):
            found[i] = x[least + above[0]]
    return found


def t_draws(rng: np.random.Generator, df: float, columns: int) -> np.ndarray:
    """Student's t (DRAWS, columns) with a common scale, as of one pooled deviation."""
    return rng.standard_normal((DRAWS, columns)) / np.sqrt(rng.chisquare(df, (DRAWS, 1)) / df)


def bound(cell: pl.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    """g_opt and g_upper of one size and budget within the measured factors, with intervals over draws."""
    ln_g, y = cell["growth_factor"].log().to_numpy(), cell["difference"].to_numpy()
    own, shared = (cell["s"] / cell["n"].sqrt()).to_numpy(), (cell["s_scratch"] / cell["n_scratch"].sqrt())[0]
    drawn = y + t_draws(rng, cell["df"][0], len(y)) * own  # every factor's runs scatter on their own
    drawn = drawn + t_draws(rng, cell["df_scratch"][0], 1) * shared  # scratch's error moves all alike
    x = np.linspace(ln_g.min(), ln_g.max(), FINE)
    curves = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(ln_g, drawn.T, 2))
    upper = np.exp(np.quantile(crossing(x, curves), QUANTILES, method="nearest"))  # every draw has its rank
    best = np.exp(np.quantile(x[curves.argmin(1)], QUANTILES))
    told = {f"g_upper_{end}": float(g) for end, g in zip(ENDS, upper, strict=True)}
    told |= {f"g_opt_{end}": float(g) for end, g in zip(ENDS, best, strict=True)}
    return {**told, "largest": float(np.exp(ln_g.max()))}


def bounds() -> pl.DataFrame:
    """A row for each study, size and budget with enough factors."""
    rng = np.random.default_rng(SEED)
    of_main = everywhere().filter(pl.col("arm") == MAIN)
    found = [
        {"size": key[0], "budget": key[1], **bound(cell.sort("growth_factor"), rng)}
        for key, cell in of_main.group_by("size", "budget", maintain_order=True)
        if cell.height >= FEWEST
    ]
    return pl.DataFrame(found)


def text(g: float, largest: float) -> str:
    """A bound for a person: none where growing never wins, over the largest measured factor where it does."""
    return "none" if g == 0 else f"over {largest:.1f}" if g == np.inf else f"{g:.1f}"


def main() -> None:
    found = bounds()
    print("g_opt, g_upper: where the parabola fitted to Delta is least, and where it meets scratch, among the")
    print("measured factors; 95 % over draws of the cells' means\n")
    print("target                           tpp   g_opt (95 %)         g_upper (95 %)")
    for row in found.iter_rows(named=True):
        best = f"{row['g_opt_middle']:.1f} ({row['g_opt_low']:.1f} to {row['g_opt_high']:.1f})"
        low, middle, high = (text(row[f"g_upper_{end}"], row["largest"]) for end in ENDS)
        print(f"{row['size']:32s} {row['budget']:<5d} {best:20s} {middle} ({low} to {high})")
    figure(found)


def figure(found: pl.DataFrame) -> None:
    """g_upper by budget; an end that lies beyond the measured factors is drawn at their end, one at none at 1."""
    ends = [pl.col(f"g_upper_{end}").clip(1.0, pl.col("largest")) for end in ENDS]
    base = alt.Chart(found.with_columns(ends)).encode(
        x=alt.X("budget:O", title="tokens (samples) per parameter of the target"),
        xOffset="size:N",
        color=alt.Color("size:N", title=None, scale=alt.Scale(range=COLOURS)),
    )
    scale = alt.Scale(type="log", base=2)
    bars = base.mark_rule().encode(y=alt.Y("g_upper_low:Q", title="g_upper", scale=scale), y2="g_upper_high:Q")
    points = base.mark_point(filled=True, size=50).encode(y="g_upper_middle:Q")
    under = "where a grown run (SZP, lambda 0.4) meets scratch, 95 %; cut at the measured factors"
    title = alt.Title("Largest useful growth factor", subtitle=under)
    save((bars + points).properties(width=480, height=280, title=title), "growth_bound")


if __name__ == "__main__":
    main()
