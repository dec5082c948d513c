"""The runs that could be added to a study: from scratch and grown, around what was fitted and what is asked.

Symbols: N parameters, D tokens, g growth factor, S the last step of a budget.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from scalegrow.errors import InputError
from scalegrow.growth import OPERATORS
from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import SCRATCH, Points
from scalegrow.plan.decide import Question
from scalegrow.runs.branches import decay_start
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import Recipe
from scalegrow.runs.study import Block, Member, Origin
from scalegrow.units import format_count

RUNG = 2.0  # between two values of a ladder
SAME = 1.05  # values closer than this are one
DIGITS, EXACT = 3, 6  # of what is named; of sizes, that half of one is another to the last parameter
Growable = Callable[[Member], bool]


@dataclass(frozen=True)
class Grid:
    """What candidates are made of: N, g, operators, budgets in tokens per parameter, seeds.

    base_budget: what a base has seen when it is grown, in tokens per parameter of its own.
    """

    sizes: tuple[float, ...]
    factors: tuple[float, ...]
    operators: tuple[str, ...]
    budgets: tuple[float, ...]
    base_budget: float
    seeds: tuple[int, ...]

    @classmethod
    def around(
        cls,
        fit: Fit,
        question: Question,
        seeds: Iterable[int],
        smallest: float | None = None,
        largest: float | None = None,
    ) -> "Grid":
        """From the ends of the fitted range to the question, and doublings of what the question asks.

        smallest and largest N stand instead of those of the fit and the question.
        """
        low, high = _range(fit, "N", question.N)
        tpp, g = _named(question.D / question.N), _named(question.g)
        factors = ladder(*_range(fit, "g", g), g)
        return cls(
            ladder(smallest or low, largest or high, _named(question.N)),
            tuple(factor for factor in factors if factor > SAME),
            tuple(name for name in fit.law.form.operators if name in OPERATORS),
            ladder(*_range(fit, "tpp", tpp), tpp),
            question.D_base / question.N_base,
            tuple(seeds),
        )


def _range(fit: Fit, variable: str, asked: float) -> tuple[float, float]:
    """The fitted range of a variable, with what is asked inside it."""
    low, high = fit.domain[variable]
    return _named(min(low, asked)), _named(max(high, asked))


def _named(value: float) -> float:
    """To the digits that people write."""
    return float(f"{value:.{DIGITS}g}")


def ladder(low: float, high: float, through: float) -> tuple[float, ...]:
    """Doublings (and halvings) of `through` between low and high, ascending, and both ends.

    A rung nearer than sqrt 2 to an end gives way to it, but for `through` itself. Raises InputError where the
    ends are in the wrong order.
    """
    if not 0 < low <= high:
        raise InputError(f"from {low:g} to {high:g} there is nothing: give the smaller one first.")
    low, high = (_snapped(end, through) for end in (low, high))
    first, last = (math.log(end / through, RUNG) for end in (low, high))
    rungs = [through * RUNG**i for i in range(math.ceil(first), math.floor(last) + 1)]
    inner = [x for x in rungs if x == through or low * RUNG**0.5 <= x <= high / RUNG**0.5]
    ends = [end for end in {low, high} if not any(_same(end, x) for x in inner)]
    return tuple(sorted([*inner, *ends]))


def _snapped(end: float, through: float) -> float:
    """The rung that an end stands for, where it is one but for the rounding of steps and shapes."""
    rung = through * RUNG ** round(math.log(end / through, RUNG))
    return rung if _same(end, rung) else end


def _same(one: float, other: float) -> bool:
    """Whether two values are one."""
    return max(one / other, other / one) <= SAME


@dataclass(frozen=True)
class Candidate:
    """A run that may be chosen: as a block of a study that holds no other, and as that run.

    before: the same run of the seed before, which is asked first.
    """

    block: Block
    member: Member
    before: "Candidate | None" = None

    @cached_property
    def stages(self) -> dict[str, frozenset[int]]:
        """The steps S to which this run and those that it grew from are trained, by key."""
        return {each.key: frozenset(ends(each.config)) for each in lineage(self.member)}


def lineage(member: Member) -> Iterator[Member]:
    """A run, its base, its base's base ..."""
    yield member
    if member.origin:
        yield from lineage(member.origin.base)


def ends(config: RunConfig) -> list[int]:
    """The last step S of every budget."""
    return [config.steps(budget) for budget in config.budgets]


