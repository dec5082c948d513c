"""P1: preserving the base's function at step 0 is not what matters. Its rank correlation with the final loss.

    python analyses/preservation.py

Among the operators grown by the same factor to the same size: Kendall's tau between how far an operator's state is
from its base at step 0 (token KL, nats; of networks the mean square change of outputs) and its final Delta, by
budget. 1: the best preserved end best; 0: no relation. Intervals resample every cell's mean within its error.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, SHAPES, by_budget_and_size, save
from reference import everywhere
from scipy import stats

DRAWS, SEED, FEWEST = 1000, 0, 5


def tau(cell: pl.DataFrame, rng: np.random.Generator) -> tuple[float, float, float]:
    """Kendall's tau_b and its 95 % interval."""
    kl, y = cell["zero_step_kl"].to_numpy(), cell["difference"].to_numpy()
    error = (cell["s"] / cell["n"].sqrt()).to_numpy()
    drawn = [stats.kendalltau(kl, y + error * rng.standard_normal(len(y))).statistic for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(stats.kendalltau(kl, y).statistic), float(low), float(high)


def main() -> None:
    rng = np.random.default_rng(SEED)
    found = everywhere().filter(pl.col("factor") == 4)
    print("tau of zero-step distance and final Delta among operators at g = 4; +1 if preserving is what matters\n")
    print("target                           tpp  operators  tau (95 %)            best preserved     ends best")
    for key, cell in found.group_by("size", "budget", maintain_order=True):
        if cell.height < FEWEST:
            continue
        value, low, high = tau(cell, rng)
        first, best = (cell.sort(by)["arm"][0] for by in ("zero_step_kl", "difference"))
        print(
            f"{key[0]:32s} {key[1]:<4d} {cell.height:<10d} {value:+.2f} ({low:+.2f} to {high:+.2f})"
            f"   {first:18s} {best}"
        )
    distance = alt.Scale(type="symlog", constant=0.01)
    chart = (
        alt.Chart(found)
        .mark_point(filled=True, size=60)
        .encode(
            x=alt.X("zero_step_kl:Q", title="distance from the base at step 0", scale=distance),
            y=alt.Y("difference:Q", title="final Delta"),
            color=alt.Color("arm:N", title=None, scale=alt.Scale(range=COLOURS)),
            shape=alt.Shape("arm:N", title=None, scale=alt.Scale(range=SHAPES)),
        )
    )
    save(by_budget_and_size(chart, 170, 140), "preservation")


if __name__ == "__main__":
    main()
