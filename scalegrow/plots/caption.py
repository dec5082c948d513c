"""What every chart states of itself: the law, the data, and how far it extrapolates."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from scalegrow.laws.domain import extrapolation_sentence
from scalegrow.laws.fitted import Fit
from scalegrow.plan.decide import Question
from scalegrow.units import format_count

LINE = 112  # characters that fit above a chart and its legend


@dataclass(frozen=True)
class Caption:
    """title: what is shown. law, data, range: what it rests on, a sentence each. notes: how to read it."""

    title: str
    law: str
    data: str
    range: str
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Everything below the title, wrapped: notes first, for they say what the marks are."""
        basis = f"Law: {self.law}. Data: {self.data}. {self.range}"
        return [line for text in (*self.notes, basis) for line in textwrap.wrap(text, LINE)]


def of_fit(name: str, fit: Fit, title: str, ratios: Mapping[str, float], *notes: str) -> Caption:
    """The caption of a chart of one fit and one question, `ratios` times outside the fitted range."""
    law = f"{fit.law.form.name} (fit {name}, {fit.n_runs} runs, {fit.status.name})"
    data = fit.provenance.get("table", "of no recorded table")
    return Caption(title, law, data, f"This question {extrapolation_sentence(dict(ratios))}.", notes)


def growth_words(question: Question) -> str:
    """'50M to 101M parameters (g = 2) by szp'."""
    sizes = f"{format_count(question.N_base)} to {format_count(question.N)} parameters"
    return f"{sizes} (g = {question.g:.3g}) by {question.operator}"


def token_words(question: Question) -> str:
    """'20 tokens per parameter, base of 20'."""
    return f"{question.D / question.N:.3g} tokens per parameter, base of {question.D_base / question.N_base:.3g}"


def budget_words(question: Question) -> str:
    """'20 tokens per parameter, base of 20, base cost sunk'."""
    return f"{token_words(question)}, base cost {question.base_cost}"
