"""P1: there is an upper bound on the growth factor, and it falls with the budget. Its place, with intervals.

    python analyses/growth_bound.py

For every target size and budget of SZP (lambda 0.4): Delta(g) = a + b x + c x^2 in x = ln g by least squares over
the measured factors, as arXiv 2605.13405 does with its curves, but on annealed losses, with the first crossing of
scratch instead of a count, and with an interval: draws of every cell's mean from its own error.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from reference import LEVEL, MAIN, everywhere

DRAWS, SEED, FINE = 4000, 0, 200
FEWEST = 3  # factors for three coefficients


def crossing(x: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """The first ln g beyond each curve's minimum where it is above 0; nan where there is none."""
    found = np.full(len(curves), np.nan)
    for i, curve in enumerate(curves):
        least = int(curve.argmin())
        above = np.flatnonzero(curve[least:] > 0)
        if curve[least] < 0 and len(above):
            found[i] = x[least + above[0]]
    return found


def t_draws(rng: np.random.Generator, df: int, columns: int) -> np.ndarray:
    """Student's t (DRAWS, columns) with a common scale, as of one pooled deviation."""
    return rng.standard_normal((DRAWS, columns)) / np.sqrt(rng.chisquare(df, (DRAWS, 1)) / df)


def bound(cell: pl.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    """g_opt and g_upper of one size and budget within the measured factors, with intervals over draws."""
    ln_g, y = cell["growth_factor"].log().to_numpy(), cell["difference"].to_numpy()
    own, shared = (cell["s"] / cell["n"].sqrt()).to_numpy(), (cell["s_scratch"] / cell["m"].sqrt())[0]
    drawn = y + t_draws(rng, cell["df"][0], len(y)) * own  # every factor's runs scatter on their own
    drawn = drawn + t_draws(rng, cell["df_scratch"][0], 1) * shared  # scratch's error moves all alike
    x = np.linspace(ln_g.min(), ln_g.max(), FINE)
    curves = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(ln_g, drawn.T, 2))
    upper, best = crossing(x, curves), x[curves.argmin(1)]
    never = float((curves.min(1) > 0).mean())
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    inside = upper[np.isfinite(upper)]
    low, high = np.exp(np.quantile(inside, tails)) if len(inside) > DRAWS / 20 else (np.nan, np.nan)
    return {
        "g_opt": float(np.exp(np.median(best))),
        "g_opt_low": float(np.exp(np.quantile(best, tails[0]))),
        "g_opt_high": float(np.exp(np.quantile(best, tails[1]))),
        "never": never,
        "crosses": len(inside) / DRAWS,
        "beyond": 1 - never - len(inside) / DRAWS,
        "g_upper": float(np.exp(np.median(inside))) if len(inside) > DRAWS / 20 else np.nan,
        "low": float(low),
        "high": float(high),
        "largest": float(np.exp(ln_g.max())),
    }


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


def main() -> None:
    found = bounds()
    print(
        "g_upper: where the grown run meets scratch; shares of draws in which it lies within the measured factors,"
    )
    print("beyond them, or nowhere (growing never wins)\n")
    print("target                           tpp   g_opt (95 %)         within  beyond  nowhere  g_upper (95 %)")
    for row in found.iter_rows(named=True):
        upper = f"{row['g_upper']:.1f} ({row['low']:.1f} to {row['high']:.1f})" if row["crosses"] > 0.5 else ""
        upper = upper or (f"over {row['largest']:.1f}" if row["beyond"] > 0.5 else "")
        best = f"{row['g_opt']:.1f} ({row['g_opt_low']:.1f} to {row['g_opt_high']:.1f})"
        print(
            f"{row['size']:32s} {row['budget']:<5d} {best:20s} {row['crosses']:.2f}    "
            f"{row['beyond']:.2f}    {row['never']:.2f}     {upper}"
        )
    figure(found)


def figure(found: pl.DataFrame) -> None:
    known = found.filter(pl.col("crosses") > 0.5)
    if known.is_empty():
        return
    base = alt.Chart(known).encode(
        x=alt.X("budget:O", title="tokens (samples) per parameter of the target"),
        xOffset="size:N",
        color=alt.Color("size:N", title=None, scale=alt.Scale(range=COLOURS)),
    )
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="g_upper", scale=alt.Scale(type="log")), y2="high:Q")
    points = base.mark_point(filled=True, size=50).encode(y="g_upper:Q")
    title = alt.Title(
        "Largest useful growth factor", subtitle="where a grown run (SZP, lambda 0.4) meets scratch; 95 %"
    )
    save((bars + points).properties(width=480, height=280, title=title), "growth_bound")


if __name__ == "__main__":
    main()
