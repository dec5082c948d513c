"""The run table: one row per measured loss, with the alphabet of the project declared once.

Symbols: N = n_params, D = tokens, C = flops = 6 N D, L = loss, g = growth_factor, D_base = base_tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError

SCRATCH = "scratch"


@dataclass(frozen=True)
class Column:
    """A column of the run table: its type, what it means (with unit), and its value when absent."""

    dtype: pl.DataType
    meaning: str
    default: object = None
    required: bool = False


COLUMNS: dict[str, Column] = {
    "run": Column(pl.String(), "one training run; resampling draws whole runs, never rows of one run"),
    "source": Column(pl.String(), "where the row comes from"),
    "operator": Column(pl.String(), "how the run was grown; 'scratch' if it was not", SCRATCH),
    "n_params": Column(pl.Float64(), "N, parameters of the trained model", required=True),
    "n_params_non_embedding": Column(pl.Float64(), "N without token and position embeddings and untied head"),
    "tokens": Column(pl.Float64(), "D, tokens trained on after growth", required=True),
    "flops": Column(pl.Float64(), "C, training FLOPs of this run without its base's"),
    "loss": Column(pl.Float64(), "L, held-out loss, nats per token", required=True),
    "growth_factor": Column(pl.Float64(), "g = N / N_base in n_params; 1 from scratch"),
    "growth_factor_non_embedding": Column(pl.Float64(), "g in n_params_non_embedding"),
    "growth_factor_width": Column(pl.Float64(), "g in width (d_model)"),
    "base_params": Column(pl.Float64(), "N_base, parameters of the base model; empty from scratch"),
    "base_tokens": Column(pl.Float64(), "D_base, tokens the base had seen; 0 from scratch"),
    "base": Column(pl.String(), "which base model the run grew from; runs that share one are not independent"),
    "annealed": Column(pl.Boolean(), "true: learning rate decayed to the end; false: read off mid-run"),
    "selected": Column(pl.Boolean(), "true: best of several settings, so biased low", False),
    "n_params_counts": Column(pl.String(), "which parameters n_params counts: all | non_embedding", "all"),
    "base_cost_included": Column(pl.Boolean(), "true: flops include the base's training", False),
    "seed": Column(pl.Int64(), "seed of the run"),
    "data": Column(pl.String(), "what the loss was measured on and in which tokens; other data do not compare"),
}
POSITIVE = ("n_params", "tokens", "loss", "flops", "growth_factor", "base_params")
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    # A path is a file's name, whatever is in it: a[1].csv is no pattern.
    ".csv": partial(pl.read_csv, glob=False),
    ".parquet": partial(pl.read_parquet, glob=False),
    ".jsonl": lambda path: pl.read_ndjson(path.read_bytes()),
    ".ndjson": lambda path: pl.read_ndjson(path.read_bytes()),
}


def read_table(path: Path) -> pl.DataFrame:
    """A run table from CSV, Parquet or JSON lines, or a folder of run logs: checked, typed, absent columns filled.

    Columns beyond COLUMNS are kept as they are. Raises InputError on anything that could not be
    fitted honestly: missing columns, no rows, NaN or non-positive numbers, inconsistent growth.
    """
    if path.is_dir():
        from scalegrow.runs.collect import collect  # which needs the alphabet above

        return collect(path)
    return checked(_read(path), str(path))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is not there: give a .csv, .parquet or .jsonl run table, or a folder of logs.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is not a run table: give a {', '.join(READERS)} file.")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as {path.suffix}: {reason}; check the file.") from None


def checked(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame as a run table, or an InputError that names the first problem."""
    _require_columns(frame, name)
    if frame.is_empty():
        raise InputError(f"{name} has no rows: give at least one run per coefficient of the law.")
    frame = _derived(_typed(frame, name))
    _require_numbers(frame, name)
    _require_consistent_growth(frame, name)
    return frame


def _require_columns(frame: pl.DataFrame, name: str) -> None:
    if len(frame.columns) == 1 and (mark := next((m for m in ";\t|" if m in frame.columns[0]), None)):
        raise InputError(f"{name} is separated by {mark!r}: save it with commas, or as .parquet or .jsonl.")
    for column in (c for c, spec in COLUMNS.items() if spec.required and c not in frame.columns):
        near = get_close_matches(column, frame.columns, n=1, cutoff=0.5)
        hint = f" (is it '{near[0]}'? rename it)" if near else ""
        raise InputError(
            f"{name} has no column '{column}'{hint}: a run table needs n_params, tokens and loss; "
            "see docs/run-table.md."
        )


