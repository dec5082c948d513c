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

    def start(self, stage: Any, header: dict[str, Any]) -> None:
        """A bar for a stage."""
        self._since: tuple[float, int] | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(stage.name, total=stage.end, completed=stage.start)
            self._bar.start()

    def record(self, stage: Any, record: dict[str, Any]) -> None:
        """Move the bar, or print a held-out loss."""
        now = (time.perf_counter(), record["tokens"])
        since = self._since or now
        self._since = since
        rate = f"{format_count((now[1] - since[1]) / (now[0] - since[0]))} tok/s" if now[1] > since[1] else ""
        if self._bar and "loss" in record:
            self._bar.update(
                self._task,
                completed=record["step"],
                description=f"{stage.name}  loss {record['loss']:.4f}  {rate}",
            )
        elif "heldout_loss" in record and not self._bar:
            where = f"{stage.name}: step {record['step']} of {stage.end}"
            self._console.print(f"{where}, held-out loss {record['heldout_loss']:.4f}  {rate}")

    def end(self, stage: Any, status: str) -> None:
        """Put the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        if status != "finished":
            self._console.print(f"{stage.name}: {status}")
