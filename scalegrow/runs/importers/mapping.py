"""Which column, setting or name each column of the run table is read from, and why.

What the user said comes first, then what is called as the run table calls it, then what names and contents say.
What decides a law and cannot be seen (annealed, the base of a grown run) is never guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers import words
from scalegrow.runs.importers.logs import LOG, NAME, SETTING, Logs
from scalegrow.runs.importers.wishes import COUNTS, LAST, ROW, TARGETS, Wishes, constant
from scalegrow.runs.table import COLUMNS
from scalegrow.units import format_count, parse_count

BATCHES = ("global_batch_size", "global_train_batch_size")
LENGTHS = (
    "seq_len",
    "seq_length",
    "sequence_length",
    "max_seq_len",
    "max_seq_length",
    "block_size",
    "context_length",
)
MOST_SEQUENCES, MOST_TOKENS = 32768, 1e8  # of one batch: above what any published run had


@dataclass(frozen=True)
class Source:
    """Where a column comes from, as people read it, why, and its value over records and facts; roots it needs."""

    shown: str
    why: str
    value: pl.Expr
    factor: float = 1.0
    said: bool = False  # by the user, not guessed

    @property
    def roots(self) -> list[str]:
        """The columns that the value is computed from."""
        return self.value.meta.root_names()


Mapping = dict[str, Source]


def map_columns(logs: Logs, wishes: Wishes) -> Mapping:
    """A source for every column that something tells of. Raises InputError on what is said wrongly or tied."""
    mapping: Mapping = {}
    for column in TARGETS:
        source = said(logs, wishes, column) or same_name(logs, column)
        if source is None and column in GUESSES and not told_about(wishes, column):
            source = GUESSES[column](logs)
        if source is not None:
            mapping[column] = in_unit(source, column, wishes)
    for column, source in mapping.items():
        require_single(logs, column, source)
    if "tokens" not in mapping and not told_about(wishes, "tokens"):
        mapping |= {"tokens": product} if (product := tokens_from_steps(logs, mapping, wishes)) else {}
    return mapping


def require_single(logs: Logs, column: str, source: Source) -> None:
    """Raise InputError where two columns of a table have the name that is read: polars renames the later ones."""
    if twice := next((root for root in source.roots if f"{root}_duplicated_0" in logs.columns), None):
        raise InputError(
            f"two columns are called {twice}: rename one in the table, or read the second with --map "
            f"{column}={twice}_duplicated_0."
        )


def told_about(wishes: Wishes, column: str) -> bool:
    """Whether the table of facts by run has this column."""
    return wishes.about is not None and column in wishes.about.columns


def said(logs: Logs, wishes: Wishes, column: str) -> Source | None:
    """What --map or --set says of a column."""
    if name := wishes.columns.get(column):
        return replace(of_name(logs, column, name, "--map"), said=True)
    text = wishes.constants.get(column)
    if text is None or (column, text) in (("annealed", LAST), ("run", ROW)):
        return None if text is None else Source(text, "--set", pl.lit(None), said=True)
    return Source(text, "--set", pl.lit(constant(column, text)), said=True)


def of_name(logs: Logs, column: str, name: str, why: str) -> Source:
    """A record's column or a setting by its name. Raises InputError where there is none."""
    if name in logs.columns:
        return Source(name, why, typed(logs.records[name], pl.col(name), column))
    if name in logs.settings:
        values = logs.facts[SETTING + name]
        return Source(f"setting {name}", why, typed(values, pl.col(SETTING + name), column))
    there = ", ".join([*logs.columns, *logs.settings][:12])
    raise InputError(f"--map {column}={name}: these logs have no {name}; there are {there}.")


def typed(values: pl.Series, value: pl.Expr, column: str) -> pl.Expr:
    """The values as the column's type; sizes that are written as 124M are counted."""
    dtype = COLUMNS[column].dtype if column in COLUMNS else pl.Float64()
    if column in COUNTS and values.dtype == pl.String:
        return value.replace_strict(_counts(values, column), default=None, return_dtype=pl.Float64())
    if isinstance(dtype, pl.Boolean) and values.dtype == pl.String:
        return value.str.to_lowercase().replace_strict(_truths(values, column), return_dtype=pl.Boolean())
    return value.cast(dtype)


def _truths(values: pl.Series, column: str) -> dict[str | None, bool | None]:
    """Each different text as true or false. Raises InputError on one that is neither."""
    of: dict[str | None, bool | None] = {"true": True, "1": True, "false": False, "0": False, None: None}
    if strange := {*values.str.to_lowercase().unique()} - {*of}:
        raise InputError(f"{column} says {min(map(str, strange))!r}: write true or false.")
    return of


def _counts(values: pl.Series, column: str) -> dict[str, float]:
    """Each different text as a number. Raises InputError on one that is none."""
    found = {}
    for text in values.drop_nulls().unique().to_list():
        try:
            found[text] = parse_count(text) if float_or_none(text) is None else float(text)
        except InputError as error:
            raise InputError(f"{column} <- {values.name.removeprefix(SETTING)}: {error}.") from None
    return found


