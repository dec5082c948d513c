"""Which joint law should be the default? Rivals on held-out runs, and what the data cannot tell.

    python analyses/compare_laws.py

Prints the tables of docs/log.md: every joint form and the paired-difference model on the held-out 287M
targets and rolling by compute, their in-sample signs, and how the decision at 50M x 2, 20 tpp moves
with the law, with the floor E, and with the loss function.
"""

import numpy as np
import polars as pl
from build_fits import PUBLISHED_FLOORS, warmstart_table

from scalegrow.laws import form_named
from scalegrow.laws.compare import compare
from scalegrow.laws.fit import fit
from scalegrow.laws.forecast import forecast_difference
from scalegrow.laws.loss import Huber, LeastAbsolute, LeastSquares
from scalegrow.laws.observations import Observations
from scalegrow.laws.paired import fit_paired
from scalegrow.laws.points import Points

JOINT = ("fading-capacity", "fading-transfer", "capacity-penalty", "effective-data")
OPERATORS = ("szp", "net2net")
ASKED = Points.of(100e6, 2e9, 2.0, 1e9, "szp")  # 50M x 2 on 20 tokens per parameter
DRAWS = 500


def held_out(observations: Observations) -> None:
    forms = [form_named(name, OPERATORS) for name in JOINT]
    for scheme in ("largest-out", "rolling"):
        print(f"\nHeld-out differences, {scheme}, E swept over {PUBLISHED_FLOORS}:")
        print(compare(forms, observations, scheme, fixed={"E": PUBLISHED_FLOORS}, draws=DRAWS))


def in_sample_signs(observations: Observations) -> None:
    print("\nIn-sample signs of the grown-scratch difference:")
    rows, partners = np.array(observations.pairs()).T
    grown = observations.points.take(rows)
    truth = observations.y[rows] - observations.y[partners]
    for name in JOINT:
        made = fit(form_named(name, OPERATORS), observations, fixed={"E": PUBLISHED_FLOORS}, draws=2)
        predicted = forecast_difference(made, grown).value
        counts = [
            f"{operator} {int(np.sum((np.sign(predicted) == np.sign(truth))[grown.operator == operator]))}"
            f"/{int(np.sum(grown.operator == operator))}"
            for operator in OPERATORS
        ]
        print(f"  {name:18s} {', '.join(counts)}")


def decision(label: str, observations: Observations, name: str, **options: object) -> None:
    made = fit(form_named(name, OPERATORS), observations, draws=DRAWS, **options)  # type: ignore[arg-type]
    answer = forecast_difference(made, ASKED)
    print(
        f"  {label:34s} {answer.value[0]:+.4f} ({answer.low[0]:+.4f} to {answer.high[0]:+.4f}), "
        f"P = {answer.wins[0]:.2f}  {made.status.name}"
    )


def sensitivity(observations: Observations) -> None:
    print("\nDifference at 50M x 2, 20 tpp, szp (nats, uncalibrated 95 % interval), by law:")
    for name in JOINT:
        decision(name, observations, name, fixed={"E": PUBLISHED_FLOORS})
    print("by floor (fading-capacity):")
    for floor in (0.0, *PUBLISHED_FLOORS, 1.5):
        decision(f"E = {floor}", observations, "fading-capacity", fixed={"E": floor})
    print("by loss function (fading-capacity):")
    for loss in (Huber(), Huber(1e-2), LeastAbsolute(), LeastSquares()):
        decision(repr(loss), observations, "fading-capacity", fixed={"E": PUBLISHED_FLOORS}, loss=loss)


def floor_profile(observations: Observations) -> None:
    print("\nObjective against the floor E (fading-capacity, Huber 1e-3; the lowest is E = 0):")
    for floor in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4):
        made = fit(form_named("fading-capacity", OPERATORS), observations, fixed={"E": floor}, draws=2)
        print(f"  E = {floor:.1f}  {made.certificate.objective:.6e}")


def paired(observations: Observations) -> None:
    print("\nPaired model, ln(L_grown/L_scratch) = rho ln g - tau ln(1 + D_base/D), clusters by base:")
    model = fit_paired(observations, OPERATORS)
    errors = np.sqrt(np.diag(model.covariance))
    names = [f"{symbol}[{operator}]" for operator in OPERATORS for symbol in ("rho", "tau")]
    for name, value, error, p in zip(names, model.coefficients, errors, model.p_values(), strict=True):
        print(f"  {name:14s} {value:+.4f} (se {error:.4f}, p = {p:.3f})")


def main() -> None:
    pl.Config.set_tbl_cols(10).set_tbl_width_chars(120).set_tbl_hide_column_data_types(True)
    table = warmstart_table()
    observations = Observations.from_table(table, form_named("fading-capacity", OPERATORS))
    held_out(observations)
    in_sample_signs(observations)
    floor_profile(observations)
    sensitivity(observations)
    paired(observations)


if __name__ == "__main__":
    main()
