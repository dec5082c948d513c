"""From logs and a mapping to the run table: one row for every held-out loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.logs import FILE, LOG, NAME, Logs
from scalegrow.runs.importers.mapping import Mapping, Source
from scalegrow.runs.importers.wishes import COUNTS, LAST, ROW, Wishes
from scalegrow.runs.table import COLUMNS, SCRATCH

ORDER = "__order"
SAME = 0.01  # of two counts of one model's parameters
RATE_LEFT = "lr_of_peak"  # share of the run's highest learning rate
TRACE = ("step", "lr", RATE_LEFT)  # kept beside the run table's columns, where known


@dataclass(frozen=True)
class Built:
    """The run table, unchecked by law, and lines that say what was done beyond reading."""

    table: pl.DataFrame
    notes: tuple[str, ...]


def build(logs: Logs, mapping: Mapping, wishes: Wishes) -> Built:
    """Rows of the run table in the order of each run. Raises InputError on what cannot be read as mapped."""
    frame = evaluate(logs, mapping)
    notes: list[str] = []
    if "step" in mapping:
        frame = frame.sort("run_number", "step", maintain_order=True, nulls_last=True)
        frame = same_step(frame, notes)
    frame = with_rates(without_tokens(frame, mapping.get("annealed"), notes), settings=logs.many)
    frame = before_training(frame.filter(pl.col("loss").is_not_null()), notes)
    if frame.is_empty():
        raise InputError(f"{mapping['loss'].shown} holds no loss: map another column with --map loss=COLUMN.")
    frame = with_facts(frame, wishes)
    frame = annealed(frame, mapping.get("annealed"))
    say_rates_stand(frame, notes)
    frame = from_base(frame, notes)
    return Built(in_order(frame), tuple(notes))


def evaluate(logs: Logs, mapping: Mapping) -> pl.DataFrame:
    """Every mapped column over every record, of the run table's types, and run, run_number and file."""
    roots = {root for source in mapping.values() for root in source.roots}
    frame = logs.joined([*roots, NAME, FILE])
    values = {
        column: source.value.cast(COLUMNS[column].dtype if column in COLUMNS else pl.Float64())
        for column, source in mapping.items()
        if column not in ("run", "tokens_per_step")
    }
    values.setdefault("tokens", pl.lit(None, dtype=pl.Float64()))
    values["run"] = run_of(mapping.get("run"), logs)
    values["file"] = pl.col(FILE)
    values.setdefault("source", pl.lit(logs.kind))
    try:
        made = frame.lazy().select(**values).collect()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{unreadable(frame, values, mapping) or str(error).splitlines()[0]}.") from None
    number = pl.col("run").cast(pl.Categorical).to_physical().alias("run_number")
    return made.with_columns(number)


def run_of(source: Source | None, logs: Logs) -> pl.Expr:
    """The name of each record's run; several tables' runs are told apart by the table."""
    if source is None:
        return pl.col(NAME)
    text = pl.format("row {}", pl.int_range(1, pl.len() + 1).over(LOG)) if source.shown == ROW else source.value
    text = text.cast(pl.String)
    return text if logs.facts.height == 1 else pl.format("{} {}", pl.col(NAME), text)


def unreadable(frame: pl.DataFrame, values: dict[str, pl.Expr], mapping: Mapping) -> str | None:
    """The first column that cannot be computed, and what it is read from."""
    for column, value in values.items():
        try:
            frame.select(value)
        except pl.exceptions.PolarsError:
            kind = "true/false" if column == "annealed" else "numbers"
            return (
                f"{column} <- {mapping[column].shown} does not hold {kind}: map another with --map {column}=COLUMN"
            )
    return None


