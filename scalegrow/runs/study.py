"""Study: a growth study as differences from a baseline, and the runs it stands for, each base once.

Symbols: N parameters, g growth factor.
"""

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from scalegrow.errors import InputError
from scalegrow.growth import base_shape, near, operator
from scalegrow.runs.config import RunConfig, decides
from scalegrow.runs.fields import build, flatten
from scalegrow.runs.recipe import Recipe
from scalegrow.runs.table import SCRATCH
from scalegrow.shape import ModelShape, Shape
from scalegrow.units import format_count, parse_count

MOST_RUNS, MOST_GROWTH = 100_000, 1e6
LONGEST_ARM = 80  # characters in a folder's name
TABLES = ("settings", "vary", "base_settings")
DIALS = {  # settings that a study says in another place, which would overwrite them
    "seed": "seeds = [0, 1]",
    "data.seed": "seeds = [0, 1]",
    "budgets": 'budgets = ["20tpp"]',
    "start": "factors and operators",
}


@dataclass(frozen=True)
class Origin:
    """What a run grew from: a base at a budget, before its decay (or after, annealed), by a candidate's rules.

    candidate is an operator with its settings, as `scalegrow probe` reads them: szp:shrink=0.4. seed is that of
    the operator's own draws.
    """

    base: "Member"
    budget: str
    annealed: bool
    candidate: str
    factor: float
    seed: int

    @property
    def operator(self) -> str:
        """The operator's name."""
        return self.candidate.partition(":")[0]


