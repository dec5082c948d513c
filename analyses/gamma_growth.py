"""P3 and growing: does a base of small gamma grow better, and with which gamma for the new block?

    python analyses/gamma_growth.py

SZP (lambda 0.4) from 30k to 60k on the story language: the base's gamma by the target's, which scales the noise
that fills the new block. Losses minus those of both gammas at 0.5, paired by seed, means with Student's t at 95 %;
and scratch at the same gammas minus scratch at 0.5. Then, at each budget, the gain of growing at its best pair
over scratch at its best gamma, both chosen by the other seeds.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from initialisations import mean, plain, rows

from scalegrow.laws.gamma import STANDARD
from scalegrow.runs.table import SCRATCH


def main() -> None:
    found = rows("gamma")
    annealed = found.filter(pl.col("annealed"))
    bases = found.select("run", base_gamma="gamma").unique()
    grown = annealed.filter(pl.col("operator") != SCRATCH).join(bases, left_on="base", right_on="run")
    alone = plain(annealed).filter(pl.col("operator") == SCRATCH, pl.col("n_params") == grown["n_params"][0])
    drawn = []
    for (budget,), cell in grown.sort("budget").group_by("budget", maintain_order=True):
        print(f"{budget} tokens per parameter; loss minus that of both at 0.5")
        standard = cell.filter(pl.col("gamma") == STANDARD, pl.col("base_gamma") == STANDARD)
        paired = cell.join(standard.select("seed", at="loss"), on="seed").with_columns(
            y=pl.col("loss") - pl.col("at")
        )
        for (base_gamma, gamma), seeds in paired.sort("base_gamma", "gamma").group_by(
            "base_gamma", "gamma", maintain_order=True
        ):
            m = mean(seeds["y"])
            print(f"  base {base_gamma:g}, new block {gamma:g}: {m}")
            drawn.append({"budget": f"{budget} tpp", "base": base_gamma, "gamma": gamma, **m.ends})
        theirs = alone.filter(pl.col("budget") == budget)
        print(f"  growing at its best pair - scratch at its best gamma: {best_gain(cell, theirs)}")
        both = ((pl.col("gamma") == STANDARD) & (pl.col("base_gamma") == STANDARD), pl.col("gamma") == STANDARD)
        print(f"  growing - scratch, all at 0.5: {gain(cell.filter(both[0]), theirs.filter(both[1]))}\n")
    base = alt.Chart().encode(
        x=alt.X("gamma:Q", title="gamma of the new block", scale=alt.Scale(zero=False)),
        color=alt.Color("base:O", title="gamma of the base", scale=alt.Scale(range=COLOURS)),
    )
    bars = base.mark_rule(opacity=0.4).encode(y=alt.Y("low:Q", title="loss - that of both at 0.5"), y2="high:Q")
    panel = alt.layer(bars, base.mark_line(point=True).encode(y="y:Q"), data=pl.DataFrame(drawn))
    facets = panel.properties(width=200, height=180).facet(
        column=alt.Column("budget:N", title=None, sort=["5 tpp", "10 tpp", "20 tpp"])
    )
    save(facets, "gamma_growth")


def gain(mine: pl.DataFrame, theirs: pl.DataFrame) -> object:
    """The mean of loss minus loss on the same seed."""
    both = mine.join(theirs.select("seed", other="loss"), on="seed")
    return mean(both["loss"] - both["other"])


def best_gain(mine: pl.DataFrame, theirs: pl.DataFrame) -> object:
    """On every seed, with what is best by the mean of the others."""
    seeds = sorted({*mine["seed"]} & {*theirs["seed"]})
    return mean(pl.Series([held(mine, seed) - held(theirs, seed) for seed in seeds]))


def held(found: pl.DataFrame, seed: int) -> float:
    """The loss on one seed at the gammas that the other seeds find best."""
    at = ["gamma", *(name for name in ("base_gamma",) if name in found.columns)]
    others = found.filter(pl.col("seed") != seed).group_by(at).agg(pl.col("loss").mean()).sort("loss")
    chosen = found.filter(pl.col("seed") == seed).join(others.head(1).select(at), on=at)
    return float(np.mean(chosen["loss"].to_numpy()))


if __name__ == "__main__":
    main()
