"""P2: which warm start is ahead after 16 steps, after 128 and at the end, in either regime.

    python analyses/warm_start_ranks.py

Differences to the exact copy (tile) on one base, means over bases with Student's t at 95 %: of the held-out loss
16 and 128 steps after growing, of its mean over the trunk (area, the outcome of arXiv 2604.04281), and of the
annealed loss at 20 tokens per parameter. First of four: which of that paper's four kinds is the best of them on
how many bases.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from warm_starts import COPY, FINAL, LAGS, PUBLISHED, Mean, by_base, named, rows, settings

OUTCOMES = {f"loss_{lag}": f"after {lag} steps" for lag in LAGS} | {"area": "area", "loss": f"at {FINAL} tpp"}


def main() -> None:
    drawn = []
    for setting, cell in settings(rows()):
        names, _ = by_base(cell, "loss")
        found = {column: by_base(cell, column)[1] for column in OUTCOMES}
        copy = names.index(COPY)
        order = found["loss"].mean(0).argsort()
        print(f"{named(setting)}; {len(found['loss'])} bases")
        print(f"  {'candidate':23s} " + " ".join(f"{label:19s}" for label in OUTCOMES.values()))
        for c in order:
            means = {column: Mean.of(values[:, c] - values[:, copy]) for column, values in found.items()}
            cells = [f"{'0':19s}" if c == copy else f"{mean!s:19s}" for mean in means.values()]
            print(f"  {names[c]:23s} " + " ".join(cells))
            for column, mean in means.items():
                drawn.append(
                    {"candidate": names[c], "outcome": OUTCOMES[column], "setting": named(setting), **mean.ends}
                )
        four = [names.index(name) for name in PUBLISHED]
        print(f"  first of four: {firsts(found, four, names)}\n")
    draw(pl.DataFrame(drawn))


def firsts(found: dict[str, np.ndarray], four: list[int], names: list[str]) -> str:
    """Which of some candidates is first on how many bases, by outcome."""
    told = []
    for column, label in OUTCOMES.items():
        best = np.bincount(found[column][:, four].argmin(1), minlength=len(four))
        who = ", ".join(f"{names[c]} {n}" for c, n in zip(four, best, strict=True) if n)
        told.append(f"{label}: {who}")
    return "; ".join(told)


def draw(points: pl.DataFrame) -> None:
    """The end and the 128 steps of every setting."""
    kept = points.filter(pl.col("outcome").is_in([OUTCOMES["loss_128"], OUTCOMES["loss"]]))
    base = alt.Chart().encode(
        x=alt.X("candidate:N", title=None, sort=None),
        xOffset="outcome:N",
        color=alt.Color("outcome:N", title=None, scale=alt.Scale(range=COLOURS)),
    )
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="loss - exact copy's"), y2="high:Q")
    layer = alt.layer(bars, base.mark_point(filled=True).encode(y="y:Q"), data=kept).properties(
        width=260, height=150
    )
    save(layer.facet(alt.Facet("setting:N", title=None), columns=2), "warm_start_ranks")


if __name__ == "__main__":
    main()
