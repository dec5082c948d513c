"""P1: preserving the base's function at step 0 is not what matters. Its rank correlation with the final loss.

    python analyses/preservation.py

Among the operators grown by the same factor to the same size: Kendall's tau_b between how far an operator's state
is from its base at step 0 (token KL, nats; of networks the mean square change of outputs) and its final Delta, by
budget. 0: no relation; 1: the best preserved end best (less where operators tie). The noise of runs pulls the
measured tau towards 0, and resampling within errors pulls once more: of five to nine operators such intervals hold
the true tau anywhere from never to always, reflected ones from 57 %. Said instead: the exact p of no relation, and
the pairs of operators that the runs tell apart.
"""

from itertools import permutations

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, SHAPES, by_budget_and_size, save
from reference import LEVEL, everywhere, welch
from scipy import stats

FEWEST = 5
ROUNDING = 6  # digits: operators that preserve differ by rounding errors (1e-13), which no rank should count


def signs(values: np.ndarray) -> np.ndarray:
    """Of every pair i < j along the last axis the sign of value_j - value_i."""
    i, j = np.triu_indices(values.shape[-1], 1)
    return np.sign(values[..., j] - values[..., i])


def chance(distance: np.ndarray, y: np.ndarray) -> float:
    """Exact two-sided p: the share of all orders of the distances whose |tau| is at least the measured one."""
    scores = signs(np.array(list(permutations(distance)))) @ signs(y)
    return float(np.mean(np.abs(scores) >= abs(signs(distance) @ signs(y))))


def told_apart(cell: pl.DataFrame) -> tuple[int, int, int]:
    """The pairs at unlike distance; of them, those whose nearer one surely ends better, and surely worse.

    Surely: by Welch's t at a level of 95 % for all pairs of the cell together (Bonferroni).
    """
    pairs = cell.join(cell, how="cross", suffix="_other").filter(pl.col("distance") < pl.col("distance_other"))
    pairs = welch(pairs, "_other").with_columns(gap=pl.col("difference") - pl.col("difference_other"))
    reach = stats.t.ppf(1 - (1 - LEVEL) / 2 / pairs.height, pairs["freedom"].to_numpy())
    t = (pairs["gap"] / pairs["error"]).to_numpy()
    return pairs.height, int((t < -reach).sum()), int((t > reach).sum())


def print_cells(found: pl.DataFrame) -> None:
    """A line for each size and budget of enough operators."""
    print(
        "target                           tpp  operators  tau    p     pairs better worse best            nearest"
    )
    for key, cell in found.group_by("size", "budget", maintain_order=True):
        if cell.height < FEWEST:
            continue
        distance, y = cell["distance"].to_numpy(), cell["difference"].to_numpy()
        tau, (pairs, better, worse) = stats.kendalltau(distance, y).statistic, told_apart(cell)
        nearest = cell.filter(pl.col("distance") == pl.col("distance").min())["arm"]
        print(
            f"{key[0]:32s} {key[1]:<4d} {cell.height:<10d} {tau:+.2f}  {chance(distance, y):.2f}  {pairs:<5d} "
            f"{better:<6d} {worse:<5d} {cell.sort('difference')['arm'][0]:15s} {', '.join(nearest)}"
        )


def main() -> None:
    found = everywhere().filter(pl.col("factor") == 4)
    found = found.with_columns(distance=pl.col("zero_step_kl").round(ROUNDING))
    print("tau of zero-step distance and final Delta among operators at g = 4, as measured; positive: the better")
    print("preserved end better. p: how often distances dealt out at random give a tau as far from 0 (exact).")
    print("pairs: of unlike distance; of them, whose nearer one surely ends better, and worse (95 %, jointly)\n")
    print_cells(found)
    distance = alt.Scale(type="symlog", constant=0.01)
    chart = (
        alt.Chart(found.filter(pl.len().over("size", "budget") >= FEWEST))
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
