"""RunLog: one run's append-only JSON lines: a header, records, a status. No torch: any loop may write one.

    {"scalegrow_log": 1, "run": ..., "row": {...}, "config": {...}, "counts": {...}, "versions": {...}}
    {"step": 10, "tokens": 20480, "loss": 4.1, "lr": 0.01, ...}
    {"step": 100, "tokens": 204800, "heldout_loss": 3.2, "heldout_se": 0.01, "annealed": false, ...}
    {"status": "finished", "step": 1000}

`row` holds the run table's columns that are the same for the whole run (scalegrow.runs.table.COLUMNS).
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalegrow.atomic import lock
from scalegrow.errors import InputError

FORMAT = 1
STATUSES = ("finished", "diverged", "interrupted")


class RunLog:
    """A log open for appending, by this writer alone. Every record is one line, written whole and flushed."""

    def __init__(self, path: Path, keep_bytes: int | None = None) -> None:
        """Open for appending; keep_bytes cuts back to that length first, as resuming from a checkpoint wants.

        Raises InputError where the log is shorter, or another writer has it open.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep_bytes is not None and (not path.exists() or path.stat().st_size < keep_bytes):
            raise InputError(f"{path} is shorter than its checkpoint says: restore it, or start a new run.")
        self._file = path.open("a", encoding="utf-8")
        try:
            lock(self._file, _busy(path))
            if keep_bytes is not None:
                self.cut(keep_bytes)
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any], *, replace: bool = False) -> "RunLog":
        """A new log with its header. Raises InputError if one is there, unless it may be replaced."""
        if path.exists() and not replace:
            raise InputError(f"{path} is there already: RunLog(path) appends to it; or choose another.")
        log = cls(path, keep_bytes=0 if path.exists() else None)
        log.append({"scalegrow_log": FORMAT, **header})
        return log

    def append(self, record: Mapping[str, Any]) -> None:
        """One record. Numbers that are not finite become null, since JSON has none.

        Raises InputError on a log that was closed.
        """
        if self._file.closed:
            raise InputError(f"{self.path} is closed: open it again to go on.")
        self._file.write(json.dumps(_finite(record), separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()

    def cut(self, keep_bytes: int) -> None:
        """Go on from this length: what lies behind it is gone."""
        self._file.truncate(keep_bytes)

    def sync(self) -> int:
        """Force the log to disk; its length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _busy(path: Path) -> InputError:
    return InputError(
        f"{path} is being written already, by another process or an open log of this one: stop that, close it, or "
        "give this run a folder of its own."
    )


def read_header(path: Path) -> dict[str, Any]:
    """The header of a log. Raises InputError where there is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            header = json.loads(lines.readline())
    except (OSError, ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or "scalegrow_log" not in header:
        raise InputError(f"{path} is no run log: its first line must be a header with scalegrow_log.")
    if header["scalegrow_log"] != FORMAT:
        raise InputError(f"{path} has log format {header['scalegrow_log']}: this scalegrow reads {FORMAT}.")
    return header


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records after the header; a last line torn by a crash is left out."""
    read_header(path)
    whole = path.read_bytes().rpartition(b"\n")[0]
    try:
        return [json.loads(line) for line in whole.split(b"\n")[1:]]
    except ValueError:
        raise InputError(f"{path} holds a line that is no JSON: mend or remove it.") from None


def status_of(path: Path) -> str | None:
    """finished, diverged or interrupted; None while running, or where there is no log."""
    status = _last_record(path).get("status")
    return status if status in STATUSES else None


def finished_at(path: Path) -> int:
    """The step at which a log says it finished; -1 where it does not."""
    last = _last_record(path)
    return int(last.get("step", -1)) if last.get("status") == "finished" else -1


def last_step(path: Path) -> int:
    """The step of a log's last record; 0 where there is none."""
    step = _last_record(path).get("step", 0)
    return step if isinstance(step, int) else 0


def _last_record(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 4096, 0))
        last = file.read().strip().rpartition(b"\n")[2]
    try:
        record = json.loads(last)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
