"""A log of any training loop in one line a loss, without torch: what it leaves is what `scalegrow fit` reads."""

import json
import math
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.log import RunLog, read_header, read_records

LOG = "log.jsonl"
TAKEN = {"heldout_loss", "status"}  # names of a record that append sets itself


class Recorder:
    """An open log. Every loss is one line, written whole and flushed; opening cuts a torn last line."""

    def __init__(self, log: RunLog, tokens: list[tuple[float, int]]) -> None:
        """tokens: of every held-out loss that the log has, and where its line begins in bytes."""
        self.log = log
        self._before = tokens
        self._last = 0.0  # tokens, of this session

    def append(self, *, tokens: float, loss: float, annealed: bool = False, **numbers: Any) -> None:
        """One held-out loss in nats per token, after `tokens` tokens; step, flops, lr ... as further numbers.

        annealed: the learning rate has decayed to its end. A log that was opened again goes on from here: what an
        earlier session wrote at these tokens or later, behind the checkpoint that this one starts from, is cut.
        Raises InputError where tokens do not rise, since no loop trains backwards.
        """
        tokens, loss = _number("tokens", tokens), _number("loss", loss)
        if taken := {*numbers} & TAKEN:
            raise InputError(f"{self.log.path}: {min(taken)} is the log's own: call it otherwise.")
        if not tokens > self._last:
            raise InputError(f"{self.log.path}: tokens go from {self._last:g} to {tokens:g}: log each count once.")
        numbers = {name: self._numeric(name, value) for name, value in numbers.items()}
        record = {**numbers, "tokens": tokens, "heldout_loss": loss, "annealed": self._truth(annealed)}
        self._cut_from(tokens)  # once nothing can be refused any more
        self._last = tokens
        self.log.append(record)

    def finish(self) -> None:
        """Say that the run is at its end, and close."""
        self.log.append({"status": "finished"})
        self.close()

    def close(self) -> None:
        """Force the log to disk and close it; it can be opened again."""
        self.log.sync()
        self.log.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _numeric(self, name: str, value: Any) -> Any:
        """A further number; a step is a whole one. Raises InputError on what the run table cannot hold."""
        value = _plain(value)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not isinstance(value, int | float) or (name == "step" and not whole):
            raise InputError(f"{self.log.path}: {name} is {value!r}: give a {'whole ' * (name == 'step')}number.")
        return int(value) if name == "step" else value

    def _truth(self, annealed: Any) -> bool:
        """Of Python, numpy or torch. Raises InputError on what is none."""
        annealed = _plain(annealed)
        if not isinstance(annealed, bool):
            raise InputError(f"{self.log.path}: annealed is {annealed!r}: give True or False.")
        return annealed

    def _cut_from(self, tokens: float) -> None:
        """Cut what an earlier session wrote at these tokens or later."""
        stale = [start for seen, start in self._before if seen >= tokens]
        self._before = []
        if stale:
            self.log.cut(min(stale))


def open_log(folder: str | Path, *, n_params: float, run: str | None = None, **row: Any) -> Recorder:
    """Open the log of one run, FOLDER/log.jsonl, new or to go on.

    row: any column of the run table that holds for the whole run: operator, base, base_params and base_tokens of a
    grown run, data, seed, n_params_non_embedding (scalegrow.runs.table.COLUMNS). run: the folder's name unless
    told. Raises InputError where a log is there that says otherwise or another writer has open, or a column is
    unknown.
    """
    path = Path(folder) / LOG
    row = {name: _plain(value) for name, value in row.items()}
    told = {"run": run or Path(folder).name, "n_params": _number("n_params", n_params), **row}
    _require_columns(told, path)
    _require_place(path)
    if not path.exists() or b"\n" not in path.read_bytes():
        return Recorder(RunLog.create(path, {"row": told}, replace=True), [])
    there = read_header(path).get("row")
    if there != json.loads(json.dumps(told)):
        raise InputError(f"{path} is there already and says {there}, not {told}: choose another folder.")
    return Recorder(RunLog(path, keep_bytes=_whole(path)), _losses(path))


def _number(name: str, value: Any) -> float:
    """A number above 0, of numpy and torch too. Raises InputError on what is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < math.inf:
        raise InputError(f"{name} is {value!r}: give a number above 0.")
    return found


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own."""
    return value.item() if hasattr(value, "item") else value


def _require_place(path: Path) -> None:
    """Raise InputError where no log can lie, or another's file does."""
    if path.is_dir() or path.parent.is_file():
        raise InputError(f"{path} cannot be a log: name a new folder.")
    if path.exists() and (there := path.read_bytes()) and b"\n" not in there and not there.startswith(b"{"):
        raise InputError(f"{path} is there and no log: choose another folder.")


def _require_columns(row: dict[str, Any], path: Path) -> None:
    """Raise InputError on what no row of the run table can hold: unknown columns, a grown run without its base."""
    import polars as pl  # which a training loop need not load before

    from scalegrow.runs.table import COLUMNS, checked

    for name in row:
        if name not in COLUMNS or name in ("tokens", "loss", "annealed", "flops"):
            raise InputError(f"{path}: {name} is no column that holds for a whole run; see docs/run-table.md.")
    try:
        json.dumps(row, allow_nan=False)
        first = pl.DataFrame([{**row, "tokens": 1.0, "loss": 1.0, "annealed": False}])
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: a column holds what no table can ({error}): give texts and numbers.") from None
    checked(first, str(path))


def _whole(path: Path) -> int:
    """The bytes up to the last line that was written whole."""
    return path.read_bytes().rfind(b"\n") + 1


def _losses(path: Path) -> list[tuple[float, int]]:
    """Tokens of every held-out loss, and where its line begins."""
    read_records(path)  # which refuses a line that is no JSON
    found, start = [], 0
    for line in path.read_bytes()[: _whole(path)].splitlines(keepends=True):
        record = json.loads(line)
        if "heldout_loss" in record:
            found.append((float(record["tokens"]), start))
        start += len(line)
    return found
