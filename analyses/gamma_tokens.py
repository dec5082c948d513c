"""P3: which tokens gain from a small initialisation? Loss by kind of token against gamma.

    python analyses/gamma_tokens.py

Change of the loss of one kind of token against gamma = 0.5, nats per token of that kind, at 20 tokens per
parameter, paired by size and seed; means over all of them with Student's t at 95 %. Stories: trivial (grammar),
choice (random words), knowledge (facts of the language), tracking and composition (decided by the context).
Novels: trivial (two bytes decide), constrained (six bytes do), open (neither).
"""

import altair as alt
import polars as pl
from figures import COLOURS, save
from initialisations import STUDIES, changes, mean, plain, scratch

from scalegrow.units import format_count

BUDGET, GAMMA, TRIVIAL = 20, 0.9, "trivial"


def main() -> None:
    drawn = []
    for study, label in STUDIES.items():
        found = plain(scratch(study)).filter(pl.col("budget") == BUDGET)
        kinds = [name.removeprefix("loss_") for name in found.columns if name.startswith("loss_")]
        columns = ("loss", *(f"loss_{kind}" for kind in kinds))
        paired = changes(found, columns)
        sizes = " and ".join(map(format_count, found["n_params"].unique().sort()))
        print(f"{label}: {sizes} parameters, {BUDGET} tokens per parameter")
        print("  gamma  " + " ".join(f"{name:18s}" for name in ("all", *kinds)))
        for (gamma,), cell in paired.sort("gamma").group_by("gamma", maintain_order=True):
            means = [mean(cell[column]) for column in columns]
            print(f"  {gamma:<6g} " + " ".join(f"{m!s:18s}" for m in means))
            point = {"study": label, "gamma": gamma}
            drawn += [{**point, "kind": kind, **m.ends} for kind, m in zip(("all", *kinds), means, strict=True)]
        told = zip(("all", *kinds), columns, strict=True)
        print("  least at: " + ", ".join(f"{kind} {least(paired, column):g}" for kind, column in told))
        print(f"  beyond the trivial, at {GAMMA}: {', '.join(beyond_trivial(paired, kinds))}\n")
    base = alt.Chart().encode(
        x=alt.X("gamma:Q", scale=alt.Scale(zero=False)),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(range=COLOURS)),
    )
    bars = base.mark_rule(opacity=0.4).encode(y=alt.Y("low:Q", title="loss - loss at 0.5"), y2="high:Q")
    panel = alt.layer(bars, base.mark_line(point=True).encode(y="y:Q"), data=pl.DataFrame(drawn))
    facets = panel.properties(width=260, height=200).facet(column=alt.Column("study:N", title=None))
    save(facets.resolve_scale(y="independent"), "gamma_tokens")


def beyond_trivial(paired: pl.DataFrame, kinds: list[str]) -> list[str]:
    """By how much more than of trivial tokens the loss of each kind changes, paired by run."""
    there = paired.filter(pl.col("gamma") == GAMMA)
    others = [kind for kind in kinds if kind != TRIVIAL]
    return [f"{kind} {mean(there[f'loss_{kind}'] - there[f'loss_{TRIVIAL}'])}".rstrip() for kind in others]


def least(paired: pl.DataFrame, column: str) -> float:
    """The gamma whose mean over seeds is the least."""
    return float(paired.group_by("gamma").agg(pl.col(column).mean()).sort(column)["gamma"][0])


if __name__ == "__main__":
    main()
