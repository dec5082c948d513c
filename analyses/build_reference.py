"""Make data/reference/NAME.parquet of the reference studies' finished runs, as far as they have come.

    scalegrow sweep data/reference/NAME.toml --out runs/reference/NAME     # hours; goes on where it stopped
    python analyses/build_reference.py [NAME ..]

Columns beyond the run table's are kept where they say something; the clock's and paths are not in it. Steps are
where a study watched lags.
"""

import argparse
from pathlib import Path

from scalegrow.atomic import new_file
from scalegrow.runs.finished import COLUMNS
from scalegrow.runs.shipped import DATA
from scalegrow.runs.study import read_study
from scalegrow.train.sweep import jobs_of, table

RUNS, STUDIES = Path("runs/reference"), DATA / "reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in STUDIES.glob("*.toml")))
    for study in parser.parse_args().names:
        if not any((RUNS / study / "runs").glob("*/finished.json")):
            print(
                f"{study}: no finished run in {RUNS / study}: scalegrow sweep {STUDIES}/{study}.toml trains them"
            )
            continue
        jobs = jobs_of(read_study(STUDIES / f"{study}.toml"), RUNS / study)
        rows = table(RUNS / study)
        told = [name for name in rows.columns if name in COLUMNS or rows[name].null_count() < rows.height]
        lags = any(name.startswith("kl_") for name in told)
        kept = rows.select(told).drop("source", *(() if lags else ("step",)), strict=False)
        target = STUDIES / f"{study}.parquet"
        with new_file(target) as partial:
            kept.write_parquet(partial, compression_level=19)
        runs = kept["folder"].n_unique()
        size = target.stat().st_size / 1e3
        print(f"{target.name}: {kept.height} losses of {runs} of {len(jobs)} runs, {size:.0f} kB")


if __name__ == "__main__":
    main()
