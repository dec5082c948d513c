"""P1: simple, architecture-agnostic growth beats complex operators. Every operator against SZP, with intervals.

    python analyses/simple_operators.py

The difference of final losses to SZP (lambda 0.4) at the same size, budget and factor, with Welch's t. Operators
that grow one base share its luck, so that the intervals are rather too wide than too narrow.
"""

import altair as alt
import polars as pl
from figures import COLOURS, save, with_error_bars
from reference import MAIN, everywhere, starred, welch, with_interval

KEY = ("study", "size", "n_params", "budget", "factor")


def against_main(found: pl.DataFrame) -> pl.DataFrame:
    """Every other operator minus SZP (negative: better), low to high."""
    of_main = pl.col("loss", "n", "s", "df", "pool").name.suffix("_main")
    pairs = found.filter(pl.col("arm") != MAIN).join(
        found.filter(pl.col("arm") == MAIN).select(*KEY, of_main), on=KEY, maintain_order="left"
    )
    return with_interval(welch(pairs, "_main").with_columns(gap=pl.col("loss") - pl.col("loss_main")), "gap")


def main() -> None:
    found = against_main(everywhere())
    print("operator minus SZP (lambda 0.4) at the same factor; negative: better than SZP")
    print("95 %, each on its own: of twenty true zeros one gets its * by chance\n")
    print(
        "target                           g  operator            "
        + "".join(f"{b:>3d} tpp               " for b in (5, 10, 20, 40))
    )
    for key, cell in found.group_by("size", "factor", "arm", maintain_order=True):
        texts = [f"{starred(row, 'gap')}     " for row in cell.sort("budget").iter_rows(named=True)]
        print(f"{key[0]:32s} {key[1]:<2g} {key[2]:18s}  {''.join(texts)}")
    x = alt.X("budget:O", title="tokens (samples) per parameter")
    colour = alt.Color("arm:N", title=None, scale=alt.Scale(range=COLOURS))
    charts = [
        with_error_bars(x, "gap", "operator minus SZP", colour, xOffset="arm:N").properties(
            data=part, width=260, height=200, title=f"{key[0]}, g = {key[1]:g}"
        )
        for key, part in found.group_by("size", "factor", maintain_order=True)
    ]
    save(alt.concat(*charts, columns=2).resolve_scale(y="independent"), "simple_operators")


if __name__ == "__main__":
    main()
