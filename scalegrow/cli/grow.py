"""`scalegrow grow`: a checkpoint of ours into a wider or deeper one, with what was done."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scalegrow.cli.render import console, print_json, table
from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import ModelShape, shape_for
from scalegrow.units import format_count


@dataclass(frozen=True)
class Target:
    """How large: a factor in parameters (the ladder's shape), or in width, and a number of layers."""

    factor: float | None
    width: float | None
    layers: int | None

    def shape(self, base: ModelShape) -> ModelShape:
        """The target's shape. Raises InputError where nothing or too much was said."""
        if self.factor is None and self.width is None and self.layers is None:
            raise InputError("how large? give --factor 2 (parameters), --width 2 or --layers N.")
        if self.factor is not None and (self.width is not None or self.layers is not None):
            raise InputError("--factor decides width and depth: leave --width and --layers out, or --factor.")
        if self.factor is not None:
            ladder = shape_for(base.n_params * self.factor, like=base)
            sizes = {name: getattr(ladder, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
            return replace(base, **sizes, n_kv_heads=sizes["n_heads"] * base.n_kv_heads // base.n_heads)
        from scalegrow.train.grow import widened_shape

        wide = widened_shape(base, self.width or 1)
        return wide if self.layers is None else replace(wide, n_layers=self.layers)


def run(
    checkpoint: Path,
    out: Path,
    target: Target,
    operators: tuple[str, str | None],
    arguments: dict[str, Any],
    moments: str,
    cache: Path | None,
    *,
    as_json: bool,
) -> None:
    """Grow, and say what was done."""
    try:
        from scalegrow.train.checkpoint_growth import grow_checkpoint
    except ImportError:
        raise InputError("growing needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here.") from None
    from scalegrow.train.operators import Arguments, plan
    from scalegrow.train.state import read_facts, step_name

    config = RunConfig.from_dict(read_facts(checkpoint)["config"])
    if not isinstance(config.model, Decoder):
        raise InputError(f"{checkpoint} holds a dense network: growing takes decoders so far.")
    base = config.model.shape
    growth = plan(base, target.shape(base), *operators, Arguments(**arguments))
    lineage = grow_checkpoint(checkpoint, out, growth, moments, cache or out.parent / "packed")
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
    page.print(f"\ng = {factors}; {growth.operator}, layers by {growth.depth_operator}, moments {moments}")
    page.print(f"zero-step KL(base || grown) = {lineage['zero_step_kl']:.3g} nats per token")
    page.print(f"\ninto {out / step_name(0)}")


def form(shape: ModelShape) -> str:
    """A shape in words."""
    return f"{shape.d_model} wide, {shape.n_layers} deep, {shape.n_heads} heads, d_ff {shape.d_ff}"
