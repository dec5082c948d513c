"""Fit the laws that scalegrow ships: the default of `predict` and the default of `allocate`.

    python analyses/build_fits.py

warmstart: fading-capacity on the 54 annealed losses of arXiv 2605.13405. E is not identified by them
(it goes to 0), so it is swept over the two floors that the paper's own fits report for this ladder.
chinchilla: Epoch's 240 points.
reference: our study on the story language, scratch and SZP (lambda 0.4) at the transferred learning rate, without
the largest rung. All are calibrated on held-out runs.
"""

from dataclasses import replace

import polars as pl
from reference import for_laws, scratch_and_main

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Fit
from scalegrow.laws.law import Form
from scalegrow.laws.observations import Observations
from scalegrow.laws.solve import Fixed
from scalegrow.laws.store import write_fit
from scalegrow.laws.validate import SCHEMES, calibrate, validate
from scalegrow.runs.shipped import DATA, load_table
from scalegrow.runs.table import keep_rows, without_highest

PUBLISHED_FLOORS = (0.402, 1.305)  # arXiv 2605.13405 notebooks: E of its scratch fit and of its SZP fit
REFERENCE_LAW = "capacity-penalty"  # the least held-out error on the reference study: analyses/study_laws.py
WARMSTART_LAW = "fading-capacity"  # the winner on the held-out 287M targets: docs/log.md
OUTLIERS = 5  # highest losses that Epoch drops (arXiv 2404.10102, section 3)


def warmstart_table() -> pl.DataFrame:
    return keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")


def chinchilla_table() -> pl.DataFrame:
    return without_highest(load_table("chinchilla_epoch"), OUTLIERS)


def reference_table() -> pl.DataFrame:
    """The story language's rows to fit, without the largest target."""
    rows = scratch_and_main(for_laws("stories"))
    return rows.filter(pl.col("n_params") < pl.col("n_params").max())


def calibrated(form: Form, table: pl.DataFrame, fixed: Fixed, source: str) -> Fit:
    observations = Observations.from_table(table, form)
    held_out = []
    for scheme in SCHEMES:
        try:
            held_out.append(validate(form, observations, scheme, fixed=fixed))
        except InputError as error:
            print(f"  {scheme}: {error}")
    made = fit(form, observations, fixed=fixed)
    return replace(
        made, calibration=calibrate(held_out), provenance={"table": source, "command": "analyses/build_fits.py"}
    )


def main() -> None:
    jobs = {
        "warmstart": (
            form_named(WARMSTART_LAW, ("szp", "net2net")),
            warmstart_table(),
            {"E": PUBLISHED_FLOORS},
            "data/warmstart_2605_13405_digitised.csv, annealed rows",
        ),
        "reference": (
            form_named(REFERENCE_LAW, ("szp",)),
            reference_table(),
            {},
            "data/reference/stories.parquet without its largest target",
        ),
        "chinchilla": (
            form_named("chinchilla"),
            chinchilla_table(),
            {},
            f"data/chinchilla_epoch.csv without its {OUTLIERS} highest losses",
        ),
    }
    for name, (form, table, fixed, source) in jobs.items():
        made = calibrated(form, table, fixed, source)
        write_fit(made, DATA / "fits" / f"{name}.json")
        print(f"data/fits/{name}.json: {form.name}, {made.n_rows} rows, {made.status.name}: {made.message}")
        for coefficient, value in zip(form.names, made.law.coefficients, strict=True):
            print(f"  {coefficient:16s} {value:.6g}")
        print(f"  calibration {made.calibration}")


if __name__ == "__main__":
    main()
