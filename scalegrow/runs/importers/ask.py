"""What no log tells and no one may guess: asked for, in one line that names the option."""

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers import words
from scalegrow.runs.importers.logs import NAME, SETTING, Logs
from scalegrow.runs.importers.mapping import IN_NAME, Mapping, counts_calls, numeric
from scalegrow.runs.importers.wishes import Wishes

BATCH_WORDS = {"batch", "accumulation", "seq", "block", "context", "length", "world"}
DECAYED = 0.1  # of its peak: below, a learning rate has fallen as schedules end


def ask_for_missing(logs: Logs, mapping: Mapping, wishes: Wishes) -> None:
    """Raise InputError for the first thing that a run table needs and these logs do not tell."""
    known = {*mapping, *(wishes.about.columns if wishes.about is not None else ())}
    for column, question in QUESTIONS.items():
        if column not in known and (text := question(logs, mapping)):
            raise InputError(text)
    _ask_for_run(logs, mapping, wishes)


def _loss(logs: Logs, mapping: Mapping) -> str:
    unfit = {name: kind for name in numeric(logs) if (kind := words.unfit_loss(name))}
    if unfit:
        name, kind = next(iter(unfit.items()))
        per_byte = " (per byte: --unit loss=NUMBER, ln 2 times the bytes of a token)" if kind == "bits" else ""
        told = f"--map loss={name} --unit loss={kind}{per_byte}"
        return f"no loss in nats, but {name} looks like {kind}: say {told}."
    return f"which column is the held-out loss? say --map loss=COLUMN, of {_names(logs)}."


def _tokens(logs: Logs, mapping: Mapping) -> str:
    if "step" not in mapping:
        return f"which column counts tokens? say --map tokens=COLUMN, of {_names(logs)}."
    counted = mapping["step"].shown
    if counts_calls(logs, counted):
        counted += ", which counts calls of log and need not be the optimiser's step,"
    batch = [name for name in logs.settings if {*words.words(name)} & BATCH_WORDS][:4]
    told = ", ".join(f"{name} = {logs.facts[SETTING + name].drop_nulls().to_list()[0]}" for name in batch)
    hint = f" (settings: {told})" if told else ""
    return (
        f"no column counts tokens, and the steps are {counted.rstrip(',')}: of how many tokens is a step? "
        f"say --set tokens_per_step=524288, or --map tokens=COLUMN{hint}."
    )


def _params(logs: Logs, mapping: Mapping) -> str:
    names = [*logs.columns, *logs.settings]
    other = next((name for name in names if words.says_params(name) == "n_params_non_embedding"), None)
    hint = (
        f" ({other} leaves embeddings out: --map n_params={other} --set n_params_counts=non_embedding)"
        if other
        else ""
    )
    return (
        "how many parameters? no column, setting or name of a run tells: say --set n_params=124M, "
        f"--map n_params=COLUMN, or --about runs.csv with columns run,n_params{hint}."
    )


def _operator(logs: Logs, mapping: Mapping) -> str | None:
    """A question where names or settings hint at growth; from scratch otherwise."""
    for name in (name for name in logs.settings if name.lower().endswith(words.STARTS)):
        values = logs.facts[SETTING + name].drop_nulls().cast(pl.String).unique()
        if started := [
            value for value in values if value.lower() not in ("", "none", "scratch", "false", "random")
        ]:
            return f"a run started from {started[0]} (setting {name}): {GROWN}"
    runs = mapping["run"].roots if "run" in mapping else []
    places = [logs.facts[NAME], *(logs.records[root] for root in runs if root in logs.columns)]
    for name in (name for place in places for name in place.cast(pl.String).unique().drop_nulls()):
        if words.GROWN.search(name.lower()):
            return f"run {name} sounds grown: {GROWN}"
    return None


GROWN = (
    "was it? say --set operator=scratch, or how: --set operator=NAME --set base=RUN (base_params and base_tokens "
    "follow where the base is among these runs); for some runs only, --about runs.csv with columns "
    "run,operator,base."
)


def _annealed(logs: Logs, mapping: Mapping) -> str:
    return (
        "was the learning rate decayed to its end? a loss read mid-run is no final one: say --set "
        "annealed=last (each "
        f"run's last loss is, the others are mid-run), true or false{_rates(logs, mapping)}."
    )


def _rates(logs: Logs, mapping: Mapping) -> str:
    """What the logged rates show, which is a hint and no answer."""
    if "lr" not in mapping or logs.many:
        return ""
    rates = logs.joined(mapping["lr"].roots).select("__log", mapping["lr"].value.alias("lr")).drop_nulls()
    ends = rates.group_by("__log").agg((pl.col("lr").last() / pl.col("lr").max()).alias("share"))
    fell = ends.filter(pl.col("share") < DECAYED).height
    return f" (the logged rate of {fell} of {ends.height} runs ends below {DECAYED:.0%} of its peak)"


QUESTIONS = {"loss": _loss, "tokens": _tokens, "n_params": _params, "operator": _operator, "annealed": _annealed}


def _ask_for_run(logs: Logs, mapping: Mapping, wishes: Wishes) -> None:
    """A table without a column of runs: one run, unless sizes differ in it."""
    if not logs.many or "run" in mapping or mapping.get("n_params") is None or mapping["n_params"].why == IN_NAME:
        return
    frame = logs.joined(mapping["n_params"].roots).select("__log", mapping["n_params"].value.alias("N"))
    if frame.select(pl.struct("__log", "N").n_unique()).item() > logs.facts.height:
        raise InputError(
            "which rows are of one run? sizes differ in one table: say --map run=COLUMN, or --set run=row "
            "where every "
            "row is a run of its own (intervals resample runs, not rows)."
        )


def _names(logs: Logs) -> str:
    return ", ".join(numeric(logs)[:12]) or "which none holds numbers"