def float_or_none(text: str) -> float | None:
    """The number that a text is."""
    try:
        return float(text)
    except ValueError:
        return None


def same_name(logs: Logs, column: str) -> Source | None:
    """A record's column, or a setting, that is called as the run table calls it.

    A tracker's bare `loss` and `tokens` mean what that trainer meant, and are judged with the other names.
    """
    if column in logs.columns and (logs.many or column not in ("loss", "tokens", "run")):
        return of_name(logs, column, column, "the name")
    if column in logs.settings and column not in ("loss", "tokens", "run", "step", "lr", "source", "data"):
        return of_name(logs, column, column, "the name")
    return None


def in_unit(source: Source, column: str, wishes: Wishes) -> Source:
    """The source times the unit that was said, or that its name says."""
    if column not in wishes.units:
        named = words.unit_in(source.shown) if column in COUNTS and source.why not in ("--set", IN_NAME) else 1.0
        if named == 1.0:
            return source
        times = f"{source.why}; x {named:g} by the name"
        return replace(source, why=times, value=source.value * named, factor=named)
    if column == "loss" and wishes.units["loss"] == "perplexity":
        return replace(source, why=f"{source.why}; log of perplexity", value=source.value.log(), said=True)
    factor = wishes.factor(column) or 1.0
    times = f"{source.why}; x {factor:g} by --unit"
    return replace(source, why=times, value=source.value * factor if factor != 1 else source.value, factor=factor)


def guess_loss(logs: Logs) -> Source | None:
    """A held-out loss before a training loss; a tie is asked about."""
    ranked = [(rank, name) for name in numeric(logs) if (rank := rank_of(logs, name))]
    if not ranked:
        return None
    best = min(rank for rank, _ in ranked)
    name = only("loss", [name for rank, name in ranked if rank == best], logs)
    why = {0: "held-out loss by the name", 1: "the name", 2: "a TRAINING loss: no held-out one is here"}[best[0]]
    return of_name(logs, "loss", name, why)


def rank_of(logs: Logs, name: str) -> tuple[int, int] | None:
    """How well a column of these logs says held-out loss."""
    if logs.many and name == "L":
        return 1, 0
    return words.rank_of_loss(name, bare_is_final=logs.many)


def guess_tokens(logs: Logs) -> Source | None:
    """Tokens by name among the columns that never fall within a log."""
    found = [name for name in numeric(logs) if words.says_tokens(name) or (logs.many and name == "D")]
    if len(found) > 1:
        found = [name for name in found if rises(logs, name)] or found
    return of_name(logs, "tokens", only("tokens", found, logs), "the name") if found else None


def rises(logs: Logs, name: str) -> bool:
    """Whether a column never falls within one log, and is no constant; of tables runs are not known yet."""
    if logs.many:
        return True
    seen = logs.records.select(LOG, pl.col(name).cast(pl.Float64)).drop_nulls()
    falls = seen.select((pl.col(name).diff() < 0).over(LOG).any()).item()
    return not falls and seen[name].n_unique() > 1


def guess_params(logs: Logs) -> Source | None:
    """N by the name of a column or setting, else by the size in the names of files or runs."""
    for names in (logs.columns, logs.settings):
        found = [name for name in names if words.says_params(name) == "n_params" or (logs.many and name == "N")]
        if found:
            return of_name(logs, "n_params", only("n_params", found, logs), "the name")
    return sizes_in_names(logs)


IN_NAME = "size in the name"


def sizes_in_names(logs: Logs) -> Source | None:
    """The one size in each name of a run, or where a table has many runs each value of its run column."""
    run = guess_run(logs)
    column = NAME if run is None else run.roots[0]
    names = (logs.facts if run is None else logs.records)[column].cast(pl.String).unique().drop_nulls().to_list()
    told = {name: words.told_by(name).n_params for name in names}
    if not told or any(len({*sizes.values()}) != 1 for sizes in told.values()):
        return None
    of = {name: next(iter(sizes.values())) for name, sizes in told.items()}
    shown = ", ".join(dict.fromkeys(piece for sizes in told.values() for piece in sizes))
    text = pl.col(column).cast(pl.String)
    return Source(shown, IN_NAME, text.replace_strict(of, default=None, return_dtype=pl.Float64()))


def guess_non_embedding(logs: Logs) -> Source | None:
    """N without embeddings, by name."""
    names = [*logs.columns, *logs.settings]
    found = [name for name in names if words.says_params(name) == "n_params_non_embedding"]
    return of_name(logs, "n_params_non_embedding", found[0], "the name") if len(found) == 1 else None


