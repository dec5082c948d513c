"""How much of a gain is the learning rate's? Delta with nobody, scratch alone, or both at their own best rate.

    python analyses/tuning.py

The transferred rate was tuned at the base's scale. P1 compares both arms at it; our other scripts give scratch its
own best of the rates at each size and budget; here grown runs get theirs too, where they were run at others. A
seed's best rate is the one that the other seeds did best at, so that no run is judged by its own choice.
"""

import altair as alt
import polars as pl
from figures import COLOURS, by_budget_and_size, save
from reference import (
    MAIN,
    NAMES,
    cells,
    finals,
    gains,
    labelled,
    scratch,
    starred,
    studies,
    transferred,
    tuned_cells,
)

FACTORS = (2.0, 4.0)
WAYS = ("both transferred", "scratch tuned", "both tuned")


def three_ways(study: str) -> pl.DataFrame:
    """Delta of SZP's cells at g = 2 and 4, tuned too where they were run at several rates."""
    rows = finals(study)
    usual = (pl.col("arm") == MAIN) & (pl.col("base_budget") == 20) & pl.col("factor").is_in(FACTORS)
    place = ("n_params", "budget", "factor")
    several = rows.filter(usual).group_by(place).agg(pl.col("lr").n_unique()).filter(pl.col("lr") > 1)
    told = cells(rows).filter(usual, pl.col("lr") == transferred(rows))
    ways = {
        WAYS[0]: gains(told, scratch(rows, tuned=False)),
        WAYS[1]: gains(told, scratch(rows)),
        WAYS[2]: gains(tuned_cells(rows).filter(usual), scratch(rows)).join(several, on=place, how="semi"),
    }
    parts = [part.with_columns(way=pl.lit(way)) for way, part in ways.items()]
    return labelled(pl.concat(parts, how="diagonal").with_columns(study=pl.lit(NAMES[study])))


def main() -> None:
    found = pl.concat([part for study in studies() if (part := three_ways(study)).height], how="diagonal")
    print("Delta of SZP (lambda 0.4) to scratch; * where 0 is outside the 95 % interval")
    print(
        "tuned: a seed's rate is the one that the other seeds did best at; where rates are alike that is chance\n"
    )
    print("target                           tpp  g     " + "".join(f"{way:24s}" for way in WAYS))
    ordered = found.sort("study", "n_params", "factor", "budget")
    for key, cell in ordered.group_by("size", "factor", "budget", maintain_order=True):
        texts = {row["way"]: starred(row, "difference") for row in cell.iter_rows(named=True)}
        columns = "".join(f"{texts.get(way, ''):24s}" for way in WAYS).rstrip()
        print(f"{key[0]:32s} {key[2]:<4d} {key[1]:<4g}  {columns}")
    chart = (
        alt.Chart(found)
        .mark_point(filled=True, size=50)
        .encode(
            x=alt.X("factor:O", title="g"),
            y=alt.Y("difference:Q", title="Delta"),
            color=alt.Color("way:N", title="learning rate", sort=list(WAYS), scale=alt.Scale(range=COLOURS)),
        )
    )
    save(by_budget_and_size(chart), "tuning")


if __name__ == "__main__":
    main()
