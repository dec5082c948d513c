"""Scaling laws of the reference study, per arm and joint, and what they say of the rung they have not seen.

    python analyses/study_laws.py

Per arm: Chinchilla's L = E + A/N^alpha + B/D^beta on the runs of one operator at one factor, as arXiv
2605.13405 fits its own. Joint: every joint law of scalegrow on scratch and SZP (lambda 0.4) together. The
largest target is held out: its differences to scratch are predicted from the others, and compared with what its
runs measured. All runs are at the transferred learning rate; then once more with scratch at its own best rate
at each size and budget.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from reference import NAMES, for_laws, scratch_and_main, studies

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.compare import compare
from scalegrow.laws.fit import fit
from scalegrow.laws.observations import Observations, operators_in
from scalegrow.laws.validate import validate

JOINT = ("capacity-penalty", "fading-capacity", "fading-transfer", "effective-data")  # the first is shown in full
DRAWS = 300
FEWEST_SIZES = 3


def per_arm(table: pl.DataFrame) -> None:
    """Chinchilla's law for each arm that has enough sizes."""
    form = form_named("chinchilla")
    for (arm, factor), rows in table.group_by("arm", "factor", maintain_order=True):
        if rows["n_params"].n_unique() < FEWEST_SIZES:
            continue
        alone = rows.with_columns(operator=pl.lit("scratch"), base_tokens=pl.lit(0.0), growth_factor=pl.lit(1.0))
        try:
            made = fit(form, Observations.from_table(alone, form), draws=DRAWS)
        except InputError as error:
            print(f"  {arm} x{factor:g}: {error}")
            continue
        low, high = np.quantile(made.values(), [0.025, 0.975], axis=0)
        told = [
            f"{name} {value:.3g} ({a:.3g} to {b:.3g})"
            for name, value, a, b in zip(form.names, made.law.coefficients, low, high, strict=True)
            if name in ("E", "alpha", "beta")
        ]
        print(f"  {arm} x{factor:g}: {', '.join(told)}  {made.status.name}")


def joint(table: pl.DataFrame) -> Observations:
    """Every joint law on all sizes."""
    forms = [form_named(name, operators_in(table)) for name in JOINT]
    observations = Observations.from_table(table, forms[0])
    for form in forms:
        made = fit(form, observations, draws=DRAWS)
        rms = float(np.sqrt(np.mean((made.law.predict(observations.points) - np.exp(observations.y)) ** 2)))
        values = ", ".join(
            f"{name} {value:.3g}" for name, value in zip(form.names, made.law.coefficients, strict=True)
        )
        print(f"  {form.name}: {values}; rms {rms:.4f}  {made.status.name}")
    return observations


def rivals(table: pl.DataFrame) -> None:
    """Every joint law on the largest rung."""
    forms = [form_named(name, operators_in(table)) for name in JOINT]
    print(compare(forms, Observations.from_table(table, forms[0]), "largest-out", draws=DRAWS))


def held_out(observations: Observations, operators: tuple[str, ...]) -> pl.DataFrame:
    """The first law's differences on the largest rung, a row a pair of runs."""
    form = form_named(JOINT[0], operators)
    scored = validate(form, observations, "largest-out", draws=DRAWS)
    for reason in scored.refused:
        print(f"  refused: {reason}")
    print(f"  losses of the held-out rung ({form.name}): {rate(scored.losses)}")
    return scored.differences


def rate(rows: pl.DataFrame) -> str:
    """rms error and coverage of a table of held-out rows."""
    rms = float(np.sqrt(np.mean((rows["predicted"] - rows["observed"]).to_numpy() ** 2)))
    return f"rms {rms:.4f}, new-run intervals cover {rows['covered'].sum()} of {rows.height}"


def main() -> None:
    pl.Config.set_tbl_cols(10).set_tbl_width_chars(115).set_tbl_hide_column_data_types(True)
    found = []
    for study in studies():
        table = for_laws(study)
        ours, tuned = (scratch_and_main(each) for each in (table, for_laws(study, tuned=True)))
        if ours.filter(pl.col("operator") != "scratch")["n_params"].n_unique() < FEWEST_SIZES:
            continue
        print(f"\n{NAMES[study]}: Chinchilla's law per arm, 95 % intervals")
        per_arm(table)
        print("joint laws, scratch and SZP together")
        observations = joint(ours)
        print(f"held out: {ours['n_params'].max():,.0f} parameters")
        rivals(ours)
        scored = held_out(observations, operators_in(ours)).with_columns(study=pl.lit(NAMES[study]))
        print(f"  pairs of runs: {rate(scored)}, sign right in {scored['sign_right'].sum()} of {scored.height}")
        print("  Delta as predicted (95 % of the mean), and the mean measured over pairs of runs")
        cells = (
            scored.group_by("tpp", "g").agg(pl.col("observed", "predicted", "low", "high").mean()).sort("g", "tpp")
        )
        for row in cells.iter_rows(named=True):
            print(
                f"    g {row['g']:.2f}, {row['tpp']:.0f} tpp: predicted {row['predicted']:+.4f} "
                f"({row['low']:+.4f} to {row['high']:+.4f}), measured {row['observed']:+.4f}"
            )
        found.append(scored)
        print("held out, with scratch at its own best rate, grown runs at the transferred one")
        rivals(tuned)
    figure(pl.concat(found))


def figure(scored: pl.DataFrame) -> None:
    """Predicted against measured differences of the held-out rungs."""
    scored = scored.with_columns(pl.col("tpp").round().cast(pl.Int64))
    base = alt.Chart(scored).encode(x=alt.X("observed:Q", title="measured Delta of one pair of runs"))
    base = base.encode(color=alt.Color("tpp:O", title="tokens per parameter", scale=alt.Scale(range=COLOURS)))
    bars = base.mark_rule(opacity=0.5).encode(
        y=alt.Y("new_low:Q", title="predicted Delta, 95 % of one pair"), y2="new_high:Q"
    )
    points = base.mark_point(filled=True).encode(y="predicted:Q")
    equal = base.mark_line(color="#555555", strokeDash=[4, 3]).encode(y="observed:Q", color=alt.value("#555555"))
    chart = (
        (bars + points + equal).properties(width=260, height=260).facet(column=alt.Column("study:N", title=None))
    )
    save(chart.resolve_scale(x="independent", y="independent"), "study_laws")


if __name__ == "__main__":
    main()
