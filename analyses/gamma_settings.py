"""P3: do the norm's epsilon and attention without a gate restrain a small initialisation?

    python analyses/gamma_settings.py

The same curves with an epsilon of 1e-5 and 1e-12, without a gate and with one a head (arXiv 2505.06708), at 60k.
released: the change against gamma = 0.5 under a setting minus the same change under the plain one (1e-5, no gate),
paired by seed, mean with Student's t at 95 %; negative: the setting lets a small initialisation gain more. sink:
the share of attention that goes to the first token (0.035 if spread evenly).
"""

import altair as alt
import polars as pl
from figures import COLOURS, save
from initialisations import EPS, GATE, PLAIN, STUDIES, changes, mean, plain, scratch

from scalegrow.laws.gamma import STANDARD

BUDGET = 20


def main() -> None:
    drawn = []
    for study, label in STUDIES.items():
        found = scratch(study).filter(pl.col("budget") == BUDGET)
        found = found.filter(pl.col(EPS).n_unique().over((pl.col("n_params") / 1e3).round()) > 1)
        if found.is_empty():
            continue
        paired = changes(found, ("loss",)).with_columns(setting=pl.format("eps {}, gate {}", EPS, GATE))
        both = paired.join(plain(paired).select("gamma", "seed", plain="loss"), on=("gamma", "seed"))
        print(f"{label}, {BUDGET} tokens per parameter")
        print("  setting                   gamma  change              released            sink   rank")
        both = both.sort(EPS, GATE, "gamma")
        for (setting, gamma), cell in both.group_by("setting", "gamma", maintain_order=True):
            m, released = mean(cell["loss"]), mean(cell["loss"] - cell["plain"])
            told = f"{cell['sink'].mean():.3f}  {cell['rank'].mean():.3f}"
            print(f"  {setting:25s} {gamma:<6g} {m!s:19s} {released!s:19s} {told}")
            drawn.append({"study": label, "setting": setting, "gamma": gamma, **m.ends})
        print()
        levels(found, label)
    base = alt.Chart().encode(
        x=alt.X("gamma:Q", scale=alt.Scale(zero=False)),
        color=alt.Color("setting:N", title=None, scale=alt.Scale(range=COLOURS)),
    )
    bars = base.mark_rule(opacity=0.4).encode(y=alt.Y("low:Q", title="loss - loss at 0.5"), y2="high:Q")
    panel = alt.layer(bars, base.mark_line(point=True).encode(y="y:Q"), data=pl.DataFrame(drawn))
    save(panel.properties(width=280, height=220).facet(column=alt.Column("study:N", title=None)), "gamma_settings")


def levels(found: pl.DataFrame, label: str) -> None:
    """What a setting changes at the standard gamma itself."""
    standard = found.filter(pl.col("gamma") == STANDARD)
    both = standard.join(plain(standard).select("seed", plain="loss"), on="seed")
    for (eps, gate), cell in both.sort(EPS, GATE).group_by(EPS, GATE, maintain_order=True):
        if (eps, gate) != tuple(PLAIN.values()):
            moved = mean(cell["loss"] - cell["plain"])
            print(f"  {label}, gamma 0.5: eps {eps}, gate {gate} changes the loss by {moved}")
    print()


if __name__ == "__main__":
    main()
