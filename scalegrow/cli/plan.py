"""`scalegrow plan`: the planner page of a fit, one HTML file."""

import math
from dataclasses import replace
from pathlib import Path

from scalegrow.cli.predict import Words, asked, load_fit, resolve_factor
from scalegrow.cli.render import console
from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.page.build import Start, page, write_page
from scalegrow.page.embedded import decidable
from scalegrow.plan.decide import BUDGETS_TPP, FACTORS, require_decidable
from scalegrow.units import format_count, parse_count


def run(words: Words, fit_name: str, level: float, out: Path) -> None:
    """Resolve the words as predict does, write the page, say where."""
    fit = load_fit(fit_name)
    decidable(fit)
    if not words.base:
        words = replace(words, base=middle_base(fit, words.factor or 2.0))
    text = page(fit, Path(fit_name).name, start(fit, words), level)
    write_page(text, out)
    size = f"{len(text.encode()) / 1e3:.0f} kB"
    console().print(f"{out} ({size}): open it in a browser, or send it; it needs no network.", soft_wrap=True)


def middle_base(fit: Fit, factor: float) -> str:
    """The base whose target is the middle of the fitted sizes."""
    if "N" not in fit.domain:
        raise InputError("this fit knows no sizes to start from: give --base 50M.")
    return format_count(math.sqrt(math.prod(fit.domain["N"])) / factor, 2)


def start(fit: Fit, words: Words) -> Start:
    """Where the sliders begin. Raises InputError where predict would, and outside what the sliders reach."""
    _, question = asked(fit, words)
    require_decidable(fit, question)
    tpp = float(f"{question.D / question.N:.12g}")
    factor = resolve_factor(words.base, words.factor, words.target)
    within("growth factor", factor, FACTORS)
    within("budget in tokens per parameter", tpp, BUDGETS_TPP)
    base_tpp = float(f"{question.D_base / question.N_base:.12g}")
    within("base's budget in tokens per parameter", base_tpp, BUDGETS_TPP)
    cost = question.base_cost
    return Start(parse_count(words.base), factor, tpp, base_tpp, question.operator, cost.mode, cost.targets)


def within(what: str, value: float, edges: tuple[float, float]) -> None:
    """Raise InputError where a slider does not reach."""
    low, high = edges
    if not low <= value <= high:
        raise InputError(f"a {what} of {value:g} is off the page's sliders: give {low:g} to {high:g}.")
