"""Growth: a base shape, a target shape and the operator between them; the three growth factors.

Symbols: g = N_target / N_base; which N is counted changes the number, so all three are kept.
"""

import math
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from scalegrow.errors import InputError
from scalegrow.shape import MLPShape, ModelShape, Shape, n_blocks, network_shape, shape_for

Axis = Literal["width", "depth", "none"]
Preserves = Literal["exact", "limit", "none"]
NEAR = 1.25  # ratio of counts: a base further off than this is not the one that was asked for

GROWING = {
    ModelShape: ("n_params", "d_model", "n_layers", "vocab_size"),
    MLPShape: ("n_params", "width", "depth"),
}


@dataclass(frozen=True)
class Operator:
    """A way to grow: along which axis, and whether it keeps the base's function at step 0."""

    name: str
    axis: Axis
    preserves: Preserves
    summary: str


OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator("scratch", "none", "none", "a fresh initialisation: the control"),
        Operator("szp", "width", "none", "shrink, zero-pad, perturb (arXiv 2605.13405)"),
        Operator("net2net", "width", "exact", "copy random units, split their outgoing weights (1511.05641)"),
        Operator("split", "width", "exact", "copies with uneven outgoing weights (LEMON, arXiv 2310.07999)"),
        Operator("tile", "width", "exact", "every unit copied k times (HyperCloning, arXiv 2409.12903)"),
        Operator("tile_noise", "width", "exact", "tile with opposite noise on pairs of copies (2409.12903)"),
        Operator("zero_pad", "width", "exact", "new units that the old ones do not see"),
        Operator("perturbative_copy", "width", "limit", "tile with independent noise (arXiv 2604.04281)"),
        Operator("asymmetric_reset", "width", "exact", "tile, moments of new copies reset (arXiv 2602.02472)"),
        Operator("structured_non_clone", "width", "none", "orthogonal mixtures of old units (2604.04281)"),
        Operator("random_copy", "width", "none", "copies read at random, RMS kept (SPARKLING, 2602.02472)"),
        Operator("zero_copy", "width", "exact", "copies that nothing reads yet (SPARKLING, arXiv 2602.02472)"),
        Operator("block_diagonal", "width", "exact", "copies side by side (Staged, arXiv 2203.06211)"),
        Operator("aki", "width", "none", "copies with the next layer's weights (bert2BERT, arXiv 2110.07143)"),
        Operator("ligo", "width", "none", "learned linear maps (LiGO, arXiv 2303.00980)"),
        Operator("stack", "depth", "none", "all layers repeated in order (G_stack, arXiv 2405.15319)"),
        Operator("interleave", "depth", "none", "each layer repeated in place"),
        Operator("zero_insert", "depth", "exact", "copied layers whose output is zero (LLaMA-Pro)"),
        Operator("identity_insert", "depth", "exact", "layers that pass their input through (2203.06211)"),
        Operator("solar", "depth", "none", "two overlapping copies, seam removed (SOLAR)"),
        Operator("middle", "depth", "none", "the middle block repeated (MIDAS, arXiv 2409.19044)"),
    )
}


def operator(name: str) -> Operator:
    """The operator of this name. Raises InputError that lists the nearest names."""
    if name in OPERATORS:
        return OPERATORS[name]
    near = get_close_matches(name, OPERATORS, n=3, cutoff=0.4) or ["szp", "net2net", "stack"]
    raise InputError(f"{name!r} is no growth operator: did you mean {', '.join(near)}?")


@dataclass(frozen=True)
class Growth:
    """From a base shape to a target shape by an operator; of two decoders or two networks.

    Raises InputError if the operator is unknown or the target has less of anything named in GROWING. d_ff is
    not: the ladder meets a count with it, so a factor near 1 may trade some of it for width.
    """

    base: Shape
    target: Shape
    operator: str

    def __post_init__(self) -> None:
        operator(self.operator)
        for name in GROWING[type(self.base)]:
            base, target = getattr(self.base, name), getattr(self.target, name)
            if target < base:
                raise InputError(
                    f"the target's {name}={target} is smaller than the base's {base}: give a larger target."
                )

    @classmethod
    def by_factor(cls, base_params: float, factor: float, operator: str = "szp") -> "Growth":
        """The ladder's shape of base_params, and the one `factor` times as large.

        The target keeps the base's vocabulary, tying and head size, so g_params is the factor to within 1 %
        from 1e6 parameters on. Raises InputError unless factor is above 1 and both are on the ladder.
        """
        if not (math.isfinite(factor) and factor > 1):
            raise InputError(f"a growth factor of {factor:g} does not grow: give a number above 1, such as 2.")
        base = shape_for(base_params)
        return cls(base, shape_for(base.n_params * factor, like=base), operator)

    @property
    def g_params(self) -> float:
        """N_target / N_base, embeddings counted."""
        return self.target.n_params / self.base.n_params

    @property
    def g_non_embedding(self) -> float:
        """N_target / N_base without embeddings: the g of G_stack. 1 where neither has any but embeddings."""
        base, target = self.base.n_params_non_embedding, self.target.n_params_non_embedding
        return target / base if base else 1.0

    @property
    def g_width(self) -> float:
        """d_target / d_base."""
        return _width(self.target) / _width(self.base)

    @property
    def blocks_added(self) -> int:
        """Layers of one kind that the target has more than the base."""
        return n_blocks(self.target) - n_blocks(self.base)


