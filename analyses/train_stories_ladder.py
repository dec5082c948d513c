"""Train the ladder of data/stories_ladder.csv: five sizes, five budgets and two seeds on the story language.

    python analyses/train_stories_ladder.py [--workers 2] [--folder runs/stories-ladder]

One trunk a size and seed serves all budgets. About 40 minutes on two cores; give the command again after an
interruption and it goes on. Needs scalegrow[train].
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from scalegrow.runs.collect import collect

DATA = Path(__file__).parents[1] / "data" / "stories_ladder.csv"
SIZES = ("15k", "30k", "60k", "120k", "240k")
BUDGETS = ("500k tokens", "1M tokens", "2M tokens", "4M tokens", "8M tokens")
SEEDS = (0, 1)
LR = 0.007  # between the best at 5 and at 20 tokens per parameter of a scan over 0.005 to 0.04 at 46k and 163k
KEPT = (
    *(
        "run",
        "n_params",
        "n_params_non_embedding",
        "tokens",
        "loss",
        "heldout_se",
        "entropy",
        "excess",
        "excess_se",
    ),
    *("annealed", "seed", "lr", "gamma", "loss_knowledge", "loss_tracking", "loss_composition"),
)


def command(size: str, seed: int, folder: Path) -> list[str]:
    budgets = [word for budget in BUDGETS for word in ("--budget", budget)]
    settings = ("batch=8", "schedule.warmup=50k tokens", "evaluation.times=3", "evaluation.sequences=1024")
    options = [word for setting in settings for word in ("--set", setting)]
    seeds = ("--seed", str(seed), "--data-seed", str(seed))
    place = ("--threads", "1", "--out", str(folder / f"{size}-{seed}"))
    program = (sys.executable, "-m", "scalegrow", "train", "--size", size)
    return [*program, *budgets, "--lr", str(LR), *options, *seeds, *place]


def train(size: str, seed: int, folder: Path) -> None:
    print(f"{size}, seed {seed} ...", flush=True)
    subprocess.run(command(size, seed, folder), check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/stories-ladder"))
    options = parser.parse_args()
    with ThreadPoolExecutor(options.workers) as workers:
        jobs = [workers.submit(train, size, seed, options.folder) for size in SIZES for seed in SEEDS]
        for job in jobs:
            job.result()
    finals = collect(options.folder).filter(pl.col("annealed")).sort("n_params", "tokens", "seed")
    counts = [pl.col(name).cast(pl.Int64) for name in ("n_params", "n_params_non_embedding", "tokens")]
    rounded = pl.selectors.float().round(6)
    finals.select(KEPT).with_columns(counts).with_columns(rounded).write_csv(DATA)
    print(f"{finals.height} rows written to {DATA.name}")


if __name__ == "__main__":
    main()
