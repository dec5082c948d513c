"""Studies of some seconds, and workers without processes, that the tests of the sweep share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalegrow.runs.study import Study, parse_study
from scalegrow.train.member import Job
from scalegrow.train.sweep import Outcome, jobs_of, sweep
from scalegrow.train.workers import Event, Kind, Workers, outcome

STUDY = """
[baseline]
n_layers = 1
head_dim = 8
context = 16
budgets = ["{budgets}"]
[baseline.settings]
batch = 8
schedule.warmup = "512 tokens"
evaluation.times = 2
evaluation.sequences = 16
checkpoint_seconds = {checkpoint_seconds}
log_every = 4

[[runs]]
sizes = ["14k"]
factors = [1, 1.3]
operators = ["szp", "zero_pad"]
base_budgets = ["2048 tokens"]
"""


def tiny_study(*budgets: str, checkpoint_seconds: float = 3600.0, more: str = "") -> str:
    """A base, a run from scratch and two grown ones, of 16 steps or what the budgets say."""
    names = '", "'.join(budgets or ("2048 tokens",))
    return STUDY.format(budgets=names, checkpoint_seconds=checkpoint_seconds) + more


# From 24 to 48 wide and from 50 to 100 in the feed-forward layer.
DOUBLED = """
[[runs]]
sizes = ["36048"]
factors = [1, 2.9743]
base_budgets = ["2048 tokens"]
seeds = [1]
"""


def watched_study(lags: str, *operators: str) -> str:
    """A base, a run from scratch and grown ones of exactly twice the width, watched at these lags.

    They make 16 steps of 512 tokens, which is what a probe of that size takes.
    """
    baseline = tiny_study("8192 tokens").partition("[[runs]]")[0].replace("batch = 8", "batch = 32")
    watching = f"evaluation.lags = {lags}\nevaluation.structure = true\n"
    return f"{baseline}{watching}{DOUBLED}operators = {[*operators]}\n"


# Networks that grow in width, and in depth alone.
NETWORKS = """
[baseline]
kind = "network"
budgets = ["4096 tokens"]
[baseline.settings]
schedule.warmup = "256 tokens"
evaluation.times = 2
evaluation.sequences = 64
evaluation.lags = [2]

[[runs]]
sizes = ["4k"]
factors = [2]
operators = ["szp:shrink=0.4"]
base_budgets = ["1024 tokens"]

[[runs]]
sizes = ["4k"]
factors = [1.5]
operators = ["identity_insert"]
base_budgets = ["1024 tokens"]
"""


class Inline:
    """Workers that run a job in this process, at once; `run` may stand for what becomes of it."""

    def __init__(self, run: Callable[[Job], tuple[Kind, str]] | None = None) -> None:
        self.run = run or (lambda job: outcome(job, 1, "cpu"))
        self.began: list[str] = []
        self.ended: list[Event] = []

    def start(self, job: Job) -> None:
        self.began.append(job.member.name)
        self.ended.append(Event(job.member.key, *self.run(job)))

    def free(self) -> int:
        return 1 - len(self.ended)

    def events(self, seconds: float) -> list[Event]:
        ended, self.ended = self.ended, []
        return ended

    def stop(self) -> list[Event]:
        return []


def swept(study: Study | str, folder: Path, workers: Workers | None = None, **options: Any) -> Outcome:
    """Sweep a study silently."""
    jobs = jobs_of(parse_study(study) if isinstance(study, str) else study, folder)
    silent: dict[str, Any] = {"retries": 3, "tell": lambda line: None, "watch": lambda *state: None}
    return sweep(jobs, workers or Inline(), **silent | options)
