"""P3: do parameters first condense and later expand, and does a small initialisation condense them more?

    python analyses/gamma_condensation.py

Effective rank of the neurons' input weights over its largest (exp of the entropy of the singular values; mean over
layers), along training from scratch, at the largest size, mean over seeds with Student's t at 95 %. random: of the
first weights, the same for every gamma. dip: when the rank is least of those looked at; rise: the last minus that.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from initialisations import STUDIES, mean, plain, rows

from scalegrow.runs.recipe import Recipe
from scalegrow.runs.table import SCRATCH
from scalegrow.units import format_count


def main() -> None:
    drawn = []
    for study, label in STUDIES.items():
        found = plain(rows(study)).filter(pl.col("operator") == SCRATCH, ~pl.col("annealed"))
        found = found.filter(pl.col("n_params") == pl.col("n_params").max())
        tpp = found["tokens"].max() / found["n_params"][0]  # type: ignore[operator]
        print(f"{label}: {format_count(found['n_params'][0])} parameters, until {tpp:.0f} tokens per parameter")
        print(f"  random: {random_rank(found['n_params'][0]):.3f}")
        print("  gamma  rank at the first look  dip at tpp   last                rise from the dip   sink, last")
        for (gamma,), cell in found.sort("gamma", "tokens").group_by("gamma", maintain_order=True):
            by_seed = [seed for _, seed in cell.group_by("seed", maintain_order=True)]
            first, last = (mean(pl.Series([seed["rank"][at] for seed in by_seed])) for at in (0, -1))
            rise = mean(pl.Series([seed["rank"][-1] - seed["rank"].min() for seed in by_seed]))
            dips = [seed.sort("rank")["tokens"][0] / seed["n_params"][0] for seed in by_seed]
            sink = sum(seed["sink"][-1] for seed in by_seed) / len(by_seed)
            print(
                f"  {gamma:<6g} {first.value:.3f} ± {first.reach:.3f}           {sum(dips) / len(dips):<12.1f} "
                f"{last.value:.3f} ± {last.reach:.3f}       {rise!s:19s} {sink:.3f}"
            )
        print()
        means = cell_means(found).with_columns(study=pl.lit(label))
        drawn.append(means)
    chart = (
        alt.Chart(pl.concat(drawn))
        .mark_line(point=True)
        .encode(
            x=alt.X("tpp:Q", title="tokens per parameter", scale=alt.Scale(type="log")),
            y=alt.Y("rank:Q", title="effective rank", scale=alt.Scale(zero=False)),
            color=alt.Color("gamma:O", scale=alt.Scale(range=COLOURS)),
        )
    )
    save(
        chart.properties(width=280, height=220).facet(column=alt.Column("study:N", title=None)),
        "gamma_condensation",
    )


def random_rank(n_params: float) -> float:
    """The effective rank of a layer's first weights, gate and up side by side [d_ff, 2 d], drawn at random."""
    shape = Recipe(str(int(n_params)), data="stories", n_layers=4, head_dim=16).config().model.shape
    values = np.linalg.svd(np.random.default_rng(0).normal(size=(shape.d_ff, 2 * shape.d_model)), compute_uv=False)
    p = values / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()) / len(values))


def cell_means(found: pl.DataFrame) -> pl.DataFrame:
    """Mean rank over seeds by gamma and tokens per parameter."""
    tpp = (pl.col("tokens") / pl.col("n_params")).round(1).alias("tpp")
    return found.group_by("gamma", tpp).agg(pl.col("rank").mean()).sort("gamma", "tpp")


if __name__ == "__main__":
    main()