def guess_flops(logs: Logs) -> Source | None:
    """FLOPs so far by name; FLOPs per second are none."""
    found = [name for name in numeric(logs) if words.says_flops(name) or (logs.many and name == "C")]
    return of_name(logs, "flops", found[0], "the name") if len(found) == 1 else None


def guess_run(logs: Logs) -> Source | None:
    """A table's column that names runs; of other logs each is a run."""
    if not logs.many:
        return None
    lower = {name: words.words(name) for name in logs.columns}
    found = [name for known in words.RUNS for name, said_words in lower.items() if said_words == known]
    return of_name(logs, "run", found[0], "the name") if found else None


def guess_step(logs: Logs) -> Source | None:
    """The optimiser's step: global_step before step before iter, and a tracker's own counter last."""
    for counter in (False, True):
        for known in words.STEPS:
            for name in numeric(logs):
                said_words = [w for w in words.words(name) if w not in words.TRAIN]
                if said_words == known and counts_calls(logs, name) == counter:
                    return of_name(logs, "step", name, "calls of log, by the name" if counter else "the name")
    return None


def counts_calls(logs: Logs, name: str) -> bool:
    """Whether a column counts calls of the tracker's log, which need not be steps of the optimiser."""
    return name == "_step" or (name == "step" and logs.kind == "trackio runs")


def guess_tokens_per_step(logs: Logs) -> Source | None:
    """Tokens of a step by name, or the global batch times the length of a sequence."""
    for name in (*numeric(logs), *logs.settings):
        if words.says_tokens_per_step(name):
            return of_name(logs, "tokens_per_step", name, "the name")
    last = {name.rpartition(".")[2]: name for name in logs.settings}
    batch, length = (next((last[n] for n in names if n in last), None) for names in (BATCHES, LENGTHS))
    if batch is None or length is None or _in_tokens(logs, batch, length):
        return None
    pair = [of_name(logs, "tokens_per_step", name, "") for name in (batch, length)]
    shown = " x ".join(source.shown for source in pair)
    return Source(shown, "global batch x length", reduce(lambda a, b: a * b, [s.value for s in pair]))


def _in_tokens(logs: Logs, batch: str, length: str) -> bool:
    """Whether a batch is too large to count sequences, as where a trainer counts it in tokens."""
    sequences, tokens = (
        pl.Series(logs.facts[SETTING + name]).cast(pl.Float64, strict=False) for name in (batch, length)
    )
    return bool(((sequences > MOST_SEQUENCES) | (sequences * tokens > MOST_TOKENS)).any())


def guess_rate(logs: Logs) -> Source | None:
    """The learning rate, which says whether a loss can be annealed."""
    found = [name for name in numeric(logs) if words.says_rate(name)]
    return of_name(logs, "lr", found[0], "the name") if found else None


GUESSES: dict[str, Callable[[Logs], Source | None]] = {
    "run": guess_run,
    "n_params": guess_params,
    "n_params_non_embedding": guess_non_embedding,
    "tokens": guess_tokens,
    "flops": guess_flops,
    "loss": guess_loss,
    "step": guess_step,
    "tokens_per_step": guess_tokens_per_step,
    "lr": guess_rate,
}


def tokens_from_steps(logs: Logs, mapping: Mapping, wishes: Wishes) -> Source | None:
    """Tokens = step x tokens of a step, where both are known; of calls that were counted only as the user says."""
    if not {"step", "tokens_per_step"} <= {*mapping}:
        return None
    step, each = mapping["step"], mapping["tokens_per_step"]
    if counts_calls(logs, step.shown) and not (step.said or each.said):
        return None
    product = Source(f"{step.shown} x {each.shown}", "step x tokens of a step", step.value * each.value)
    return in_unit(product, "tokens", wishes) if "tokens" in wishes.units else product


def numeric(logs: Logs) -> list[str]:
    """The columns of numbers, and of texts whose first is a number (trackers write NaN as text)."""
    return [name for name in logs.columns if _holds_numbers(logs.records[name])]


def _holds_numbers(values: pl.Series) -> bool:
    if values.dtype.is_numeric():
        return True
    if values.dtype != pl.String or (first := values.first(ignore_nulls=True)) is None:
        return False
    return float_or_none(str(first)) is not None


def only(column: str, names: Sequence[str], logs: Logs) -> str:
    """The one name, or the first of columns that hold the same. Raises InputError where they differ."""
    held: list[Any] = [logs.records[n] if n in logs.columns else logs.facts[SETTING + n] for n in names]
    if all(held[0].rename("").equals(other.rename("")) for other in held[1:]):
        return names[0]
    both = " and ".join(names[:3])
    raise InputError(f"{both} all look like {column}: say which, --map {column}={names[0]!r}.")


def describe(mapping: Mapping) -> list[tuple[str, str, str]]:
    """(column, source, why) as they are shown."""
    return [(column, source.shown, source.why) for column, source in mapping.items()]


def sized(value: float) -> str:
    """A number as it is written in messages."""
    return format_count(value) if value > 0 else f"{value:g}"
