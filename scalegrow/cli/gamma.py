"""`scalegrow gamma`: the loss against the initialisation's exponent, and the one to take at a size and budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import typer

from scalegrow.budget import Budget
from scalegrow.cli.data import chosen_rows
from scalegrow.cli.render import (
    EXIT_OUTSIDE,
    between,
    cells,
    console,
    json_estimate,
    note,
    print_json,
    table,
)
from scalegrow.errors import InputError
from scalegrow.laws.document import read_document, write_document
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.gamma import STANDARD, GammaLaw
from scalegrow.laws.gamma_fit import fit_gamma
from scalegrow.laws.gamma_rows import gamma_rows
from scalegrow.plan.advise import farthest, too_far
from scalegrow.plan.gamma import GammaChoice, choose_gamma, gamma_curve, grid
from scalegrow.runs.config import epsilon_gamma
from scalegrow.runs.shipped import given_or, load_table, shipped_choice
from scalegrow.shape import shape_for
from scalegrow.units import format_count, parse_count

SCHEMA = "scalegrow-gamma-law/1"
ADVICE = "make one with 'scalegrow gamma --runs TABLE --out FILE'"
CURVE_STEP = 0.1
FEWEST_DRAWS = 2  # of a law of which only the curve is wanted


@dataclass(frozen=True)
class Asked:
    """N parameters, tpp tokens per parameter, RMSNorm's epsilon, the level of every interval, the law's name."""

    N: float
    tpp: float
    norm_eps: float
    level: float
    law: str

    @classmethod
    def of(cls, size: str, budget: str, norm_eps: float, level: float, law: str) -> "Asked":
        """From the words of the command line. Raises InputError."""
        N = parse_count(size)
        if (D := Budget.parse(budget).tokens(N)) < 1:
            raise InputError(f"{budget} of {format_count(N)} parameters is less than one token: give more.")
        return cls(N, D / N, norm_eps, level, law)

    @property
    def gamma_eps(self) -> float:
        """Where this norm stops normalising embeddings of the ladder's width, without muP."""
        return epsilon_gamma(self.norm_eps, shape_for(self.N).d_model)


@dataclass(frozen=True)
class Shorter:
    """The best gamma of the same runs without their largest gammas, from `cut` on; and those that are left.

    A quartic follows a minimum; where it is bent by a plateau or a cliff at large gammas, the minimum moves.
    """

    cut: float
    best: float
    left: tuple[float, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame, asked: Asked, found: GammaChoice) -> "Shorter | None":
        """The longest that disagrees with all runs' best, else the longest; None where none draws a curve."""
        gammas = rows["gamma"].unique().sort().to_list()
        longest = None
        for place in range(len(gammas) - 1, 0, -1):
            each = cls._without(rows, gammas[:place], gammas[place], asked)
            if each and not each.agrees(found):
                return each
            longest = longest or each
        return longest

    @classmethod
    def _without(cls, rows: pl.DataFrame, left: list[float], cut: float, asked: Asked) -> "Shorter | None":
        try:
            law = fit_gamma(rows.filter(pl.col("gamma") < cut), draws=FEWEST_DRAWS)
        except InputError:
            return None
        return cls(cut, choose_gamma(law, asked.N, asked.tpp).best.value, tuple(left))

    def agrees(self, found: GammaChoice) -> bool:
        """Whether it lies within the interval of all runs' best."""
        return found.best.low <= self.best <= found.best.high

    def sentence(self, found: GammaChoice) -> str:
        """What the largest gammas change, and what to do where that is more than chance."""
        told = f"Without the runs of gamma {self.cut:g} and above the best would be {self.best:.2f}"
        if self.agrees(found):
            return f"{told}, inside the interval."
        left = ",".join(f"{gamma:g}" for gamma in self.left)
        return f"{told}, outside the interval: the curve does not reach so far; give --where gamma={left}."


def run(
    asked: Asked, runs: str | None, where: list[str], out: Path | None, *, as_json: bool, strict: bool
) -> None:
    """Load the law or fit it to runs, choose, print."""
    if (out or where) and not runs:
        raise InputError("--out and --where are for a law that is fitted: give the runs to fit as --runs TABLE.")
    rows = gamma_rows(chosen_rows(load_table(runs), where)) if runs else None
    law = load_gamma(asked.law) if rows is None else fit_gamma(rows)
    found = choose_gamma(law, asked.N, asked.tpp, asked.level)
    shorter = None if rows is None else Shorter.of(rows, asked, found)
    answer = as_data(law, found, asked, shorter)  # before anything is written: it refuses what is nonsense
    if rows is not None and rows["seed"].n_unique() == 1:
        note("note: all runs have one seed: what another would change the intervals do not know.")
    if out:
        write_document(out, SCHEMA, law.to_data())
    if as_json:
        print_json(answer)
    else:
        show(law, found, asked, shorter)
    if strict and any(ratio != 1 for ratio in found.extrapolation.values()):
        raise typer.Exit(EXIT_OUTSIDE)