def _width(shape: Shape) -> int:
    return shape.d_model if isinstance(shape, ModelShape) else shape.width


def widens(name: str, base: Shape, target: Shape) -> bool:
    """Whether an operator can make a target this wide: copies of the residual stream must be whole.

    Operators of width that keep no function, and zero_pad, take any ratio of widths; those of depth widen by tile.
    Without a stream, as in networks, any does.
    """
    chosen = operator(name)
    if isinstance(base, MLPShape) or name == "zero_pad" or (chosen.axis != "depth" and chosen.preserves == "none"):
        return True
    return isinstance(target, ModelShape) and target.d_model % base.d_model == 0


def widened_shape(base: ModelShape, factor: float) -> ModelShape:
    """The base with its width, kv heads and d_ff multiplied; heads keep their size and groups their members."""
    kv_heads = max(round(base.n_kv_heads * factor), 1)
    return replace(
        base,
        d_model=round(base.d_model * factor),
        n_heads=kv_heads * (base.n_heads // base.n_kv_heads),
        n_kv_heads=kv_heads,
        d_ff=round(base.d_ff * factor),
    )


def deepened_shape(base: Shape, wanted: float) -> Shape:
    """The base with as many more layers as come nearest to so many parameters, at least one."""

    def deeper(by: int) -> Shape:
        if isinstance(base, ModelShape):
            return replace(base, n_layers=base.n_layers + by)
        return replace(base, depth=base.depth + by)

    layer = deeper(1).n_params - base.n_params
    return deeper(max(round((wanted - base.n_params) / layer), 1))


def on_ladder(like: Shape, wanted: float, n_layers: int | None = None) -> Shape:
    """The ladder's shape of so many parameters, with `like`'s number of query heads a key-value head.

    n_layers, where it is given, is its depth.
    """
    if isinstance(like, MLPShape):
        return network_shape(wanted, like=like)
    ladder = shape_for(wanted, like, n_layers)
    sizes = {name: getattr(ladder, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    return replace(like, **sizes, n_kv_heads=max(sizes["n_heads"] * like.n_kv_heads // like.n_heads, 1))


def grown_shape(base: Shape, wanted: float) -> Shape:
    """The ladder's shape of about so many parameters, with no less d_ff than the base.

    The ladder meets counts with d_ff, so that its next deeper shape may have less, and growing never shrinks.
    """
    target = on_ladder(base, wanted)
    if isinstance(base, ModelShape) and isinstance(target, ModelShape):
        target = replace(target, d_ff=max(base.d_ff, target.d_ff))
    return target


def base_shape(target: Shape, wanted: float, name: str, n_layers: int | None = None) -> Shape:
    """The shape of about so many parameters that an operator grows to `target`.

    For one that adds layers, the target with fewer; for others, the ladder's (of n_layers, where the whole ladder
    has so many), with no more d_ff than the target: the ladder meets counts with it, and growing never shrinks.
    Raises InputError where there is none smaller, or none near.
    """
    if operator(name).axis == "depth":
        return _shallower(target, wanted)
    base = on_ladder(target, wanted, n_layers)
    if isinstance(base, ModelShape) and isinstance(target, ModelShape):
        base = replace(base, d_ff=min(base.d_ff, target.d_ff))
    if base.n_params >= target.n_params:
        raise InputError(f"no smaller base of {wanted:g} parameters for {target.n_params}: give a larger factor.")
    return _near(base, wanted, target, "a narrower model has")


def _shallower(target: Shape, wanted: float) -> Shape:
    """The target with as many fewer layers as come nearest to so many parameters, at least one fewer."""
    name = "n_layers" if isinstance(target, ModelShape) else "depth"
    fewer: list[Shape] = [replace(target, **{name: n}) for n in range(1, getattr(target, name))]  # type: ignore[arg-type]
    if not fewer:
        raise InputError("a target of one layer has no shallower base: grow it in width.")
    nearest = min(fewer, key=lambda shape: abs(math.log(shape.n_params / wanted)))
    return _near(nearest, wanted, target, "fewer layers give")


def near(n_params: float, wanted: float) -> bool:
    """Whether a count is about the one that was asked for: within NEAR."""
    return 1 / NEAR < n_params / wanted < NEAR


def _near(base: Shape, wanted: float, target: Shape, how: str) -> Shape:
    """The base, if its count is near the one wanted. Raises InputError that names the factor it would make."""
    if not near(base.n_params, wanted):
        factor = target.n_params / base.n_params
        raise InputError(f"{how} {base.n_params} parameters, not {wanted:g}: give a factor near {factor:.3g}.")
    return base
