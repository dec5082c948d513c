"""`scalegrow select`: which warm start to take from a checkpoint, by a study and by a probe of the checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import typer

from scalegrow.cli.data import chosen_rows
from scalegrow.cli.probe import ranking
from scalegrow.cli.render import EXIT_OUTSIDE, note, print_json
from scalegrow.cli.select_question import Answer, Asked, Pool, Question, pool_of, require_studied, understood
from scalegrow.cli.select_shown import as_data, effects_data, show, show_effects, weightless
from scalegrow.errors import InputError
from scalegrow.laws.forecast import require_level
from scalegrow.plan.outcomes import outcomes
from scalegrow.plan.select import REFERENCE
from scalegrow.plan.selection import Selection, read_selection, write_selection
from scalegrow.runs.shipped import given_or, load_table, shipped_choice
from scalegrow.runs.table import SCRATCH

if TYPE_CHECKING:
    from scalegrow.train.ranking import Ranking


def one_of(checkpoint: Path | None, runs: str | None, where: list[str] | None, out: Path | None) -> None:
    """Raise InputError unless there is a checkpoint to choose for, or a study to fit."""
    if (checkpoint is None) == (runs is None):
        raise InputError("give a checkpoint to choose for, or --runs TABLE to fit a study of your own.")
    if checkpoint and (where or out):
        raise InputError("--where and --out are for a study that is fitted: give them beside --runs.")


def load_selection(name: str) -> Selection:
    """A fitted study by path, or the shipped one by name. Raises InputError."""
    return read_selection(given_or(name, shipped_choice))


def fit(runs: str, where: list[str], out: Path | None, *, as_json: bool) -> None:
    """Fit a study's run table, keep it where told, and print the effects."""
    table = load_table(runs)
    rows = chosen_rows(table, where)
    selection = Selection.fit(outcomes(rows, bases=table))
    note_if_fewer(rows, selection)
    if out:
        write_selection(selection, out)
    if as_json:
        print_json(effects_data(selection))
    else:
        show_effects(selection)


def note_if_fewer(rows: pl.DataFrame, selection: Selection) -> None:
    """A note where grown runs of the table are not in the study."""
    grown = rows.filter(pl.col("operator") != SCRATCH, pl.col("annealed"))["run"].n_unique()
    if left_out := grown - selection.effects.n_runs:
        note(
            f"note: of {grown} grown runs {left_out} are left out: their base, its seed or {REFERENCE} from it at "
            "the same budget is not in the table."
        )


def run(
    study: str,
    question: Question,
    regime: dict[str, Any],
    cache: Path | None,
    device: str | None,
    *,
    probing: bool,
    as_json: bool,
    strict: bool,
) -> None:
    """Probe, combine with the study, print."""
    require_level(question.level)
    selection = load_selection(study)
    asked = understood(question, regime)
    require_studied(selection, asked, probing=probing)
    pool = pool_of(selection, question, asked)
    if probing and not selection.links[asked.regime.lag].trust:
        note(weightless(selection.links[asked.regime.lag]))
    found = probed(question, asked, pool, cache, device) if probing else None
    lag, names = asked.regime.lag, pool.names
    choice = selection.choose(names, asked.setting, losses(found, names), lag, question.level)
    answer = Answer(asked, pool, choice, found)
    if as_json:
        print_json(as_data(study, selection, answer, question))
    else:
        show(study, selection, answer, question)
    if strict and any(ratio != 1 for ratio in selection.times_outside(asked.setting, asked.N).values()):
        raise typer.Exit(EXIT_OUTSIDE)


def probed(question: Question, asked: Asked, pool: Pool, cache: Path | None, device: str | None) -> "Ranking":
    """Every known candidate, probed; one that cannot be trained leaves the pool's known for its refused."""
    found = ranking(question.checkpoint, question.target, tuple(pool.known), asked.regime, cache, device)
    for each in found.refused:
        pool.refused[each.candidate.name] = each.reason
        del pool.known[each.candidate]
    return found


def losses(found: "Ranking | None", names: dict[str, str]) -> list[float] | None:
    """The mean probe loss of each candidate, in this order."""
    if not found:
        return None
    by_name = {each.candidate.name: each.mean(lambda run: run.loss).value for each in found.candidates}
    return [by_name[name] for name in names]