def load_gamma(name: str) -> GammaLaw:
    """A law by path, or a shipped one by name. Raises InputError."""
    path = given_or(name, lambda law: shipped_choice(law, "gamma_"))
    data = read_document(path, SCHEMA, ADVICE)
    try:
        return GammaLaw.from_data(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is damaged ({error}): {ADVICE}.") from None


def show(law: GammaLaw, found: GammaChoice, asked: Asked, shorter: Shorter | None) -> None:
    """The curve, the choice and what they rest on."""
    out, percent = console(), f"{asked.level:.0%} interval"
    curve = [
        (f"{gamma:.1f}", f"{value:+.4f}", between(f"{low:+.4f}", f"{high:+.4f}"))
        for gamma, value, low, high in curve_rows(law, asked)
    ]
    out.print(f"{format_count(asked.N)} parameters, {asked.tpp:.3g} tokens per parameter; nats per token\n")
    out.print(table(("gamma", f"loss - loss at {STANDARD:g}", percent), curve))
    choice = (
        ("best gamma", *cells(found.best, "{:.2f}".format)),
        (f"loss there - loss at {STANDARD:g}", *cells(found.gain, "{:+.4f}".format)),
        (f"no worse than {STANDARD:g} up to", *cells(found.critical, _up_to(law))),
    )
    out.print()
    out.print(table(("", "estimate", percent), choice))
    out.print(
        f"\nLaw: {asked.law}, {law.n_runs} runs on {law.data}, scatter of one {law.noise:.4f}; "
        f"this question {extrapolation_sentence(found.extrapolation)}."
    )
    if shorter:
        out.print(shorter.sentence(found))
    out.print(
        f"Without muP, a norm epsilon of {asked.norm_eps:g} stops normalising embeddings from gamma "
        f"{asked.gamma_eps:.2f} on."
    )
    out.print(f"Advice: {advice(law, found)}")


def advice(law: GammaLaw, found: GammaChoice) -> str:
    """One sentence: take the best gamma, or why not to."""
    low, high = law.gammas
    take = f"--set init.gamma={found.best.value:.2f}"
    outside = {name: ratio for name, ratio in found.extrapolation.items() if ratio != 1}
    if too_far(outside):
        far = farthest(outside)
        return f"none: this lies {far:.3g} times beyond the runs; sweep gamma nearer to it, and fit with --runs."
    if found.gain.high >= 0:
        return f"keep {STANDARD:g}: no gamma is surely better at this size and budget."
    if not found.inside:
        return f"none: the best gamma's interval reaches an end of the measured ones, {low:g} to {high:g}."
    if unknown := [LABELS[name] for name in law.trendless if name in outside]:
        return f"none: runs of one number of {unknown[0]} do not tell how gamma moves with it."
    if outside:
        return f"{take} if runs of your own at a smaller size agree, for this lies beyond what was measured."
    return f"{take}."


def curve_rows(law: GammaLaw, asked: Asked) -> list[tuple[float, ...]]:
    """(gamma, change, low, high) along the measured gammas."""
    gammas = grid(law, CURVE_STEP)
    told = gamma_curve(law, gammas, asked.N, asked.tpp, asked.level)
    return [tuple(map(float, row)) for row in zip(gammas, *told, strict=True)]


def as_data(law: GammaLaw, found: GammaChoice, asked: Asked, shorter: Shorter | None) -> dict[str, Any]:
    """The same for a program."""
    return {
        "schema": "scalegrow-gamma/1",
        "n_params": asked.N,
        "tokens_per_param": asked.tpp,
        "level": asked.level,
        **choice_data(found),
        "curve": [
            {"gamma": gamma, "change": value, "interval": [low, high]}
            for gamma, value, low, high in curve_rows(law, asked)
        ],
        "gamma_eps": asked.gamma_eps,
        "law": {"name": asked.law, "runs": law.n_runs, "data": law.data, "noise": law.noise},
        "without_largest": shorter and {**vars(shorter), "agrees": shorter.agrees(found)},
        "advice": advice(law, found),
    }


def choice_data(found: GammaChoice) -> dict[str, Any]:
    """A choice of gamma for a program."""
    return {
        "best": json_estimate(found.best),
        "gain": json_estimate(found.gain),
        "critical": json_estimate(found.critical),
        "inside": found.inside,
        "times_outside": {LABELS[name]: ratio for name, ratio in found.extrapolation.items()},
    }


def _up_to(law: GammaLaw) -> Callable[[float], str]:
    return lambda gamma: f"over {law.gammas[1]:g}" if math.isinf(gamma) else f"{gamma:.2f}"
