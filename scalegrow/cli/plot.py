"""`scalegrow plot KIND`: from words to frames, to a chart, to a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scalegrow.budget import Budget
from scalegrow.cli.data import Choice, chosen_rows
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.predict import Words, asked, load_fit
from scalegrow.cli.recommend import candidates_for, setting_of
from scalegrow.cli.render import note
from scalegrow.cli.select import load_selection
from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fitted import Fit
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import SCRATCH
from scalegrow.laws.validate import require_scheme, validate
from scalegrow.plan.decide import Decision, decide
from scalegrow.plan.outcomes import STOCHASTIC
from scalegrow.plan.select import DOMAIN, Setting
from scalegrow.plan.selection import Selection
from scalegrow.plots import factor, gamma, holdout, isoflop, loss, map, operators, profile, residuals, saving
from scalegrow.plots.caption import Caption
from scalegrow.plots.save import require_drawable, save
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import keep_rows
from scalegrow.units import parse_count

FIT = "warmstart"  # whose first operator stands for growing, where sizes alone matter
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


def loss_curves(question: Asked, sizes: Sequence[str], runs: Runs, *, grows: bool) -> None:
    """`plot loss`: of the question, where the fit is of a joint law and no sizes are given.

    grows: whether a growth was asked for. Raises InputError where the fit knows none.
    """
    require_drawable(question.out)
    fit = load_fit(question.fit)
    if not fit.law.form.joint and grows:
        raise InputError(
            f"{question.fit} knows no grown runs: give models from scratch, --size 200M, or another --fit."
        )
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


def ranking(words: Words | None, study: str, level: float, out: Path) -> None:
    """`plot operators`: at a question, or without one at the middle of the study, among all of its candidates."""
    require_drawable(out)
    selection = load_selection(study)
    if words is None:
        growth, (setting, N) = None, middle(selection)
    else:
        growth, question = asked(load_fit(FIT), words)
        setting, N = setting_of(question), question.N
    choices = {}
    for regime in selection.regimes:
        there = replace(setting, stochastic=regime == STOCHASTIC)
        names = candidates_for(selection, growth, there)
        choices[regime] = selection.choose(names, there, None, 1, level)
    outside = selection.times_outside(setting, N)
    caption = operators.caption(study, selection, setting, outside, level)
    draw(operators.chart(operators.ranking(choices)), caption, out)


def middle(selection: Selection) -> tuple[Setting, float]:
    """The geometric means of what a study's runs span: a setting, and N."""
    N, tpp, g, base = (float(np.sqrt(np.prod(selection.effects.domain[name]))) for name in DOMAIN)
    return Setting(False, tpp, base, g), N


def gamma_curves(law: str, size: str | None, budgets: Sequence[str], level: float, out: Path) -> None:
    """`plot gamma`: at a size and budgets, or at those of the law's runs."""
    require_drawable(out)
    found = load_gamma(law)
    N = parse_count(size) if size else gamma.middle_size(found)
    asked_for = [Budget.parse(each).tpp(N) for each in budgets] or gamma.budgets_of(found)
    drawn = gamma.gamma_curves(found, N, asked_for, level)
    draw(gamma.chart(drawn), gamma.caption(law, found, N, drawn, level), out)


def parabolas(choice: Choice, out: Path) -> None:
    """`plot isoflop`: of the runs from scratch."""
    require_drawable(out)
    table = choice.chosen().filter(pl.col("operator") == SCRATCH)
    drawn = isoflop.isoflops(Observations.from_table(table, form_named("chinchilla")))
    draw(isoflop.chart(drawn), isoflop.caption(told(choice, table), drawn), out)


def held_out(choice: Choice, scheme: str, draws: int, level: float, out: Path) -> None:
    """`plot holdout`."""
    require_drawable(out)
    require_scheme(scheme)
    table = choice.chosen()
    form = choice.form(table)
    observations = Observations.from_table(table, form)
    arguments: dict[str, Any] = {"loss": choice.loss_function(), "fixed": choice.fixed(), "draws": draws}
    frame = holdout.held_out(validate(form, observations, scheme, level=level, **arguments))
    caption = holdout.caption(form.name, told(choice, table), scheme, frame, level)
    draw(holdout.chart(frame), caption, out)


def residual_chart(choice: Choice, out: Path) -> None:
    """`plot residuals`."""
    require_drawable(out)
    table, fitted = choice.chosen(), choice.loss_function()
    form = choice.form(table)
    frame = residuals.residual_frame(form, table, fitted, choice.fixed())
    caption = residuals.caption(form.name, repr(fitted), told(choice, table), frame)
    draw(residuals.chart(frame), caption, out)


def profiles(choice: Choice, draws: int, level: float, out: Path) -> None:
    """`plot profile`."""
    require_drawable(out)
    table = choice.chosen()
    form = choice.form(table)
    observations = Observations.from_table(table, form)
    drawn = profile.profiles(form, observations, choice.loss_function(), choice.fixed(), draws, level)
    draw(profile.chart(drawn), profile.caption(told(choice, table), drawn, level), out)


def told(choice: Choice, table: pl.DataFrame) -> str:
    """'chinchilla_epoch, 240 rows'."""
    return f"{choice.table}, {table.height} rows"