def _typed(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    for column, spec in COLUMNS.items():
        if column not in frame.columns:
            frame = frame.with_columns(pl.lit(spec.default, dtype=spec.dtype).alias(column))
            continue
        try:
            frame = frame.with_columns(_cast(frame, column, spec.dtype).fill_null(pl.lit(spec.default)))
        except pl.exceptions.PolarsError:
            raise InputError(f"{name}: column '{column}' is not {_kind(spec.dtype)}: {spec.meaning}.") from None
    return frame.select(*COLUMNS, *(c for c in frame.columns if c not in COLUMNS))


def _cast(frame: pl.DataFrame, column: str, dtype: pl.DataType) -> pl.Expr:
    """0/1 and true/false text become booleans, numbers in text become numbers; strict otherwise."""
    if isinstance(dtype, pl.Boolean) and frame.schema[column] == pl.String:
        words = {"true": True, "1": True, "false": False, "0": False, "": None}
        return pl.col(column).str.to_lowercase().replace_strict(words, return_dtype=pl.Boolean)
    return pl.col(column).cast(dtype, strict=True)


def _kind(dtype: pl.DataType) -> str:
    return {"Boolean": "true/false", "String": "text", "Int64": "a whole number"}.get(str(dtype), "a number")


def _derived(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill what follows from the rest: g from N and N_base or back, flops = 6 N D, names of runs."""
    grown = pl.col("operator") != SCRATCH
    N, base = pl.col("n_params"), pl.col("base_params")
    return (
        frame.with_columns(pl.when(grown).then(base).alias("base_params"))
        .with_columns(
            growth_factor=pl.coalesce("growth_factor", pl.when(grown).then(N / base).otherwise(1.0)),
            base_params=pl.coalesce("base_params", pl.when(grown).then(N / pl.col("growth_factor"))),
            base_tokens=pl.coalesce("base_tokens", pl.when(~grown).then(0.0)),
            flops=pl.coalesce("flops", 6.0 * N * pl.col("tokens")),
            run=pl.coalesce("run", pl.format("row {}", pl.int_range(pl.len()))),
        )
        .with_columns(base=pl.coalesce("base", "run"))
    )


def _require_numbers(frame: pl.DataFrame, name: str) -> None:
    for column in (c for c, spec in COLUMNS.items() if spec.required):
        bad = frame.select(pl.col(column).is_null() | ~pl.col(column).is_finite()).to_series()
        if bad.any():
            row = bad.arg_max() or 0
            value = "empty" if frame[column][row] is None else frame[column][row]
            raise InputError(
                f"{name}, row {row + 1}: {column} is {value}: "
                "drop or mend the row (a diverged run is no point of a law)."
            )
    for column in POSITIVE:
        bad = frame[column].fill_null(1.0) <= 0
        if bad.any():
            row = bad.arg_max() or 0
            raise InputError(
                f"{name}, row {row + 1}: {column} is {frame[column][row]:g}, but must be above 0: mend the row."
            )


def _require_consistent_growth(frame: pl.DataFrame, name: str) -> None:
    """Scratch rows have g = 1; grown rows need g, N_base and D_base that agree."""
    grown = pl.col("operator") != SCRATCH
    rules = (
        (~grown & (pl.col("growth_factor") != 1), "is 'scratch' but has a growth factor: name its operator"),
        (~grown & (pl.col("base_tokens") != 0), "is 'scratch' but has base tokens: name its operator"),
        (grown & pl.col("growth_factor").is_null(), "is grown but has neither growth_factor nor base_params"),
        (grown & (pl.col("growth_factor") < 1), "has a growth factor below 1: growing never shrinks a model"),
        (
            grown & pl.col("base_tokens").is_null(),
            "is grown but has no base_tokens: give the tokens its base saw",
        ),
        (pl.col("base_tokens") < 0, "has negative base_tokens"),
        (
            grown & ((pl.col("base_params") * pl.col("growth_factor") / pl.col("n_params") - 1).abs() > 0.01),
            "has growth_factor x base_params off n_params by over 1 %: which parameters does each count?",
        ),
    )
    for broken, problem in rules:
        bad = frame.select(broken.fill_null(False).alias("bad")).to_series()
        if bad.any():
            raise InputError(f"{name}, row {(bad.arg_max() or 0) + 1} {problem}.")


def mixing_problems(frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """What this table mixes: (refusals, warnings).

    Losses read mid-run are not final losses of shorter runs, and counts of N that differ shift
    exponents (0.835 to 0.705 in N*(C) from the head alone, Porian et al. 2024): refused. Best-of
    rows beside all-of rows, and several sources, are biased in ways a law cannot see: warned.
    """
    refusals, warnings = [], []
    if (kinds := _values(frame, "annealed")) >= {True, False}:
        counts = frame["annealed"].value_counts()
        of = {bool(row[0]): row[1] for row in counts.iter_rows() if row[0] is not None}
        refusals.append(
            f"{of[True]} annealed and {of[False]} mid-run losses do not mix: keep one kind with "
            "--rows annealed or --rows mid-run."
        )
    elif None in kinds and len(kinds) > 1:
        warnings.append("some rows do not say whether their learning rate was annealed.")
    if len(_values(frame, "n_params_counts")) > 1:
        refusals.append("n_params counts all parameters in some rows and not in others: convert to one count.")
    if len(_values(frame, "base_cost_included")) > 1:
        refusals.append("flops include the base's training in some rows only: convert to one convention.")
    if len(kinds := _values(frame, "data") - {None}) > 1:
        names = ", ".join(sorted(map(str, kinds))[:3])
        refusals.append(f"losses on other data or in other tokens do not compare ({names}): fit each on its own.")
    if differing := [name for name in frame.columns if "." in name and _differs(frame, name)]:
        warnings.append(f"runs differ in {', '.join(differing[:4])}: a law takes them for runs of one recipe.")
    if several := _operators_of_several_arms(frame):
        warnings.append(f"{several[0]} was run with several settings (arm): choose with --where arm=...")
    if len(_values(frame, "selected")) > 1:
        warnings.append("best-of-several rows stand beside unselected ones: the first are biased low.")
    if len(_values(frame, "source") - {None}) > 1:
        warnings.append("rows come from several sources: data, tokenizer and tuning may differ.")
    return refusals, warnings


def refuse_mixing(frame: pl.DataFrame) -> list[str]:
    """Raise InputError on what must not mix; return the warnings for what may but should be known."""
    refusals, warnings = mixing_problems(frame)
    if refusals:
        raise InputError(refusals[0])
    return warnings


def keep_rows(frame: pl.DataFrame, rows: str) -> pl.DataFrame:
    """Only annealed or only mid-run rows; 'all' keeps the table as it is."""
    keep = {"annealed": pl.col("annealed"), "mid-run": ~pl.col("annealed"), "all": pl.lit(True)}
    if rows not in keep:
        raise InputError(f"'{rows}' is no kind of row: choose annealed, mid-run or all.")
    kept = frame if rows == "all" else frame.filter(keep[rows].fill_null(False))
    if kept.is_empty():
        raise InputError(f"no {rows} rows in the table: choose another --rows.")
    return kept


def keep_where(frame: pl.DataFrame, column: str, values: Sequence[str]) -> pl.DataFrame:
    """The rows whose column is one of these, numbers compared as numbers. Raises InputError where none is."""
    if column not in frame.columns:
        raise InputError(f"the table has no column {column!r}: {_meant(column, frame.columns)}")
    numbers = frame[column].dtype.is_numeric()
    if frame[column].dtype.is_nested():
        raise InputError(f"{column} holds more than one value a row: choose another column.")
    if frame[column].dtype == pl.Boolean:
        values = [value.lower() for value in values]
    cells = frame[column].cast(pl.Float64 if numbers else pl.String)
    try:
        wanted = pl.Series(values).cast(pl.Float64 if numbers else pl.String)
    except pl.exceptions.PolarsError:
        raise InputError(f"{column} holds numbers, and {', '.join(values)} are not all numbers.") from None
    kept = frame.filter(cells.is_in(wanted.implode()))
    if absent := [value for value, known in zip(values, wanted.is_in(cells.implode()), strict=True) if not known]:
        there = frame[column].drop_nulls().unique().sort().cast(pl.String).to_list()
        raise InputError(f"no row has {column} = {absent[0]}: {_meant(absent[0], there)}")
    return kept


def _meant(word: str, known: Sequence[str]) -> str:
    """What was probably meant, or what there is."""
    if near := get_close_matches(word, known, n=1):
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}."


def without_highest(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """The rows but for the `count` of highest loss, in their order."""
    return frame.filter(frame["loss"].rank("ordinal", descending=True) > count)


def thinned(frame: pl.DataFrame, per_run: int) -> pl.DataFrame:
    """At most `per_run` rows of every run, the nearest to even steps in ln tokens, first and last among them.

    Losses along one run share its luck, so intervals resample whole runs, and beyond some rows a run the next one
    tells nothing new: it only costs time, and gives runs that logged more often more weight.
    """
    x = pl.col("tokens").log()
    low, high = x.min().over("run"), x.max().over("run")
    place = ((x - low) / (high - low)).fill_nan(0.0) * (per_run - 1)
    marked = (
        frame.lazy().select("run", place.alias("place"), pl.len().over("run").alias("count")).with_row_index("row")
    )
    near = marked.with_columns(step=pl.col("place").round()).sort((pl.col("place") - pl.col("step")).abs())
    kept = pl.concat(
        [
            near.filter(pl.col("count") > per_run).unique(["run", "step"], keep="first", maintain_order=True),
            near.filter(pl.col("count") <= per_run),
        ]
    )
    return frame[kept.select("row").collect()["row"].sort()]


def _operators_of_several_arms(frame: pl.DataFrame) -> list[str]:
    """Operators that a sweep ran with more than one choice of settings."""
    if "arm" not in frame.columns:
        return []
    counts = frame.group_by("operator").agg(pl.col("arm").n_unique().alias("arms")).filter(pl.col("arms") > 1)
    return sorted(counts["operator"])


def _differs(frame: pl.DataFrame, setting: str) -> bool:
    """Whether runs differ in a setting; how a start was grown may follow from its operator, which laws know."""
    if not setting.startswith("start."):
        return len(_values(frame, setting)) > 1
    return any(len(_values(part, setting)) > 1 for _, part in frame.group_by("operator"))


def _values(frame: pl.DataFrame, column: str) -> set[object]:
    return set(frame[column].unique().to_list())
