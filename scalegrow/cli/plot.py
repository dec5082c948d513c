"""`scalegrow plot KIND`: from words to frames, to a chart, to a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from scalegrow.cli.data import chosen_rows
from scalegrow.cli.predict import Words, asked, load_fit
from scalegrow.cli.render import note
from scalegrow.laws.fitted import Fit
from scalegrow.plan.decide import Decision, decide
from scalegrow.plots import factor, loss, map, saving
from scalegrow.plots.caption import Caption
from scalegrow.plots.save import require_drawable, save
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import keep_rows
from scalegrow.units import parse_count

FITTED_TO = {
    "warmstart": ("warmstart_2605_13405_digitised", "annealed"),
    "chinchilla": ("chinchilla_epoch", "all"),
}  # the shipped fits, and the rows that they were fitted to


@dataclass(frozen=True)
class Asked:
    """A question about a fit: its words, the fit's name, the level of intervals, and where the chart goes."""

    words: Words
    fit: str
    level: float
    out: Path

    def decided(self) -> tuple[Fit, Decision]:
        """The fit and its decision. Raises InputError, at once where the file cannot be drawn."""
        require_drawable(self.out)
        fit = load_fit(self.fit)
        return fit, decide(fit, asked(fit, self.words)[1], self.level)


@dataclass(frozen=True)
class Runs:
    """Measured runs to draw beside curves: a table's name or path, which rows, and --where."""

    table: str | None
    rows: str | None
    where: list[str]

    def load(self, fit: str) -> pl.DataFrame | None:
        """The rows; without a table those that a shipped fit rests on, or none."""
        name, rows = (self.table, "all") if self.table else FITTED_TO.get(fit, (None, "all"))
        return keep_rows(chosen_rows(load_table(name), self.where), self.rows or rows) if name else None


def draw(chart: Any, caption: Caption, out: Path) -> None:
    """Write the chart under its caption, and say so."""
    from scalegrow.plots.theme import finished

    save(finished(chart, caption), out)
    note(f"{out}: {caption.title}. {caption.range}")


def decision_map(question: Asked, held: str) -> None:
    """`plot map`."""
    fit, decision = question.decided()
    drawn = map.decision_map(fit, decision, held)
    draw(map.chart(drawn, question.level), map.caption(question.fit, fit, decision, held), question.out)


def loss_curves(question: Asked, sizes: Sequence[str], runs: Runs) -> None:
    """`plot loss`: of the question, where the fit is of a joint law and no sizes are given."""
    require_drawable(question.out)
    fit = load_fit(question.fit)
    table = runs.load(question.fit)
    if fit.law.form.joint and not sizes:
        decision = question.decided()[1]
        drawn = loss.of_question(fit, decision, table)
    else:
        decision = None
        chosen = [parse_count(size) for size in sizes] or loss.sizes_of(fit)
        drawn = loss.of_sizes(fit, chosen, table, question.level)
    caption = loss.caption(question.fit, fit, question.level, drawn, decision)
    draw(loss.chart(drawn, decision), caption, question.out)


def factor_curves(question: Asked) -> None:
    """`plot factor`."""
    fit, decision = question.decided()
    drawn = factor.factor_curves(fit, decision)
    draw(factor.chart(drawn, decision), factor.caption(question.fit, fit, decision, drawn), question.out)


def savings(question: Asked, modes: Sequence[str]) -> None:
    """`plot saving`."""
    fit, decision = question.decided()
    drawn = saving.savings(fit, decision, modes or saving.MODES)
    draw(saving.chart(drawn), saving.caption(question.fit, fit, decision, drawn), question.out)
