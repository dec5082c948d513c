"""W&B's offline runs: offline-run-*/run-ID.wandb.

The file is a log in LevelDB's framing (github.com/google/leveldb, doc/log_format.md) behind seven bytes of its
own: ":W&B", a magic number of two bytes and a version. Blocks of 32 KiB hold fragments: a checksum of four
bytes, a length of two, a type of one (full, first, middle, last), the data. Put together they are `Record`
messages of W&B's own protocol, which the wandb package decodes; its reader of the file was removed in 0.31.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import Log, Logs, below, frame_of, library, resumed, together

BLOCK, HEADER, IDENTITY = 32768, 7, b":W&B"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
STEP = "_step"
NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def find(path: Path) -> list[Path]:
    """The .wandb files at or below a path; a folder's link to the latest run counts once."""
    return list(dict.fromkeys(file.resolve() for file in below(path, "*.wandb")))


def read_offline(paths: Sequence[Path]) -> Logs:
    """The history and configuration of every run; files of one resumed run are put together."""
    runs: dict[str, list[Log]] = {}
    for path in sorted(paths):
        ident, log = read_run(path)
        if log is not None:
            runs.setdefault(ident, []).append(log)
    if not runs:
        raise InputError(f"{paths[0]} holds no history: give a run that logged its loss, or sync and export it.")
    names = [parts[-1].name for parts in runs.values()]
    return together(
        "W&B offline runs",
        [
            joined(parts, parts[-1].name if names.count(parts[-1].name) == 1 else f"{parts[-1].name} {ident}")
            for ident, parts in runs.items()
        ],
    )


def joined(parts: Sequence[Log], name: str) -> Log:
    """One run from the files that each of its sessions left."""
    records = pl.concat([part.records for part in parts], how="diagonal_relaxed")
    settings = {name: value for part in parts for name, value in part.settings.items()}
    return Log(name, parts[-1].file, resumed(records, STEP), settings)


def read_run(path: Path) -> tuple[str, Log | None]:
    """A run's id and its log, None where it logged nothing. Raises InputError on a file that is none."""
    name, ident = path.stem, path.stem.removeprefix("run-")
    rows: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for record in messages(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name, ident = record.run.display_name or name, record.run.run_id or ident
            settings |= values(record.run.config.update)
        elif kind == "config":
            settings |= values(record.config.update)
        elif kind == "history":
            rows.append({STEP: record.history.step.num, **values(record.history.item)})
    if not rows:
        return ident, None
    return ident, Log(name, path, frame_of(rows, path), {k: v for k, v in settings.items() if k != "_wandb"})


def messages(path: Path) -> Iterator[Any]:
    """Every record of a file; a last one torn by a crash is left out."""
    protocol = library("wandb.proto.wandb_internal_pb2", "wandb")
    decode = library("google.protobuf.message", "wandb").DecodeError
    for data in frames(path):
        record = protocol.Record()
        try:
            record.ParseFromString(data)
        except decode:
            raise InputError(
                f"{path} holds a record that wandb cannot decode: update wandb, or export it."
            ) from None
        yield record


def frames(path: Path) -> Iterator[bytes]:
    """The whole records in LevelDB's framing. Raises InputError where the file does not begin as W&B's do."""
    with path.open("rb") as file:
        if file.read(len(IDENTITY)) != IDENTITY:
            raise InputError(f"{path} is no offline run of W&B: it must begin with {IDENTITY.decode()}.")
        file.seek(HEADER)
        parts: list[bytes] = []
        for kind, data in fragments(file):
            parts = [data] if kind in (FULL, FIRST) else [*parts, data]
            if kind in (FULL, LAST):
                yield b"".join(parts)


def fragments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(type, data) of every fragment from here on; the file's first block is shorter by its own header."""
    left = BLOCK - HEADER
    while True:
        if left < HEADER:  # too short for a fragment: filled with zeros
            file.read(left)
            left = BLOCK
        head = file.read(HEADER)
        length, kind = int.from_bytes(head[4:6], "little"), head[6] if len(head) == HEADER else 0
        data = file.read(length)
        if kind == 0 or len(data) < length:
            return
        left -= HEADER + length
        yield kind, data


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Keys and values of history or configuration items; nested keys are joined by dots."""
    return {item.key or ".".join(item.nested_key): value_of(item) for item in items}


def value_of(item: Any) -> Any:
    """A value as JSON, or typed, as newer files may have it."""
    if item.value_json:
        value = json.loads(item.value_json)
        return NUMBERS.get(value, value) if isinstance(value, str) else value
    kind = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
    if kind is None:
        return None
    value = getattr(item, kind)
    return json.loads(value) if kind == "json" else None if kind == "none" else value
