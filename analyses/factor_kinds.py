"""How g is counted changes the story: the largest useful factor in parameters, without embeddings, and in width.

    python analyses/factor_kinds.py

The same runs (SZP, lambda 0.4) under three names of their factor, and the bound of growth_bound.py read in each.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, FACTOR_AXIS, by_budget_and_size, save
from growth_bound import bounds
from reference import MAIN, everywhere

KINDS = {
    "growth_factor": "parameters",
    "growth_factor_non_embedding": "without embeddings",
    "growth_factor_width": "width",
}


def main() -> None:
    found = everywhere().filter(pl.col("arm") == MAIN)
    print("target                           asked  " + "".join(f"{name:22s}" for name in KINDS.values()))
    for key, cell in found.group_by("size", "factor", maintain_order=True):
        print(f"{key[0]:32s} {key[1]:<5g}  " + "".join(f"{cell[kind][0]:<22.2f}" for kind in KINDS))
    print("\nthe bound of growth_bound.py in each, read off the measured factors (linear in ln g)")
    for row in bounds().filter(pl.col("g_upper_middle").is_between(1, pl.col("largest"))).iter_rows(named=True):
        cell = found.filter(pl.col("size") == row["size"], pl.col("budget") == row["budget"]).sort("growth_factor")
        ln_g = np.log(cell["growth_factor"].to_numpy())
        told = [
            f"{name} {np.exp(np.interp(np.log(row['g_upper_middle']), ln_g, np.log(cell[kind].to_numpy()))):.2f}"
            for kind, name in KINDS.items()
        ]
        print(f"  {row['size']:32s} {row['budget']:<3d} tpp: {', '.join(told)}")
    kept = ["study", "n_params", "size", "budget", "difference"]
    long = found.unpivot(list(KINDS), index=kept, variable_name="kind", value_name="g")
    long = long.with_columns(pl.col("kind").replace_strict(KINDS))
    chart = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            x=alt.X("g:Q", scale=alt.Scale(type="log", base=2), axis=FACTOR_AXIS),
            y=alt.Y("difference:Q", title="Delta"),
            color=alt.Color("kind:N", title="g in", scale=alt.Scale(range=COLOURS)),
        )
    )
    save(by_budget_and_size(chart), "factor_kinds")


if __name__ == "__main__":
    main()