@dataclass(frozen=True)
class Member:
    """One run of a study. The config of a grown one has no start yet: that is known once its base is trained."""

    config: RunConfig
    origin: Origin | None = None

    @cached_property
    def key(self) -> str:
        """A hash of all that decides the run but its budgets, its first 16 digits."""
        deciding: list[object] = [self.config.digest()]
        if grown := self.origin:
            steps = grown.base.config.steps(grown.budget)
            deciding += [grown.base.key, steps, grown.annealed, grown.candidate, grown.seed]
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]

    @property
    def arm(self) -> str:
        """scratch, or the candidate as the study wrote it."""
        return self.origin.candidate if self.origin else SCRATCH

    @cached_property
    def name(self) -> str:
        """A folder's name that a person can read, and that no other run has."""
        arm = SCRATCH
        if self.origin:
            arm = "".join(c if c.isalnum() or c in "._=" else "-" for c in self.origin.candidate)[:LONGEST_ARM]
            arm += f"-x{self.origin.factor:g}"
        return f"{format_count(self.config.model.shape.n_params)}-{arm}-s{self.config.seed}-{self.key[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """Which run it is, for a program."""
        return {
            "key": self.key,
            "base": self.origin.base.key if self.origin else None,
            "arm": self.arm,
            "factor": self.origin.factor if self.origin else 1.0,
            "n_params": self.config.model.shape.n_params,
            "budgets": list(self.config.budgets),
            "seed": self.config.seed,
        }

    def to_budgets_of(self, other: "Member") -> "Member":
        """This run, to the budgets of both."""
        return replace(self, config=self.config.with_budgets(other.config.budgets))


@dataclass(frozen=True)
class Block:
    """Runs as a product of lists; without factors, from scratch.

    factors are g = N / N_base in parameters; 1 is from scratch. A base is trained by the same settings with
    base_settings over them, and grown where its cool-down to base_budget would begin (base_stage trunk) or at the
    end of it (annealed). gammas, data and vary (by dotted settings) are further factors of the product.
    """

    sizes: tuple[str, ...]
    factors: tuple[float, ...] = (1.0,)
    operators: tuple[str, ...] = ("szp",)
    base_budgets: tuple[str, ...] = ("20tpp",)
    base_stage: Literal["trunk", "annealed"] = "trunk"
    seeds: tuple[int, ...] = (0,)
    gammas: tuple[float, ...] = ()
    data: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    vary: dict[str, Any] = field(default_factory=dict)
    base_settings: dict[str, Any] = field(default_factory=dict)

    def count(self) -> int:
        """How many runs the product has, bases not among them."""
        arms = sum(1 if factor == 1 else len(self.operators) * len(self.base_budgets) for factor in self.factors)
        others = (self.sizes, self.data or (None,), self.seeds, self.gammas or (None,), *self.vary.values())
        return arms * math.prod(map(len, others))

    def members(self, baseline: Recipe) -> Iterator[Member]:
        """Every run of the product, in its order. Raises InputError on what does not fit."""
        varied = dict(self.vary)
        if self.gammas:
            varied["init.gamma"] = list(self.gammas)
        sources = self.data or (baseline.data,)
        for size, source, seed, *values in itertools.product(self.sizes, sources, self.seeds, *varied.values()):
            settings = {**baseline.settings, **self.settings, **dict(zip(varied, values, strict=True))}
            recipe = replace(
                baseline,
                size=size,
                data=source,
                budgets=self.budgets or baseline.budgets,
                settings={**settings, "seed": seed, "data.seed": seed},
            )
            yield from self._arms(recipe, seed)

    def _arms(self, recipe: Recipe, seed: int) -> Iterator[Member]:
        """One target size: from scratch, or grown in every way."""
        target = recipe.config()
        _require_near(target.model.shape.n_params, recipe)
        if 1 in self.factors:
            yield Member(target)
        for factor, candidate in itertools.product((each for each in self.factors if each != 1), self.operators):
            name = candidate.partition(":")[0].strip()
            wanted = parse_count(recipe.size) / factor
            shape = base_shape(target.model.shape, wanted, name, recipe.n_layers)
            for budget in self.base_budgets:
                base = self._base(recipe, shape, budget)
                annealed = self.base_stage == "annealed"
                yield Member(target, Origin(Member(base), base.budgets[0], annealed, candidate, factor, seed))

    def _base(self, recipe: Recipe, shape: Shape, budget: str) -> RunConfig:
        """What a target of this recipe grows from: its settings with base_settings over them, in another shape.

        A step's sequences are of the target's length too, so a step has the tokens that the base's size asks for.
        """
        context = shape.context if isinstance(shape, ModelShape) else None
        settings = {**recipe.settings, **self.base_settings}
        small = replace(recipe, size=str(shape.n_params), context=context, budgets=(budget,), settings=settings)
        config = small.config()
        return replace(config, model=replace(config.model, shape=shape))  # type: ignore[arg-type]


def _require_near(made: int, recipe: Recipe) -> None:
    """Raise InputError where depth, head size or vocabulary leave no shape of about the size asked for."""
    own_shape = any(name.startswith("model.shape.") for name in recipe.settings)
    if not own_shape and not near(made, parse_count(recipe.size)):
        raise InputError(
            f"the nearest shape to {recipe.size} has {format_count(made)} parameters here: give a size it can "
            "meet, or other n_layers, head_dim or tokenizer."
        )


@dataclass(frozen=True)
class Study:
    """A baseline, and blocks of runs as differences from it."""

    baseline: Recipe
    runs: tuple[Block, ...]

    def members(self) -> list[Member]:
        """Every run once, with all the budgets that were asked of it, bases before what grows from them.

        Otherwise small targets first. Raises InputError on what does not fit.
        """
        if (count := sum(block.count() for block in self.runs)) > MOST_RUNS:
            raise InputError(f"{count:,} runs are too many for one study: split it.")
        asked = [member for place, block in enumerate(self.runs, 1) for member in self._of(block, place)]
        found = _once(asked)
        for member in itertools.chain.from_iterable(map(_with_bases, asked)):
            there = found.get(member.key)
            found[member.key] = there.to_budgets_of(member) if there else member
        return sorted(found.values(), key=lambda each: (each.config.model.shape.n_params, each.origin is not None))

    def _of(self, block: Block, place: int) -> list[Member]:
        """A block's runs. Raises InputError with its place among the blocks."""
        try:
            return list(block.members(self.baseline))
        except InputError as error:
            raise InputError(f"runs {place}: {error}") from None


