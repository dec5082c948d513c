"""From a folder of run logs to the run table: a row for every held-out loss.

Only lines with a held-out loss are parsed, all at once: a million records take seconds (benchmarks/collect.py).
"""

from io import BytesIO
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.log import read_header
from scalegrow.runs.table import checked

RECORD = {
    "step": pl.Int64(),
    "tokens": pl.Float64(),
    "flops": pl.Float64(),
    "heldout_loss": pl.Float64(),
    "heldout_se": pl.Float64(),
    "entropy": pl.Float64(),
    "excess": pl.Float64(),
    "excess_se": pl.Float64(),
    "bits_per_byte": pl.Float64(),
    "annealed": pl.Boolean(),
}
TAG = pl.Struct({"loss": pl.Float64(), "se": pl.Float64(), "share": pl.Float64(), "excess": pl.Float64()})
FACTS = {
    "gamma": ("init", "gamma"),
    "lr": ("optimiser", "lr"),
    "data": ("data", "source"),
    "data_seed": ("data", "seed"),
    "parametrisation": ("parametrisation", "kind"),
    "schedule": ("schedule", "kind"),
}


def collect(folder: Path) -> pl.DataFrame:
    """The run table of every log below a folder, checked. Raises InputError where there is none to read.

    Logs of one trunk share their `run`, so that intervals resample them together. Logs that are still being
    written count as far as they are whole. Columns beyond the run table's: those of RECORD and FACTS, `stage`,
    and loss_TAG and excess_TAG for every kind of token that the data tell apart.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of one run, or of many.")
    paths = sorted(folder.rglob("log.jsonl"))
    if not paths:
        raise InputError(f"no log.jsonl below {folder}: give the folder of one run, or of many.")
    headers = [read_header(path) for path in paths]
    by_tags: dict[tuple[str, ...], list[int]] = {}
    for number, header in enumerate(headers):
        by_tags.setdefault(tuple(header.get("tags") or ()), []).append(number)
    losses = [_losses([(number, paths[number]) for number in numbers], tags) for tags, numbers in by_tags.items()]
    found = pl.concat(losses, how="diagonal")
    if found.is_empty():
        raise InputError(f"the logs below {folder} hold no held-out loss yet: wait for the first evaluation.")
    facts = pl.DataFrame([_facts(header) for header in headers], infer_schema_length=None).with_row_index("log")
    return checked(found.join(facts, on="log").sort("log", "step").drop("log"), str(folder))


def _losses(logs: list[tuple[int, Path]], tags: tuple[str, ...]) -> pl.DataFrame:
    """The held-out records of logs with the same tags, and each one's number as `log`."""
    lines = [(number, _heldout_lines(path)) for number, path in logs]
    schema = {**RECORD, "tags": pl.Struct(dict.fromkeys(tags, TAG))} if tags else RECORD
    body = b"\n".join(line for _, kept in lines for line in kept)
    try:
        records = pl.read_ndjson(BytesIO(body), schema=schema) if body else pl.DataFrame(schema=schema)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"a log cannot be read ({str(error).splitlines()[0]}): mend or remove it.") from None
    by_tag = [
        pl.col("tags").struct.field(tag).struct.field(field).alias(f"{field}_{tag}")
        for tag in tags
        for field in ("loss", "excess")
    ]
    number = pl.Series("log", [number for number, kept in lines for _ in kept], dtype=pl.UInt32)
    return records.with_columns(number, *by_tag).rename({"heldout_loss": "loss"}).drop("tags", strict=False)


def _heldout_lines(path: Path) -> list[bytes]:
    """The whole lines that carry a held-out loss. Raises InputError on a line that is no record."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    lines = whole.split(b"\n")[1:]
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        raise InputError(f"{path} holds a line that is no JSON record: mend or remove it.")
    return [line for line in lines if b'"heldout_loss"' in line]


def _facts(header: dict[str, object]) -> dict[str, object]:
    """The header's row, and what of the config a reader asks for first; absent in logs of other trainers."""
    config = header.get("config")
    found = {"source": "run logs", "stage": header.get("stage")}
    for column, (section, name) in FACTS.items():
        part = config.get(section) if isinstance(config, dict) else None
        found[column] = part.get(name) if isinstance(part, dict) else None
    row = header.get("row")
    return {**found, **(row if isinstance(row, dict) else {})}
