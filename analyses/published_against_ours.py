"""Does the law fitted on published runs agree with ours, and where not?

    python analyses/published_against_ours.py

Two fits answer the same questions: the default (54 runs read off arXiv 2605.13405, targets of 77M to 287M) and
`reference` (our study on the story language). Each is asked inside its own ladder, at its middle size, and both
at a target of 100M, where ours extrapolates by a factor of hundreds and says so.
"""

import altair as alt
import polars as pl
from figures import COLOURS, save

from scalegrow.laws.fitted import Fit
from scalegrow.laws.store import read_fit
from scalegrow.plan.decide import Question, decide
from scalegrow.runs.shipped import shipped_fit
from scalegrow.units import format_count

FITS = {"warmstart": 150e6, "reference": 100e3}  # a size inside each one's ladder
FAR = 100e6
BASE_TPP = 20
BUDGETS, FACTORS = (5, 10, 20, 40), (1.5, 2, 4, 8)


def answers(name: str, made: Fit, n_params: float) -> pl.DataFrame:
    """The decision at every factor and budget for a target of n_params."""
    rows = []
    for factor in FACTORS:
        for budget in BUDGETS:
            base_tokens = BASE_TPP * n_params / factor
            found = decide(made, Question(n_params, factor, budget * n_params, base_tokens, "szp"))
            rows.append(
                {
                    "fit": f"{name} at {format_count(n_params)}",
                    "factor": factor,
                    "budget": budget,
                    "relative": found.difference.value / found.loss_scratch.value,
                    "probability": found.probability_growing_wins.value,
                    "sure": found.difference.low > 0 or found.difference.high < 0,
                    "outside": max(1.0, *(max(ratio, 1 / ratio) for ratio in found.extrapolation.values())),
                    "break_even": found.break_even_budget.value,
                    "g_upper": found.largest_useful_factor.value,
                }
            )
    return pl.DataFrame(rows)


def main() -> None:
    tables = []
    for name, size in FITS.items():
        made = read_fit(shipped_fit(name))
        tables += [answers(name, made, size), answers(name, made, FAR)]
    for table in tables:
        print(f"\n{table['fit'][0]}: Delta / L_scratch, * where the 95 % interval of its mean excludes 0,")
        print("and P that one new grown run ends below one new run from scratch")
        for (factor,), rows in table.group_by("factor", maintain_order=True):
            cells = [
                f"{row['relative']:+7.2%}{'*' if row['sure'] else ' '} P {row['probability']:.2f}"
                for row in rows.iter_rows(named=True)
            ]
            last = rows.row(0, named=True)
            print(f"  g {factor:<4g} {'   '.join(cells)}   break-even {last['break_even']:.3g} tpp")
        bounds = [
            f"{row['g_upper']:.3g} at {row['budget']} tpp" for row in table.filter(factor=2).iter_rows(named=True)
        ]
        print(f"  largest useful g: {', '.join(bounds)}")
        print(f"  outside its data by up to {table['outside'].max():.3g} times")
    agreement(tables[0], tables[2])
    figure(pl.concat(tables))


def agreement(published: pl.DataFrame, ours: pl.DataFrame) -> None:
    """In how many questions the signs of the two fits agree, each inside its own ladder."""
    both = published.join(ours, on=("factor", "budget"), suffix="_ours")
    same = (both["relative"] > 0) == (both["relative_ours"] > 0)
    print(f"\neach inside its own ladder: the same sign in {same.sum()} of {both.height} questions")
    for row in both.filter(~same).iter_rows(named=True):
        theirs, mine = row["relative"], row["relative_ours"]
        print(f"  not at g {row['factor']:g}, {row['budget']} tpp: {theirs:+.2%} and {mine:+.2%}")


def figure(table: pl.DataFrame) -> None:
    chart = (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("budget:Q", scale=alt.Scale(type="log", base=2), title="tokens per parameter"),
            y=alt.Y("relative:Q", title="Delta / loss from scratch", axis=alt.Axis(format="%")),
            color=alt.Color("factor:N", title="g", scale=alt.Scale(range=COLOURS)),
        )
    )
    save(
        chart.properties(width=190, height=170).facet(column=alt.Column("fit:N", title=None)),
        "published_against_ours",
    )


if __name__ == "__main__":
    main()
