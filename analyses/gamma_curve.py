"""P3: the loss against gamma has a minimum; where it lies, what it gains, and how it moves with size and budget.

    python analyses/gamma_curve.py

The law of scalegrow/laws/gamma.py on runs from scratch (norm epsilon 1e-5, no gate) up to a gamma of 1.3 on
stories and 1.1 on novels, with 95 % intervals that are robust to runs. Held out: the law without one size, asked
at that size; the mean change is over its seeds.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from initialisations import STUDIES, changes, fitted, mean, plain, scratch

from scalegrow.errors import InputError
from scalegrow.laws.gamma import NAMES, STANDARD, GammaLaw
from scalegrow.laws.gamma_fit import fit_gamma
from scalegrow.plan.gamma import choose_gamma, grid
from scalegrow.units import format_count

SIZES = ["29.9k", "59.8k", "120k"]


def main() -> None:
    drawn = []
    for study, label in STUDIES.items():
        found = plain(scratch(study))
        law = fit_gamma(fitted(study))
        low, high = np.quantile(law.draws, [0.025, 0.975], axis=0)
        print(f"{label}: {law.n_runs} runs, one scatters by {law.noise:.4f} about the curve of its cell")
        told = zip(NAMES, law.coefficients, low, high, strict=True)
        print("  " + ", ".join(f"{name} {value:.3g} ({a:.3g} to {b:.3g})" for name, value, a, b in told if a < b))
        print(
            f"  centred at {format_count(law.middle[0])} parameters and {law.middle[1]:.3g} tokens per parameter\n"
        )
        print("  size   tpp  best gamma           loss there - at 0.5              no worse than 0.5 up to")
        for n_params, budget in found.select("n_params", "budget").unique().sort("n_params", "budget").rows():
            c = choose_gamma(law, n_params, budget)
            best = f"{c.best.value:.2f} ({c.best.low:.2f} to {c.best.high:.2f})"
            gain = f"{c.gain.value:+.4f} ({c.gain.low:+.4f} to {c.gain.high:+.4f})"
            least, low, high = (up_to(each, law) for each in (c.critical.value, c.critical.low, c.critical.high))
            critical = least if least == low else f"{least} ({low} to {high})"
            print(f"  {format_count(n_params):6s} {budget:<4d} {best:20s} {gain:32s} {critical}")
        held_out(fitted(study))
        scatter(found)
        drawn.append(points(label, found, law))
    draw(pl.concat(drawn))


def up_to(gamma: float, law: GammaLaw) -> str:
    """A critical gamma; beyond the largest measured one it is not known."""
    return f"over {law.gammas[1]:g}" if np.isinf(gamma) else f"{gamma:.2f}"


def held_out(found: pl.DataFrame) -> None:
    """Errors of the law at each size from the others, and of saying that gamma changes nothing."""
    print("\n  without    rms error of the change   of no change   best gamma of the others, there")
    for n_params in found["n_params"].unique().sort():
        try:
            law = fit_gamma(found.filter(pl.col("n_params") != n_params))
        except InputError:
            continue
        theirs = changes(found.filter(pl.col("n_params") == n_params)).filter(pl.col("gamma") != STANDARD)
        cells = theirs.group_by("gamma", "budget").agg(pl.col("loss").mean())
        said = [law.change(np.array([gamma]), n_params, budget)[0][0] for gamma, budget, _ in cells.rows()]
        left, plain_error = cells["loss"].to_numpy() - np.array(said), cells["loss"].to_numpy()
        best = choose_gamma(law, n_params, 20).best
        errors = [float(np.sqrt(np.mean(each**2))) for each in (left, plain_error)]
        print(
            f"  {format_count(n_params):10s} {errors[0]:<25.4f} {errors[1]:<14.4f} "
            f"{best.value:.2f} ({best.low:.2f} to {best.high:.2f}) at 20 tpp"
        )
    print()


def scatter(found: pl.DataFrame) -> None:
    """Stability: how far seeds lie apart at each gamma, and how many runs came to their end."""
    noise = pl.col("loss").var().over("n_params", "budget", "gamma")
    cells = (
        found.with_columns(noise=noise)
        .group_by("gamma")
        .agg(pl.col("noise").mean().sqrt(), pl.col("run").n_unique())
    )
    told = ", ".join(f"{gamma:g}: {s:.4f} ({n})" for gamma, s, n in cells.sort("gamma").rows())
    print(f"  standard deviation between seeds by gamma (runs that came to their end): {told}\n")


def points(label: str, found: pl.DataFrame, law: GammaLaw) -> pl.DataFrame:
    """Measured means with intervals, and the law's curve, by size and budget."""
    made = []
    for (n_params, budget), cell in changes(found).group_by("n_params", "budget", maintain_order=True):
        place = {"study": label, "size": format_count(n_params), "budget": f"{budget} tpp"}  # type: ignore[arg-type]
        for (gamma,), seeds in cell.sort("gamma").group_by("gamma", maintain_order=True):
            m = mean(seeds["loss"])
            made.append(
                {**place, "gamma": gamma, "y": m.value, "low": m.value - m.reach, "high": m.value + m.reach}
            )
        gammas = grid(law, 0.05)
        value, _ = law.change(gammas, n_params, budget)  # type: ignore[arg-type]
        made += [{**place, "gamma": float(g), "law": float(v)} for g, v in zip(gammas, value, strict=True)]
    return pl.DataFrame(made, infer_schema_length=None)


def draw(found: pl.DataFrame) -> None:
    """A row for each study, a panel for each budget."""
    rows = [panels(label, found.filter(pl.col("study") == label)) for label in STUDIES.values()]
    save(alt.vconcat(*rows), "gamma_curve")


def panels(label: str, found: pl.DataFrame) -> alt.FacetChart:
    """Means with intervals, and the law's lines."""
    base = alt.Chart().encode(
        x=alt.X("gamma:Q", scale=alt.Scale(zero=False)),
        color=alt.Color("size:N", title=None, sort=SIZES, scale=alt.Scale(range=COLOURS)),
    )
    gain = alt.Y("low:Q", title="loss - loss at 0.5", scale=alt.Scale(type="symlog", constant=0.02))
    zero = alt.Chart().mark_rule(color="#555555", strokeDash=[4, 3]).encode(y=alt.datum(0))
    bars = base.mark_rule(opacity=0.5).encode(y=gain, y2="high:Q")
    dots = base.mark_point(filled=True, size=35).encode(y="y:Q")
    lines = base.transform_filter("isValid(datum.law)").mark_line().encode(y="law:Q")
    panel = alt.layer(zero, bars, lines, dots, data=found).properties(width=170, height=140)
    order = [f"{budget} tpp" for budget in sorted(int(name.split()[0]) for name in found["budget"].unique())]
    facets = panel.facet(column=alt.Column("budget:N", title=None, sort=order))
    return facets.resolve_scale(y="independent").properties(title=label)


if __name__ == "__main__":
    main()