def _once(asked: Iterable[Member]) -> dict[str, Member]:
    """Every run that a block asks for itself, by key. Raises InputError where two watch one otherwise."""
    found: dict[str, Member] = {}
    for member in asked:
        there = found.setdefault(member.key, member)
        if there.config.evaluation != member.config.evaluation:
            raise InputError(
                f"two blocks ask for the run {member.name} with different evaluation settings, and it is trained "
                "once: give both the same."
            )
    return found


def _with_bases(member: Member) -> Iterable[Member]:
    """A member after its base, its base's base ..."""
    if member.origin:
        yield from _with_bases(member.origin.base)
    yield member


def read_study(path: Path) -> Study:
    """A study from TOML: [baseline], as a recipe, and [[runs]]. Raises InputError."""
    try:
        return parse_study(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}): give the path of a study.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text ({error}): give a study in TOML.") from None


def parse_study(text: str, name: str = "the study") -> Study:
    """A study from TOML's text. Raises InputError."""
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{name} is nested too deep: write [baseline] and [[runs]].") from None
    except ValueError as error:  # TOML's own, and that of a number too long to read
        raise InputError(f"{name} cannot be read as TOML ({error}): mend it.") from None
    baseline, blocks = data.pop("baseline", {}), data.pop("runs", [])
    if data:
        raise InputError(f"{name} has no table {next(iter(data))!r}: write [baseline] and [[runs]].")
    if not isinstance(baseline, dict):
        raise InputError(f"{name}: there is one baseline: write [baseline], with its settings below.")
    if not isinstance(blocks, list) or not blocks:
        raise InputError(f'{name} names no runs: write a [[runs]] with sizes, such as sizes = ["100k"].')
    settings = _table(baseline, "settings", f"{name}: baseline")
    if "size" in baseline:
        raise InputError(f"{name}: the baseline has no size of its own: give sizes in [[runs]].")
    recipe = build(Recipe, {"size": "", **baseline}, f"{name}: baseline")
    recipe = replace(recipe, settings=settings)
    return Study(recipe, tuple(_block(block, f"{name}: runs {i}") for i, block in enumerate(blocks, 1)))


def _block(data: Any, where: str) -> Block:
    if not isinstance(data, dict):
        raise InputError(f"{where} is no table: write [[runs]] above it.")
    if empty := [name for name, values in data.items() if values == []]:
        raise InputError(f"{where}: {empty[0]} is empty: give at least one, or leave it out.")
    tables = {name: _table(data, name, where) for name in TABLES}
    block = replace(build(Block, data, where), **tables)  # type: ignore[arg-type]
    for name, values in block.vary.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: vary.{name} = {values!r} is no list of values.")
        if not decides(name):
            raise InputError(f"{where}: vary.{name} makes no other run: write settings.{name}.")
    if block.gammas and "init.gamma" in block.vary:
        raise InputError(f"{where}: gammas and vary.init.gamma are the same: leave one out.")
    for candidate in block.operators:
        if operator(candidate.partition(":")[0].strip()).axis == "none":
            raise InputError(f"{where}: scratch is no way to grow: write factors = [1, 2] to have both.")
    if wrong := [factor for factor in block.factors if not 1 <= factor < MOST_GROWTH]:
        raise InputError(f"{where}: a growth factor of {wrong[0]:g} does not grow: give 1 (scratch) or more.")
    return block


def _table(data: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A table of dotted settings, taken out of `data`."""
    table = data.pop(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{where}: {name} = {table!r} is no table: write {name}.optimiser.lr = 0.01.")
    settings = flatten(table)
    for setting in settings:
        if name == "base_settings" and setting.startswith("model.shape."):
            raise InputError(f"{where}: {name}.{setting} follows from the target and the factor: leave it out.")
        place = DIALS.get(setting) or DIALS.get(setting.partition(".")[0])
        if place and not (name == "base_settings" and setting.endswith("seed")):  # a base may have its own
            raise InputError(f"{where}: {name}.{setting} is decided elsewhere: write {place}.")
    return settings