def same_step(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Losses and tokens that were logged apart, brought together by the step; tokens in between interpolated."""
    lacks = pl.col("loss").is_not_null() & pl.col("tokens").is_null()
    if not frame.select(lacks.any()).item():
        return frame
    here = pl.col("tokens").drop_nulls().last().over("run_number", "step")
    frame = frame.with_columns(tokens=pl.coalesce("tokens", here))
    between = frame.select(lacks.sum()).item()
    if between:
        line = pl.col("tokens").interpolate_by("step").over("run_number")
        frame = frame.with_columns(tokens=pl.coalesce("tokens", line))
        left = frame.select(lacks.sum()).item()
        if between > left:
            notes.append(f"tokens of {between - left} losses lie between two counts: interpolated by the step")
    return frame


def with_rates(frame: pl.DataFrame, *, settings: bool) -> pl.DataFrame:
    """The learning rate logged last before each record, and its share of the run's highest.

    settings: true of tables, whose one rate beside every row of a run may be the peak that was chosen.
    """
    if "lr" not in frame.columns:
        return frame
    frame = frame.with_columns(pl.col("lr").fill_nan(None))
    rate = pl.col("lr").forward_fill().over("run_number")
    varies = pl.col("lr").min().over("run_number") < pl.col("lr").max().over("run_number")
    share = pl.when(varies | (not settings)).then(rate / pl.col("lr").max().over("run_number"))
    return frame.with_columns(share.alias(RATE_LEFT), lr=rate)


def without_tokens(frame: pl.DataFrame, source: Source | None, notes: list[str]) -> pl.DataFrame:
    """The frame without losses whose tokens no record tells, said in a line.

    Raises InputError where one is its run's last, of which the user said that it is the annealed one.
    """
    lacks = pl.col("loss").is_not_null() & pl.col("tokens").is_null()
    if source is not None and source.shown == LAST:
        losses = frame.filter(pl.col("loss").is_not_null())
        ends = losses.group_by("run_number", maintain_order=True).agg(
            pl.col("run", "file", "tokens", "loss").last()
        )
        if not (torn := ends.filter(pl.col("tokens").is_null())).is_empty():
            row = torn.row(0, named=True)
            raise InputError(
                f"{row['file']}, run {row['run']}: its last loss, {row['loss']:.6g}, has no count of tokens, and "
                "another would pass for the annealed one: say --set tokens_per_step=N, or --set annealed=false."
            )
    if count := frame.select(lacks.sum()).item():
        notes.append(f"{count} losses without a count of tokens are left out")
    return frame.filter(~lacks)


def before_training(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The frame without losses at 0 tokens, which no law is about, said in a line."""
    if count := frame.select((pl.col("tokens") == 0).sum()).item():
        notes.append(f"{count} losses at 0 tokens, before training, are left out")
    return frame.filter(pl.col("tokens") != 0)


def with_facts(frame: pl.DataFrame, wishes: Wishes) -> pl.DataFrame:
    """The facts of --about in place of what was read. Raises InputError on a run that it does not tell of."""
    if wishes.about is None:
        return frame
    runs = frame["run"].unique()
    if absent := sorted({*runs} - {*wishes.about["run"]}):
        raise InputError(f"--about has no row for run {absent[0]}: add one.")
    facts = [name for name in wishes.about.columns if name != "run"]
    frame = frame.drop([name for name in facts if name in frame.columns])
    units = {name: factor for name in facts if name in COUNTS and (factor := wishes.factor(name))}
    about = wishes.about.with_columns(pl.col(name) * factor for name, factor in units.items())
    return frame.join(about, on="run", how="left", maintain_order="left")


def annealed(frame: pl.DataFrame, source: Source | None) -> pl.DataFrame:
    """annealed=last: the loss at the most tokens of every run is, the others are not."""
    if source is None or source.shown != LAST or "annealed" not in frame.columns:
        return frame
    return frame.with_columns(annealed=pl.col("tokens") == pl.col("tokens").max().over("run_number"))


def say_rates_stand(frame: pl.DataFrame, notes: list[str]) -> None:
    """A line where annealed losses have one rate throughout, which in a table may be the peak that was set."""
    if not {"annealed", RATE_LEFT} <= {*frame.columns}:
        return
    stands = frame.filter(pl.len().over("run_number") > 1, pl.col("annealed") & pl.col("lr").is_not_null())
    stands = stands.filter(pl.col(RATE_LEFT).is_null())
    if names := stands["run"].unique(maintain_order=True).to_list():
        notes.append(
            f"the learning rate of {len(names)} runs ({names[0]}, ..) is one number throughout: taken for the "
            "peak that was set; if it is the rate at each loss, those runs are not annealed (--set annealed=false)"
        )


def from_base(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """N and tokens of the base, where it is one of these runs and they were not told."""
    if "base" not in frame.columns:
        return frame
    last = pl.col("tokens").max()
    bases = frame.group_by("run").agg(pl.col("n_params").last().alias("_params"), last.alias("_tokens"))
    bases = bases.rename({"run": "base"})
    frame = frame.join(bases, on="base", how="left", maintain_order="left")
    grown = pl.col("operator") != SCRATCH
    if not (own := frame.filter(grown & (pl.col("base") == pl.col("run")))).is_empty():
        raise InputError(f"run {own['run'][0]} is grown and its own base: name the run that it grew from.")
    frame = _as_told(frame, grown)
    for column, found in (("base_params", "_params"), ("base_tokens", "_tokens")):
        told = pl.col(column) if column in frame.columns else pl.lit(None, dtype=pl.Float64())
        frame = frame.with_columns(pl.coalesce(told, pl.when(grown).then(pl.col(found))).alias(column))
    if used := frame.filter(grown & pl.col("_params").is_not_null())["base"].unique().sort().to_list():
        notes.append(f"parameters and tokens of the base are those of {', '.join(used[:4])}, at its end")
    return frame.drop("_params", "_tokens")


def _as_told(frame: pl.DataFrame, grown: pl.Expr) -> pl.DataFrame:
    """The frame. Raises InputError where what was told of a base is not what its own run says."""
    if "base_params" in frame.columns:
        off = (pl.col("base_params") / pl.col("_params") - 1).abs() > SAME
        if not (wrong := frame.filter(grown & off)).is_empty():
            row = wrong.row(0, named=True)
            raise InputError(
                f"run {row['run']}: base_params is {row['base_params']:.6g}, but its base {row['base']} has "
                f"{row['_params']:.6g}: leave base_params out, or name another base."
            )
    return frame


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """The run table's columns in their order, then file and what was kept beside."""
    kept = [name for name in COLUMNS if name in frame.columns]
    trace = [name for name in TRACE if name in frame.columns]
    return frame.select(*kept, "file", *trace)


def without(table: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The table but for the runs of these names; * stands for anything. Raises InputError where none is so."""
    runs = table["run"].unique(maintain_order=True).to_list()
    meant = {
        name: [run for run in runs if run is not None and (run == name or fnmatchcase(run, name))]
        for name in names
    }
    for name, found in meant.items():
        if not found:
            there = ", ".join(str(run) for run in runs[:8])
            raise InputError(f"--without {name}: no run is called so; there are {there}.")
    dropped = {run for found in meant.values() for run in found}
    if len(dropped) == len(runs):
        raise InputError(f"--without {' --without '.join(names)} leaves no run: name fewer.")
    return table.filter(~pl.col("run").is_in([*dropped], nulls_equal=True)) if dropped else table
