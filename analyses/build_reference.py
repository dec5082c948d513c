"""Make data/reference/NAME.parquet of the reference study's finished runs, as far as they have come.

    scalegrow sweep data/reference/NAME.toml --out runs/reference/NAME     # hours; goes on where it stopped
    python analyses/build_reference.py

Columns beyond the run table's are kept where they say something; the clock's and paths are not in it.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl
from reference import NAMES

from scalegrow.atomic import new_file
from scalegrow.runs.shipped import DATA
from scalegrow.runs.study import read_study
from scalegrow.train.member import Job
from scalegrow.train.sweep import jobs_of, table

RUNS = Path("runs/reference")
ALWAYS = ("arm", "factor", "base_budget", "zero_step_kl")


def asked(jobs: Iterable[Job]) -> pl.DataFrame:
    """What the study asked of each run, by its folder: growth factor, and the base's tokens per parameter."""
    rows = []
    for job in jobs:
        origin = job.member.origin
        budget = float(origin.budget.removesuffix("tpp")) if origin else None
        rows.append((job.folder.name, origin.factor if origin else 1.0, budget))
    return pl.DataFrame(
        rows, schema={"folder": pl.String(), "factor": pl.Float64(), "base_budget": pl.Float64()}, orient="row"
    )


def main() -> None:
    for study in NAMES:
        if not any((RUNS / study / "runs").glob("*/finished.json")):
            continue
        jobs = jobs_of(read_study(DATA / "reference" / f"{study}.toml"), RUNS / study)
        rows = table(jobs.values(), RUNS / study).join(asked(jobs.values()), on="folder", how="left")
        told = [name for name in rows.columns if name in ALWAYS or rows[name].null_count() < rows.height]
        kept = rows.select(told).drop("source", "step", strict=False)
        target = DATA / "reference" / f"{study}.parquet"
        with new_file(target) as partial:
            kept.write_parquet(partial, compression_level=19)
        runs = kept["folder"].n_unique()
        size = target.stat().st_size / 1e3
        print(f"{target.name}: {kept.height} losses of {runs} of {len(jobs)} runs, {size:.0f} kB")


if __name__ == "__main__":
    main()