def candidates(baseline: Recipe, grid: Grid, growable: Growable) -> list[Candidate]:
    """Every run of the grid that can be made, with its smallest budget, its two smallest ... all of them.

    growable says whether an operator's algebra allows a growth. Raises InputError where no run can be made.
    """
    found: list[Candidate] = []
    refusal = InputError("no operator of this fit is known here: fit runs grown by one of docs/growth.md.")
    arms = [(1.0, SCRATCH), *product(grid.factors, grid.operators)]
    for size, (factor, operator) in product(grid.sizes, arms):
        try:
            found += _seeds(baseline, grid, _block(baseline, grid, size, factor, operator), growable)
        except InputError as error:
            refusal = error
    if not found:
        raise refusal
    return found


def _seeds(baseline: Recipe, grid: Grid, block: Block, growable: Growable) -> Iterator[Candidate]:
    """One arm at one size: a candidate for each seed and each number of budgets."""
    if not growable(_member(baseline, block)):
        return
    before: list[Candidate | None] = [None] * len(block.budgets)
    for seed in grid.seeds:
        whole = replace(block, seeds=(seed,))
        member = _member(baseline, whole)
        for i in range(len(block.budgets)):
            part = replace(member, config=replace(member.config, budgets=member.config.budgets[: i + 1]))
            before[i] = made = Candidate(replace(whole, budgets=block.budgets[: i + 1]), part, before[i])
            yield made


def _member(baseline: Recipe, block: Block) -> Member:
    (member,) = block.members(baseline)
    return member


def _block(baseline: Recipe, grid: Grid, size: float, factor: float, operator: str) -> Block:
    grown = factor > 1
    plain = Block(
        sizes=(format_count(size, EXACT),),
        seeds=grid.seeds[:1],
        budgets=tuple(f"{tpp:.{DIGITS}g}tpp" for tpp in grid.budgets),
    )
    if not grown:
        return plain
    return replace(
        plain,
        factors=(float(f"{factor:.{DIGITS}g}"),),
        operators=(operator,),
        **_base_of(baseline, plain, grid.base_budget),
    )


def _base_of(baseline: Recipe, block: Block, seen: float) -> dict[str, Any]:
    """Where a base is taken, and the budget at which it has then seen so many tokens per parameter.

    On the trunk, where a cool-down of the share `decay` would begin, that is seen / (1 - decay). A schedule
    without a trunk gives its annealed end. Raises InputError where no loss is annealed.
    """
    schedule = _member(baseline, block).config.schedule
    if schedule.kind == "constant":
        raise InputError(
            "the baseline's schedule is constant, and none of its losses annealed: take wsd or cosine."
        )
    trunk = schedule.kind == "wsd" and schedule.decay < 1
    budget = seen / (1 - schedule.decay) if trunk else seen
    return {"base_budgets": (f"{budget:.{DIGITS}g}tpp",), "base_stage": "trunk" if trunk else "annealed"}


@dataclass(frozen=True)
class Rows:
    """What runs will say: one annealed loss for each budget. run numbers the runs; index is by key and step S."""

    points: Points
    run: npt.NDArray[np.intp]
    index: dict[tuple[str, int], int]


def rows_of(members: Iterable[Member], smallest: float = 0.0) -> Rows:
    """The rows that these runs and their bases will add to a run table, but those of models below `smallest`."""
    found: dict[tuple[str, int], tuple[float, float, float, float, str]] = {}
    for member in (each for one in members for each in lineage(one)):
        N = float(member.config.model.shape.n_params)
        if smallest <= N:
            at = _grown_at(N, member.origin)
            found |= {(member.key, S): (N, S * _tokens(member.config), *at) for S in ends(member.config)}
    N_, D, g, D_base, operator = zip(*found.values(), strict=True)
    run = np.unique([key for key, _ in found], return_inverse=True)[1]
    return Rows(Points.of(N_, D, g, D_base, operator), run, {place: i for i, place in enumerate(found)})


def _grown_at(N: float, origin: Origin | None) -> tuple[float, float, str]:
    """g, D_base and the operator as a run table will say."""
    if origin is None:
        return 1.0, 0.0, SCRATCH
    base = origin.base.config
    end = base.steps(origin.budget)
    steps = end if origin.annealed else decay_start(base, end)
    return N / base.model.shape.n_params, steps * _tokens(base), origin.operator


def _tokens(config: RunConfig) -> float:
    return float(config.tokens_per_step)
