"""How a run gets on, on stderr: a bar on a terminal, a line an evaluation elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from scalegrow.units import format_count


class Progress:
    """A Watcher that shows loss, tokens a second and the time left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: Bar | None = None

    def start(self, stage: Any, header: dict[str, Any], step: int) -> None:
        """A bar for a stage; and where it goes on, if it does."""
        self._since: tuple[float, int] | None = None
        samples = header["data"].get("source") == "regression"
        self._unit, self._item = ("samples/s", "samples") if samples else ("tok/s", "sequences")
        if step == 0 and "train" in header["data"]:
            self._console.print(sides(header["data"]))
        if step > stage.start:
            self._console.print(f"{stage.name}: going on from step {step}")
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(stage.name, total=stage.end, completed=step)
            self._bar.start()

    def record(self, stage: Any, record: dict[str, Any]) -> None:
        """Move the bar, or print a held-out loss."""
        now = (time.perf_counter(), record["tokens"])
        since = self._since or now
        self._since = since
        passed = (now[1] - since[1]) / max(now[0] - since[0], 1e-9)
        rate = f"{format_count(passed)} {self._unit}" if passed else ""
        if self._bar and "loss" in record:
            self._bar.update(
                self._task,
                completed=record["step"],
                description=f"{stage.name}  loss {record['loss']:.4f}  {rate}",
            )
        elif "heldout_loss" in record and not self._bar:
            where = f"{stage.name}: step {record['step']} of {stage.end}"
            sample = f"({record['heldout_sequences']} {self._item})"
            self._console.print(f"{where}, held-out loss {record['heldout_loss']:.4f} {sample}  {rate}")

    def end(self, stage: Any, status: str) -> None:
        """Put the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        if status != "finished":
            self._console.print(f"{stage.name}: {status}")


def sides(data: dict[str, Any]) -> str:
    """How much text is trained on, and how much held out."""
    counts = [
        f"{format_count(data[side]['tokens'])} tokens in {data[side]['documents']} documents {purpose}"
        for side, purpose in (("train", "to train on"), ("validation", "held out"))
    ]
    return "text: " + ", ".join(counts)
