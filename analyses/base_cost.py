"""Who pays for the base? Delta at equal compute where the base is free, shared by four targets, or paid in full.

    python analyses/base_cost.py

A grown run of D tokens costs 6 N D, and its base 6 N_base D_base, of which a share is charged: 0 (sunk), 1/4
(amortised:4), 1 (paid). Scratch gets the same compute, D + share N_base D_base / N tokens; its loss there is read
off its own losses by a monotone cubic in ln D (PCHIP), within the measured budgets. Intervals are those of Delta
at the grown run's own tokens: they know neither how scratch scatters at more of them nor the cubic's error.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, FACTOR_AXIS, by_budget_and_size, save
from reference import MAIN, NAMES, everywhere, finals, scratch, starred, studies, with_interval
from scipy.interpolate import PchipInterpolator

SHARES = {"sunk": 0.0, "amortised:4": 0.25, "paid": 1.0}


def charged(study: str, found: pl.DataFrame) -> pl.DataFrame:
    """Delta at equal compute, by who pays; left out where scratch would need more tokens than measured."""
    by_size = {
        key[0]: PchipInterpolator(np.log(part["tokens"]), part["loss"], extrapolate=False)
        for key, part in scratch(finals(study)).sort("tokens").group_by("n_params", maintain_order=True)
        if part.height > 1
    }
    rows = []
    for row in found.iter_rows(named=True):
        for name, share in SHARES.items():
            equal = row["tokens"] + share * row["base_params"] * row["base_tokens"] / row["n_params"]
            gap = row["loss"] - float(by_size[row["n_params"]](np.log(equal)))
            rows.append({**row, "payer": name, "gap": gap})
    return with_interval(pl.DataFrame(rows, infer_schema_length=None).filter(pl.col("gap").is_not_nan()), "gap")


def main() -> None:
    everything = everywhere().filter(pl.col("arm") == MAIN)
    found = pl.concat([charged(study, everything.filter(pl.col("study") == NAMES[study])) for study in studies()])
    print("Delta of SZP (lambda 0.4) to scratch at equal compute; * where 0 is outside the 95 % interval\n")
    print("target                           tpp  g     " + "".join(f"{name:24s}" for name in SHARES))
    for key, cell in found.group_by("size", "budget", "factor", maintain_order=True):
        texts = {row["payer"]: starred(row, "gap") for row in cell.iter_rows(named=True)}
        print(
            f"{key[0]:32s} {key[1]:<4d} {key[2]:<4g}  " + "".join(f"{texts.get(name, ''):24s}" for name in SHARES)
        )
    print("\nwhere all three can be read off:")
    alike = found.filter(pl.len().over("size", "budget", "factor") == len(SHARES))
    ahead = (pl.col("gap") < 0).mean().alias("ahead")
    for payer, share, count in alike.group_by("payer", maintain_order=True).agg(ahead, pl.len()).iter_rows():
        print(f"{payer}: growing ahead in {share:.0%} of {count} cells")
    chart = (
        alt.Chart(found)
        .mark_point(filled=True, size=45)
        .encode(
            x=alt.X("factor:Q", scale=alt.Scale(type="log", base=2), axis=FACTOR_AXIS, title="g"),
            y=alt.Y("gap:Q", title="Delta at equal compute"),
            color=alt.Color("payer:N", title="base cost", sort=list(SHARES), scale=alt.Scale(range=COLOURS)),
        )
    )
    save(by_budget_and_size(chart), "base_cost")


if __name__ == "__main__":
    main()
