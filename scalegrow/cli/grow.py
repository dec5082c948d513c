"""`scalegrow grow`: a checkpoint of ours into a wider or deeper one, with what was done."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scalegrow.cli.render import console, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.growth import deepened_shape, grown_shape, operator, widened_shape
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import parse_setting
from scalegrow.shape import MLPShape, ModelShape, Shape
from scalegrow.units import format_count

ByCount = Callable[[Any, float], Shape]  # a base and how many parameters the target should have
Operators = tuple[str | None, str | None]  # of width (or depth alone), of depth; None: as usual
Given = dict[str, Any]  # options by name
FACTORS = {"g_params": "in parameters", "g_non_embedding": "without embeddings", "g_width": "in width"}
LARGEST_RATIO, LARGEST_SIZE, MOST_LAYERS = 1e4, 10**7, 10**4
NEEDS_TORCH = "growing needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here."


@dataclass(frozen=True)
class Target:
    """How large: a factor in parameters (the ladder's shape), or in width, and layers; any size by name."""

    factor: float | None
    width: float | None
    layers: int | None
    sizes: tuple[str, ...] = ()
    untie: bool = False

    def shape(self, base: Shape, by_count: ByCount | None = None) -> Shape:
        """The target's shape; by_count says what a factor makes of a base, by default the ladder's shape.

        Raises InputError where nothing or too much was said.
        """
        if not self.sizes and not self.untie and (self.factor, self.width, self.layers) == (None, None, None):
            raise InputError("how large? give --factor 2 (parameters), --width 2, --layers N or --to d_ff=512.")
        if self.factor is not None and (self.width is not None or self.layers is not None):
            raise InputError("--factor decides width and depth: leave --width and --layers out, or --factor.")
        for name, ratio in (("--factor", self.factor), ("--width", self.width)):
            if ratio is not None and not 0 < ratio <= LARGEST_RATIO:
                raise InputError(f"{name} {ratio:g} is out of range: give one up to {LARGEST_RATIO:g}, such as 2.")
        if self.factor is not None and self.factor <= 1:
            raise InputError(f"a growth factor of {self.factor:g} does not grow: give more than 1, such as 2.")
        if self.layers is not None and self.layers > MOST_LAYERS:
            raise InputError(f"--layers {self.layers:.3g} is out of range: give at most {MOST_LAYERS:,}.")
        shape = self._sized(self._scaled(base, by_count or grown_shape))
        if shape == base:
            raise InputError("the target is the base: ask for more of something.")
        return shape

    @property
    def words(self) -> str:
        """The options that say it."""
        ratios = {"--factor": self.factor, "--width": self.width, "--layers": self.layers}
        told = [f"{name} {ratio:.17g}" for name, ratio in ratios.items() if ratio is not None]
        return " ".join([*told, *(f"--to {size}" for size in self.sizes), *["--untie"] * self.untie])

    def _untied(self, base: Shape) -> Shape:
        if not self.untie:
            return base
        if isinstance(base, MLPShape) or not base.tied:
            raise InputError("the base has no tied head: leave --untie out.")
        return replace(base, tied=False)

    def _scaled(self, base: Shape, by_count: ByCount) -> Shape:
        wanted = base.n_params * (self.factor or 1)
        base = self._untied(base)
        if self.factor is not None:
            return by_count(base, wanted)
        if isinstance(base, ModelShape):
            wide = widened_shape(base, self.width) if self.width is not None else base
            return wide if self.layers is None else replace(wide, n_layers=self.layers)
        width = round(base.width * (self.width or 1))
        return replace(base, width=width, depth=base.depth if self.layers is None else self.layers)

    def _sized(self, shape: Shape) -> Shape:
        """With the sizes given by name over the others."""
        known = [each.name for each in fields(shape) if each.type is int]
        for text in self.sizes:
            if "=" not in text:
                raise InputError(f"--to {text} is not understood: write NAME=VALUE, such as d_ff=512.")
            name, value = parse_setting(text)
            if isinstance(value, int) and value > LARGEST_SIZE:
                raise InputError(f"--to {name}: {value:.3g} is out of range: give at most {LARGEST_SIZE:,}.")
            if name not in known:
                raise InputError(f"--to {name}: a shape has no such size: choose {', '.join(known)}.")
            shape = replace(shape, **{name: value})
        return shape


def candidate(operators: Operators, arguments: Given, policies: Given) -> tuple[Operators, Given, Given]:
    """All three, with what is set after an operator's name over the options: szp:shrink=0.8:moments=reset."""
    name, depth = operators
    if name is None or ":" not in name:
        return operators, arguments, policies
    try:
        from scalegrow.train.candidates import ARGUMENTS, DEPTH, POLICIES, settings
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    name, told = settings(name)
    own, rules = ({key: told[key] for key in keys if key in told} for keys in (ARGUMENTS, POLICIES))
    return (name, told.get(DEPTH, depth)), arguments | own, policies | rules


def deepens(operators: Operators) -> bool:
    """Whether the one that was asked for adds layers alone."""
    return operators[0] is not None and operator(operators[0]).axis == "depth"


def usual(operators: Operators, base: Shape, target: Shape) -> tuple[str, str | None]:
    """szp where none is asked for; where nothing widens zero_pad, which leaves old weights as they are.

    szp would shrink and shake all of them.
    """
    name, depth = operators
    kept = ("n_layers",) if isinstance(base, ModelShape) else ("depth",)
    deeper = replace(base, **{each: getattr(target, each) for each in kept})
    return name or ("zero_pad" if deeper == target else "szp"), depth


def run(
    checkpoint: Path,
    out: Path,
    target: Target,
    operators: Operators,
    arguments: Given,
    policies: Given,
    cache: Path | None,
    *,
    as_json: bool,
) -> None:
    """Grow, and say what was done."""
    try:
        from scalegrow.train.checkpoint_growth import grow_checkpoint
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    from scalegrow.train.operators import Arguments, plan
    from scalegrow.train.policies import Policies
    from scalegrow.train.state import read_facts, step_name

    config = RunConfig.from_dict(read_facts(checkpoint)["config"])
    base = config.model.shape
    wanted = target.shape(base, deepened_shape if deepens(operators) else grown_shape)
    growth = plan(base, wanted, *usual(operators, base, wanted), Arguments(**arguments))
    lineage = grow_checkpoint(checkpoint, out, growth, Policies(**policies), cache or out.parent / "packed")
    warn_of_twins(lineage["locked"], getattr(config.model, "dropout", 0.0))
    if lineage["new_token_share"]:
        note(f"note: new tokens take {lineage['new_token_share']:.0%} of the probability until they are trained.")
    if as_json:
        print_json({"schema": "scalegrow-grow/1", "checkpoint": str(out / step_name(0)), **lineage})
        return
    show_growth(base, growth.target, (base.n_params, growth.target.n_params), lineage)
    page = console()
    page.print("; ".join(f"{name} {chosen}" for name, chosen in lineage["policies"].items()))
    page.print(f"zero-step {distance(base)} = {lineage['zero_step_kl']:.3g}")
    page.print(f"\ninto {out / step_name(0)}")


def show_growth(base: Shape, target: Shape, counts: tuple[int, int], lineage: dict[str, Any]) -> None:
    """Both shapes with their parameters, the three growth factors, the operators."""
    shapes = zip(("base", "target"), (base, target), counts, strict=True)
    page = console()
    rows = [(name, form(shape), format_count(count)) for name, shape, count in shapes]
    page.print(table(("", "shape", "parameters"), rows))
    listed = ", ".join(f"{lineage[key]:.3g} {of}" for key, of in FACTORS.items())
    page.print(f"\ng = {listed}; {lineage['operator']}, layers by {lineage['depth_operator']}")


def distance(base: Shape) -> str:
    """What is measured between base and grown, with its unit."""
    return (
        "KL(base || grown), nats per token" if isinstance(base, ModelShape) else "mean square change of the output"
    )


def warn_of_twins(locked: dict[str, float], dropout: float) -> None:
    """A note where coordinates would train as one: no gradient tells exact copies apart."""
    if not locked or dropout > 0:
        return
    axes = ", ".join(f"{share:.0%} of {axis}" for axis, share in locked.items())
    note(
        f"note: {axes} have an exact twin that a deterministic run never tells apart: they stay as good as the "
        "base's. Choose tile_noise, zero_pad or --moments asymmetric, or train with dropout."
    )


def form(shape: Shape) -> str:
    """A shape in words."""
    if isinstance(shape, MLPShape):
        return f"{shape.width} wide, {shape.depth} hidden layers"
    return f"{shape.d_model} wide, {shape.n_layers} deep, {shape.n_heads} heads, d_ff {shape.d_ff}"
