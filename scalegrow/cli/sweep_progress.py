"""How a sweep gets on, on stderr: a bar on a terminal, a line from time to time elsewhere."""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from scalegrow.train.member import Job
    from scalegrow.train.sweep import Outcome

LINE_EVERY = 30.0  # seconds between lines of progress where there is no terminal


class Watch:
    """Told what is finished and what is at work, it shows the share that is done and the time left.

    Work is counted in seconds at the usual rate; how many of them a worker does a second is measured on the way.
    """

    def __init__(self, jobs: "dict[str, Job]") -> None:
        from scalegrow.train.estimate import cost

        self._jobs = jobs
        self._work = {key: cost(job.member).seconds for key, job in jobs.items()}
        self._expected = speed_of(jobs, notes_of(jobs))
        self._worked = 0.0
        self._before: float | None = None
        self._looked = self._lined = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            console=Console(stderr=True, highlight=False, markup=False),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("sweep", total=1.0)

    def __enter__(self) -> "Watch":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def tell(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line, soft_wrap=True)

    def __call__(self, outcome: "Outcome", running: dict[str, float]) -> None:
        """Runs at work, each with the share of it that is done."""
        now = time.monotonic()
        self._worked += (now - self._looked) * len(running)
        self._looked = now
        share, line = self._state(outcome, running)
        self._bar.update(self._task, completed=share, description=line)
        if self._bar.disable and now - self._lined > LINE_EVERY:
            self._lined = now
            self.tell(line)

    def _state(self, outcome: "Outcome", running: dict[str, float]) -> tuple[float, str]:
        """The share of all work that is done, and a line for a person."""
        from scalegrow.train.estimate import measured_rate, time_left

        left = {
            key: (1 - running.get(key, 0.0)) * self._work[key] for key in outcome.open(self._jobs) | {*running}
        }
        whole = sum(self._work.values())
        done = sum(self._work[key] for key in outcome.finished) + sum(
            share * self._work[key] for key, share in running.items()
        )
        self._before = done if self._before is None else self._before
        rate = measured_rate(done - self._before, self._worked, self._expected)
        seconds = time_left((job.member for job in self._jobs.values()), left, max(len(running), 1)) / rate
        counts = f"{len(outcome.finished)} of {len(self._jobs)} runs, {len(running)} at work"
        return done / whole, f"{counts}, {done / whole:.0%}, {clock(seconds)} left"


def notes_of(jobs: "dict[str, Job]") -> dict[str, dict[str, Any]]:
    """What the finished runs' notes say, by key."""
    from scalegrow.train.member import finished

    return {key: told for key, job in jobs.items() if (told := finished(job))}


def speed_of(jobs: "dict[str, Job]", notes: dict[str, dict[str, Any]]) -> float:
    """This machine's speed over the usual, by what is finished."""
    from scalegrow.train.estimate import speed

    return speed((jobs[key].member.config, told["seconds"]) for key, told in notes.items())


def clock(seconds: float) -> str:
    """'1 h 05 min', '12 min', '40 s'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
