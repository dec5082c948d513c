"""`scalegrow grow`: a checkpoint of ours into a wider or deeper one, with what was done."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scalegrow.cli.render import console, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import network_shape, parse_setting
from scalegrow.shape import MLPShape, ModelShape, shape_for
from scalegrow.units import format_count

Shape = ModelShape | MLPShape
NEEDS_TORCH = "growing needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here."


@dataclass(frozen=True)
class Target:
    """How large: a factor in parameters (the ladder's shape), or in width, and layers; any size by name."""

    factor: float | None
    width: float | None
    layers: int | None
    sizes: tuple[str, ...] = ()
    untie: bool = False

    def shape(self, base: Shape) -> Shape:
        """The target's shape. Raises InputError where nothing or too much was said."""
        if not self.sizes and not self.untie and (self.factor, self.width, self.layers) == (None, None, None):
            raise InputError("how large? give --factor 2 (parameters), --width 2, --layers N or --to d_ff=512.")
        if self.factor is not None and (self.width is not None or self.layers is not None):
            raise InputError("--factor decides width and depth: leave --width and --layers out, or --factor.")
        return self._sized(self._network(base) if isinstance(base, MLPShape) else self._decoder(base))

    def _network(self, base: MLPShape) -> MLPShape:
        if self.untie:
            raise InputError("a dense network has no tied tables: leave --untie out.")
        if self.factor is not None:
            return network_shape(base.n_params * self.factor, like=base)
        width = round(base.width * (self.width or 1))
        return replace(base, width=width, depth=base.depth if self.layers is None else self.layers)

    def _decoder(self, base: ModelShape) -> ModelShape:
        if self.untie and not base.tied:
            raise InputError("the base's head is a table of its own already: leave --untie out.")
        base = replace(base, tied=base.tied and not self.untie)
        if self.factor is not None:
            ladder = shape_for(base.n_params * self.factor, like=base)
            sizes = {name: getattr(ladder, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
            return replace(base, **sizes, n_kv_heads=sizes["n_heads"] * base.n_kv_heads // base.n_heads)
        from scalegrow.train.grow import widened_shape

        wide = widened_shape(base, self.width) if self.width is not None else base
        return wide if self.layers is None else replace(wide, n_layers=self.layers)

    def _sized(self, shape: Shape) -> Shape:
        """With the sizes given by name over the others."""
        known = [each.name for each in fields(shape) if each.type is int]
        for name, value in map(parse_setting, self.sizes):
            if name not in known:
                raise InputError(f"--to {name}: a shape has no such size: choose {', '.join(known)}.")
            shape = replace(shape, **{name: value})
        return shape


def run(
    checkpoint: Path,
    out: Path,
    target: Target,
    operators: tuple[str, str | None],
    arguments: dict[str, Any],
    policies: dict[str, str],
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
    growth = plan(base, target.shape(base), *operators, Arguments(**arguments))
    lineage = grow_checkpoint(checkpoint, out, growth, Policies(**policies), cache or out.parent / "packed")
    warn_of_twins(lineage["locked"], getattr(config.model, "dropout", 0.0))
    if as_json:
        print_json({"schema": "scalegrow-grow/1", "checkpoint": str(out / step_name(0)), **lineage})
        return
    shapes = (("base", base), ("target", growth.target))
    page = console()
    rows = [(name, form(shape), format_count(shape.n_params)) for name, shape in shapes]
    page.print(table(("", "shape", "parameters"), rows))
    factors = ", ".join(
        f"{lineage[key]:.3g} {of}"
        for key, of in (
            ("g_params", "in parameters"),
            ("g_non_embedding", "without embeddings"),
            ("g_width", "in width"),
        )
    )
    page.print(f"\ng = {factors}; {growth.operator}, layers by {growth.depth_operator}")
    page.print("; ".join(f"{name} {chosen}" for name, chosen in lineage["policies"].items()))
    page.print(f"zero-step {distance(base)} = {lineage['zero_step_kl']:.3g}")
    page.print(f"\ninto {out / step_name(0)}")


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
