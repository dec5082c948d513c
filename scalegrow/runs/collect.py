"""From a folder of run logs to the run table: a row for every held-out loss.

Records are parsed by polars, not line by line: a million of them take seconds (benchmarks/collect.py).
"""

from io import BytesIO
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.log import read_header
from scalegrow.runs.table import COLUMNS, checked

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
    rows = [rows_of(path) for path in paths]
    table = pl.concat(rows, how="diagonal_relaxed")
    if table.is_empty():
        raise InputError(f"the logs below {folder} hold no held-out loss yet: wait for the first evaluation.")
    return checked(table, str(folder))


def rows_of(path: Path) -> pl.DataFrame:
    """A log's held-out losses, with its header's columns beside each."""
    header = read_header(path)
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    _, _, body = whole.partition(b"\n")
    tags = header.get("tags") or []
    schema = {**RECORD, "tags": pl.Struct(dict.fromkeys(tags, TAG))} if tags else RECORD
    try:
        records = pl.read_ndjson(BytesIO(body), schema=schema) if body else pl.DataFrame(schema=schema)
    except pl.exceptions.PolarsError:
        raise InputError(f"{path} holds a line that is no JSON record: mend or remove it.") from None
    losses = records.filter(pl.col("heldout_loss").is_not_null()).rename({"heldout_loss": "loss"})
    by_tag = [
        pl.col("tags").struct.field(tag).struct.field(field).alias(f"{field}_{tag}")
        for tag in tags
        for field in ("loss", "excess")
    ]
    constants = {**_facts(header), **header.get("row", {})}
    beside = [
        pl.lit(value, dtype=COLUMNS[name].dtype if name in COLUMNS else None).alias(name)
        for name, value in constants.items()
    ]
    return losses.with_columns(*by_tag, *beside).drop("tags", strict=False)


def _facts(header: dict[str, object]) -> dict[str, object]:
    """What of the config a reader of the table asks for first; absent in logs of other trainers."""
    config = header.get("config")
    found = {"source": "run logs", "stage": header.get("stage")}
    for column, (section, name) in FACTS.items():
        part = config.get(section) if isinstance(config, dict) else None
        found[column] = part.get(name) if isinstance(part, dict) else None
    return {key: value for key, value in found.items() if value is not None}
