"""Seconds and peak memory of a million imported rows, against polars reading the same file.

    python benchmarks/import_logs.py [--runs 1000] [--rows 1000] [--draws 2000]

Each step runs in a process of its own, so peaks do not mix; an interpreter with polars alone is shown too.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

MEASURED = """
import sys, time
start = time.perf_counter()
{body}
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - start, time.process_time(), int(peak) / 1024, file=sys.stderr)
"""
COMMAND = """
sys.argv = {arguments!r}
from scalegrow.cli import main
try: main()
except SystemExit as end: assert not end.code, end.code
"""


def write_history(path: Path, runs: int, rows: int) -> None:
    """Losses of a Chinchilla law, noisy by run and by row."""
    rng = np.random.default_rng(0)
    N = np.repeat(np.geomspace(2e6, 2e9, runs), rows)
    D = (N.reshape(runs, rows) * np.geomspace(0.2, 40, rows)).ravel().round()
    noise = np.repeat(rng.normal(0, 0.003, runs), rows) + rng.normal(0, 0.002, runs * rows)
    loss = (1.69 + 406 / N**0.34 + 410 / D**0.28) * np.exp(noise)
    names = np.repeat([f"run-{i:04d}" for i in range(runs)], rows)
    pl.DataFrame({"run": names, "params": N, "train/tokens": D, "eval/loss": loss}).write_csv(path)


def measured(body: str) -> tuple[float, ...]:
    """Seconds, seconds of CPU and peak MB of a program of its own."""
    program = MEASURED.format(body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(map(float, done.stderr.splitlines()[-1].split()))


def command(*arguments: object) -> str:
    return COMMAND.format(arguments=["scalegrow", *map(str, arguments)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        history, table = Path(name) / "history.csv", Path(name) / "table.parquet"
        write_history(history, options.runs, options.rows)
        steps = {
            "polars alone": "import polars",
            "polars reads the CSV": f"import polars; polars.read_csv({str(history)!r})",
            "import": command("import", history, "--set", "annealed=false", "--out", table),
            "polars reads the table": f"import polars; polars.read_parquet({str(table)!r})",
            "fit": command("fit", table, "--no-calibrate", "--draws", options.draws),
        }
        print(
            f"{options.runs * options.rows:,} rows of {options.runs:,} runs, {history.stat().st_size / 1e6:.0f} MB"
        )
        for step, body in steps.items():
            seconds, cpu, peak = measured(body)
            print(f"{step:24} {seconds:7.2f} s {cpu:7.2f} s of CPU {peak:7.0f} MB peak")


if __name__ == "__main__":
    main()
