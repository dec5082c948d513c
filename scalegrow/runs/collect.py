"""From a folder of run logs to the run table: a row for every held-out loss.

Only lines with a held-out loss are parsed, all at once: a million records take seconds (benchmarks/collect.py).
"""

from collections.abc import Collection
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.config import decides
from scalegrow.runs.fields import flatten
from scalegrow.runs.finished import COLUMNS, SIGNALS, read_note
from scalegrow.runs.log import read_header
from scalegrow.runs.table import checked

STRUCTURE = ("clusters", "rank", "sink")  # of the weights, where evaluation.structure asks for it
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
    **dict.fromkeys(STRUCTURE, pl.Float64()),
    "annealed": pl.Boolean(),
}
TAG = pl.Struct({"loss": pl.Float64(), "se": pl.Float64(), "share": pl.Float64(), "excess": pl.Float64()})
# Settings that do not make runs of another recipe, beside those that decide nothing: what a ladder varies.
VARIED = (
    *("seed", "data.seed", "batch", "compiled"),
    *("data.source", "data.tokenizer", "data.column", "data.revision"),  # these are in `data`
    *(f"model.shape.{size}" for size in ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff")),
    *("model.shape.width", "model.shape.vocab_size"),
    *(f"start.{fact}" for fact in ("checkpoint", "sha256", "moments_sha256", "first_item", "optimiser_step")),
    *(f"start.{fact}" for fact in ("operator", "base", "base_params", "base_tokens", "growth_factor")),
    *("start.growth_factor_non_embedding", "start.growth_factor_width"),
)
LARGEST = 1e18  # parameters
ALWAYS = {
    "gamma": "init.gamma",
    "lr": "optimiser.lr",
    "data_seed": "data.seed",
    "dropout": "model.dropout",
    "n_layers": "model.shape.n_layers",
}


def collect(folder: Path, runs: Collection[str] | None = None) -> pl.DataFrame:
    """The run table of every log below a folder, checked. Raises InputError where there is none to read.

    Logs of one trunk share their `run`, so that intervals resample them together. Logs that are still being
    written count as far as they are whole; a loss that was no number is no row. Columns beyond the run table's:
    folder, stage, those of RECORD, of a study's runs COLUMNS of their notes, loss_TAG and excess_TAG for each kind
    of token, those of ALWAYS, and every setting in which the runs differ, under its dotted name. `runs`, where
    given, names the folders directly below that count.
    """
    paths = [path for path in logs_below(folder) if runs is None or path.relative_to(folder).parts[0] in runs]
    headers = [read_header(path) for path in paths]
    _refuse_copies(headers, paths)
    by_tags: dict[tuple[str, ...], list[int]] = {}
    for number, header in enumerate(headers):
        by_tags.setdefault(_tags(header, paths[number]), []).append(number)
    losses = [_losses([(number, paths[number]) for number in numbers], tags) for tags, numbers in by_tags.items()]
    found = pl.concat(losses, how="diagonal")
    found = found.drop(name for name in STRUCTURE if found[name].null_count() == found.height)
    if found.is_empty():
        raise InputError(f"the logs below {folder} hold no held-out loss yet: wait for the first evaluation.")
    try:
        facts = pl.DataFrame(_facts(headers, paths, folder), infer_schema_length=None).with_row_index("log")
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InputError(f"a header below {folder} is odd ({str(error).splitlines()[0]}): mend it.") from None
    return checked(found.join(facts, on="log").sort("log", "step").drop("log"), str(folder))


def logs_below(folder: Path) -> list[Path]:
    """Every run log below a folder; files of that name that other programs wrote are passed over."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of one run, or of many.")
    # Links to folders are followed, which Path.rglob does from Python 3.13 on.
    below = glob("**/log.jsonl", root_dir=folder, recursive=True, include_hidden=True)  # noqa: PTH207
    found = sorted(folder / path for path in below)
    paths = [path for path in found if b"scalegrow_log" in _first_line(path)]
    if not paths:
        raise InputError(f"no run log (log.jsonl) below {folder}: give the folder of one run, or of many.")
    return paths


def _refuse_copies(headers: list[dict[str, Any]], paths: list[Path]) -> None:
    """One stage of one run in two places would count twice."""
    seen: dict[tuple[str, str], Path] = {}
    for header, path in zip(headers, paths, strict=True):
        key = str(header.get("run")), str(header.get("stage"))
        if header.get("run") and key in seen:
            raise InputError(
                f"{seen[key]} and {path} are copies of one run (budgets of one run share a folder): move one away."
            )
        seen[key] = path


def _tags(header: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The names of the log's kinds of token."""
    tags = header.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags) or len({*tags}) < len(tags):
        raise InputError(f'{path}: its header\'s "tags" is no list of different names: mend it.')
    return tuple(tags)


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.readline()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None


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
    losses = records.with_columns(number, *by_tag).rename({"heldout_loss": "loss"}).drop("tags", strict=False)
    return losses.filter(pl.col("loss").is_not_null())


def _heldout_lines(path: Path) -> list[bytes]:
    """The whole lines that carry a held-out loss. Raises InputError on a line that is no record."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    lines = whole.split(b"\n")[1:]
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        raise InputError(f"{path} holds a line that is no JSON record: mend or remove it.")
    return [line for line in lines if b'"heldout_loss"' in line]


def _facts(headers: list[dict[str, Any]], paths: list[Path], folder: Path) -> list[dict[str, object]]:
    """A row of constants a log: its place, its header's row, and the settings that tell it from the others."""
    settings = [flatten(header.get("config") or {}) for header in headers]
    other = sorted(differing(settings).keys() - {*VARIED})
    notes = {place: read_note(place) for place in {path.parent.parent for path in paths}}
    noted = [name for name in COLUMNS if any(name in note for note in notes.values())]
    watched = {place: note.get(SIGNALS, {}) for place, note in notes.items()}
    signals = sorted({name for each in watched.values() for name in each})
    return [
        {
            **{name: notes[path.parent.parent].get(name) for name in noted},
            **{name: watched[path.parent.parent].get(name) for name in signals},
            "folder": str(_run_folder(header, path).relative_to(folder)),
            "stage": header.get("stage"),
            "source": "run logs",
            **{column: config.get(name) for column, name in ALWAYS.items()},
            **{name: None if config.get(name) is None else str(config[name]) for name in other},
            **_row(header, path),
        }
        for header, config, path in zip(headers, settings, paths, strict=True)
    ]


def _run_folder(header: dict[str, Any], path: Path) -> Path:
    """RUN of RUN/STAGE/log.jsonl, or of RUN/log.jsonl, where a loop without stages keeps its own."""
    return path.parent.parent if header.get("stage") else path.parent


def differing(settings: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The values, as text, of every setting that decides weights and differs, both in order of appearance."""
    names = dict.fromkeys(name for each in settings for name in each if decides(name))
    values = {name: list(dict.fromkeys(str(each.get(name)) for each in settings)) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def _row(header: dict[str, Any], path: Path) -> dict[str, object]:
    """The header's row. Raises InputError where it does not say how large the model is."""
    row = header.get("row")
    n_params = row.get("n_params") if isinstance(row, dict) else None
    if isinstance(n_params, bool) or not isinstance(n_params, int | float) or not 0 < n_params < LARGEST:
        raise InputError(f'{path}: its header\'s "row" lacks n_params, a number above 0: add it.')
    return {name: value for name, value in (row or {}).items() if name != "log"}
