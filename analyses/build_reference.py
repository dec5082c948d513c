"""Make data/reference/NAME.parquet of the reference study's finished runs, as far as they have come.

    scalegrow sweep data/reference/NAME.toml --out runs/reference/NAME     # hours; goes on where it stopped
    python analyses/build_reference.py

Columns beyond the run table's are kept where they say something; the clock's and paths are not in it.
"""

from pathlib import Path

from reference import NAMES

from scalegrow.atomic import new_file
from scalegrow.runs.finished import COLUMNS
from scalegrow.runs.shipped import DATA
from scalegrow.runs.study import read_study
from scalegrow.train.sweep import jobs_of, table

RUNS = Path("runs/reference")


def main() -> None:
    for study in NAMES:
        if not any((RUNS / study / "runs").glob("*/finished.json")):
            continue
        jobs = jobs_of(read_study(DATA / "reference" / f"{study}.toml"), RUNS / study)
        rows = table(RUNS / study)
        told = [name for name in rows.columns if name in COLUMNS or rows[name].null_count() < rows.height]
        kept = rows.select(told).drop("source", "step", strict=False)
        target = DATA / "reference" / f"{study}.parquet"
        with new_file(target) as partial:
            kept.write_parquet(partial, compression_level=19)
        runs = kept["folder"].n_unique()
        size = target.stat().st_size / 1e3
        print(f"{target.name}: {kept.height} losses of {runs} of {len(jobs)} runs, {size:.0f} kB")


if __name__ == "__main__":
    main()
