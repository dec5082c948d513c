"""What the sweep's plan saves against the naive one: every budget a run of its own, in one process as it comes.

    python benchmarks/sweep.py [--study data/reference/stories.toml] [--slice 30k]

FLOPs of the whole study are counted for four plans: naive (each budget trains its own run, and each grown run its
own base), with trunks, with shared bases, with both. Wall time is measured on a slice of it, a small target with
the study's kinds of runs: the naive plan in one process with PyTorch's threads as they come, and with one thread,
against `scalegrow sweep` with one worker and with as many as there are cores, so that each factor shows apart. The
losses of both plans are compared.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch

from scalegrow.runs.branches import trained_flops
from scalegrow.runs.log import read_records
from scalegrow.runs.study import Member, read_study
from scalegrow.train.member import Job, execute
from scalegrow.train.sweep import jobs_of, table

SLICE = """
[baseline]
data = "stories"
n_layers = 4
head_dim = 16
budgets = ["5tpp", "10tpp", "20tpp", "40tpp"]

[baseline.settings]
batch = 4
optimiser.lr = 0.005
evaluation.times = 4
evaluation.sequences = 64

[[runs]]
sizes = ["{size}"]

[[runs]]
sizes = ["{size}"]
factors = [2]
operators = ["szp:shrink=0.4", "szp:shrink=0.8", "zero_pad", "stack"]
"""


def alone(member: Member) -> Iterator[Member]:
    """A member as the naive plan has it: a run for every budget."""
    for budget in member.config.budgets:
        yield replace(member, config=replace(member.config, budgets=(budget,)))


def wanted(members: list[Member]) -> list[Member]:
    """Members that a study asks for themselves, not as bases alone: those with all of its budgets."""
    most = max(len(member.config.budgets) for member in members)
    return [member for member in members if len(member.config.budgets) == most]


def counted(members: list[Member]) -> dict[str, float]:
    """Training FLOPs of the study's wanted runs and their bases under each plan."""
    asked = wanted(members)
    grown = [member for member in asked if member.origin]
    own_runs = sum(trained_flops(each.config) for member in asked for each in alone(member))
    bases = {member.origin.base.key: trained_flops(member.origin.base.config) for member in grown if member.origin}
    own = sum(trained_flops(member.origin.base.config) for member in grown if member.origin)
    trunks = sum(trained_flops(member.config) for member in asked)
    return {
        "naive": own_runs + own * len(asked[0].config.budgets),
        "trunks": trunks + own,
        "shared bases": own_runs + sum(bases.values()),
        "both": sum(trained_flops(member.config) for member in members),
    }


def naive(jobs: dict[str, Job], folder: Path, threads: int) -> tuple[float, dict[tuple[str, str], float]]:
    """Seconds of the naive plan, and its final loss by run and budget."""
    started, losses = time.perf_counter(), {}
    for member in wanted([job.member for job in jobs.values()]):
        for one in alone(member):
            place = folder / one.name / one.config.budgets[0]
            base = Job(member.origin.base, place / "base", folder / "packed") if member.origin else None
            if base:
                execute(base, threads)
            job = Job(one, place / "run", folder / "packed", base and base.member.config, base and base.folder)
            execute(job, threads)
            losses[one.name, one.config.budgets[0]] = final_loss(job)
    return time.perf_counter() - started, losses


def final_loss(job: Job) -> float:
    """The last held-out loss of a run of one budget."""
    records = read_records(job.folder / job.member.config.budgets[0] / "log.jsonl")
    return float([record["heldout_loss"] for record in records if "heldout_loss" in record][-1])


def swept(study: Path, folder: Path, workers: int) -> float:
    """Seconds of `scalegrow sweep` in processes of their own."""
    program = (sys.executable, "-m", "scalegrow", "sweep", str(study))
    started = time.perf_counter()
    subprocess.run([*program, "--out", str(folder), "--workers", str(workers)], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path("data/reference/stories.toml"))
    parser.add_argument("--slice", default="30k")
    options = parser.parse_args()
    plans = counted(read_study(options.study).members())
    print(f"FLOPs of {options.study.name}, by plan")
    for name, work in plans.items():
        print(f"  {name:14s} {work:.3g}  {plans['naive'] / work:.2f} x less than naive")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / "slice.toml"
        file.write_text(SLICE.format(size=options.slice))
        measure(file, folder)


def measure(file: Path, folder: Path) -> None:
    """Wall times on the slice."""
    cores = os.cpu_count() or 1
    jobs = jobs_of(read_study(file), folder / "plan")
    ratio = counted([job.member for job in jobs.values()])
    usual = torch.get_num_threads()
    by_default, _ = naive(jobs, folder / "default", usual)
    by_one, losses = naive(jobs, folder / "one", 1)
    one_worker = swept(file, folder / "one_worker", 1)
    many = swept(file, folder / "many", cores)
    fewer = ratio["naive"] / ratio["both"]
    print(f"\nwall time of a slice ({len(jobs)} runs, {fewer:.2f} x fewer FLOPs by plan), seconds")
    for name, seconds in (
        (f"naive, one process of {usual} threads", by_default),
        ("naive, one process of one thread", by_one),
        ("sweep, one worker", one_worker),
        (f"sweep, {cores} workers", many),
    ):
        print(f"  {name:40s} {seconds:6.1f}  {by_default / seconds:.2f} x faster than the first")
    found = table(folder / "many").filter(pl.col("annealed"))
    same = {(row["folder"], row["stage"]): row["loss"] for row in found.iter_rows(named=True)}
    gaps = [abs(same[key] - loss) for key, loss in losses.items()]
    print(f"largest difference of {len(gaps)} final losses between the plans at one thread: {max(gaps):.3g} nats")


if __name__ == "__main__":
    main()
