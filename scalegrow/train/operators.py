"""Growth operators: which coordinates of the target are which of the base, and what the new ones hold.

Every operator is a plan: a map for each axis (scalegrow.train.maps), a map of layers, and rules for what no map
decides (scalegrow.train.grow). Sources and exceptions are in docs/growth.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from scalegrow.errors import InputError
from scalegrow.growth import OPERATORS, operator
from scalegrow.runs.config import Init
from scalegrow.shape import MLPShape, ModelShape, Shape, n_blocks
from scalegrow.train.axes import AxisName
from scalegrow.train.maps import (
    AxisMap,
    first_share,
    mean_pad,
    of_groups,
    orthogonal_mixture,
    random_copies,
    stride_pad,
    tile,
    uneven,
    zero_pad,
)

AxisRule = Callable[[int, int], AxisMap]

LARGEST_NOISE = 1e6
INSERTED_ZERO, INSERTED_IDENTITY = "zero", "identity"


@dataclass(frozen=True)
class Layers:
    """source [L']: the base's block that each new one copies. inserted: those silenced, and how.

    mix [L', L], where it is given, says how much of each of the base's blocks a new one holds (LiGO).
    """

    source: tuple[int, ...]
    inserted: frozenset[int] = frozenset()
    silence: str = ""
    mix: Tensor | None = None


@dataclass(frozen=True)
class Arguments:
    """What operators may be told.

    shrink is SZP's lambda. noise is a std: for szp relative to the target's first weights, for tile_noise and
    perturbative_copy relative to each tensor's root mean square. norm_rescale lets SZP rescale gains as zero_pad
    does. share is what the readers of a structured non-clone take from its mixtures. learn_steps is how long LiGO
    learns its maps. gamma is that of the target's first weights, which new entries and SZP's noise are drawn from;
    None: the base's.
    """

    shrink: float = 0.4
    noise: float | None = None
    norm_rescale: bool = False
    seed: int = 0
    share: float = 0.25
    learn_steps: int = 100
    gamma: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.shrink <= 1:
            raise InputError(f"shrink = {self.shrink!r}: give a factor from 0 to 1, such as 0.4.")
        if self.noise is not None and not 0 <= self.noise <= LARGEST_NOISE:
            raise InputError(
                f"noise = {self.noise!r}: give a relative std from 0 to {LARGEST_NOISE:g}, such as 1."
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed = {self.seed}: give a whole number from 0 to 2^63 - 1.")
        if not 0 <= self.share <= 1:
            raise InputError(f"share = {self.share!r}: give a share from 0 to 1, such as 0.25.")
        if not 1 <= self.learn_steps <= 10**6:
            raise InputError(f"learn_steps = {self.learn_steps!r}: give a whole number from 1, such as 100.")
        if self.gamma is not None:
            Init(gamma=self.gamma)


@dataclass(frozen=True)
class Plan:
    """A growth, decided: maps by axis, layers, arguments."""

    operator: str
    depth_operator: str
    base: Shape
    target: Shape
    maps: dict[AxisName, AxisMap]
    layers: Layers
    arguments: Arguments = field(default_factory=Arguments)

    @property
    def rescales_norms(self) -> bool:
        """Whether gains and epsilons follow the stream's mean square; SZP does so only when told."""
        return self.arguments.norm_rescale if self.operator == "szp" else self.operator != "scratch"

    @property
    def norm_factor(self) -> float:
        """f: the root mean square of the grown stream over the base's; 1 where there is none.

        Gains grow by f and epsilons by f^2, so that norms put out what they did.
        """
        return math.sqrt(self.maps["d_model"].mean_square) if "d_model" in self.maps else 1.0

    @property
    def unties(self) -> bool:
        """Whether the target's head is a table of its own and the base's was the embedding."""
        return isinstance(self.base, ModelShape) and self.base.tied and not self.target.tied  # type: ignore[union-attr]


def plan(
    base: Shape,
    target: Shape,
    name: str,
    depth_name: str | None = None,
    arguments: Arguments | None = None,
) -> Plan:
    """How to grow base to target. Raises InputError where the operator's algebra does not allow it."""
    arguments = arguments or Arguments()
    chosen = operator(name)
    _require_growable(base, target)
    width_name = "tile" if chosen.axis == "depth" else name
    depth_name = depth_name or (name if chosen.axis == "depth" else _usual_depth_operator(base, width_name))
    if operator(depth_name).axis != "depth":
        adders = ", ".join(each.name for each in OPERATORS.values() if each.axis == "depth")
        raise InputError(f"{depth_name!r} does not add layers: choose {adders}.")
    if isinstance(base, MLPShape) and depth_name == "zero_insert" and n_blocks(target) > n_blocks(base):
        raise InputError("zero_insert needs a residual stream, which a network has not: choose identity_insert.")
    maps = axis_maps(base, target, width_name, arguments)
    layers = layer_map(n_blocks(base), n_blocks(target), depth_name)
    return Plan(name, depth_name, base, target, maps, layers, arguments)


def _usual_depth_operator(base: Shape, width_name: str) -> str:
    if operator(width_name).preserves != "exact":
        return "stack"
    return "zero_insert" if isinstance(base, ModelShape) else "identity_insert"


def axis_maps(base: Shape, target: Shape, name: str, arguments: Arguments) -> dict[AxisName, AxisMap]:
    """The map of every axis that width growth changes."""
    if name not in WIDENING:
        raise InputError(f"{name!r} does not widen: choose {', '.join(WIDENING)}.")
    rule = WIDENING[name](np.random.default_rng(arguments.seed), arguments)
    if isinstance(base, MLPShape) or isinstance(target, MLPShape):
        assert isinstance(base, MLPShape)
        assert isinstance(target, MLPShape)
        return {"width": rule(base.width, target.width)}
    stream = _stream_rule(base.norm, name, rule, tied=target.tied)
    kv_heads = rule(base.n_kv_heads, target.n_kv_heads)
    group = rule(base.n_heads // base.n_kv_heads, target.n_heads // target.n_kv_heads)
    return {
        "d_model": stream(base.d_model, target.d_model),
        "d_ff": rule(base.d_ff, target.d_ff),
        "kv_heads": kv_heads,
        "heads": of_groups(kv_heads, group),
        "head_dim": stride_pad(base.head_dim, target.head_dim),
        "vocab": zero_pad(base.vocab_size, target.vocab_size),
    }


# How heads, units and (but for _stream_rule) the residual stream widen.
WIDENING: dict[str, Callable[[np.random.Generator, Arguments], AxisRule]] = {
    "tile": lambda rng, told: tile,
    "tile_noise": lambda rng, told: tile,
    "perturbative_copy": lambda rng, told: tile,
    "asymmetric_reset": lambda rng, told: tile,
    "block_diagonal": lambda rng, told: tile,
    "ligo": lambda rng, told: tile,
    "split": lambda rng, told: lambda n, size: uneven(tile(n, size), rng),
    "zero_copy": lambda rng, told: lambda n, size: first_share(tile(n, size)),
    "random_copy": lambda rng, told: lambda n, size: first_share(tile(n, size)),
    "net2net": lambda rng, told: lambda n, size: random_copies(n, size, rng),
    "aki": lambda rng, told: lambda n, size: random_copies(n, size, rng),
    "zero_pad": lambda rng, told: zero_pad,
    "szp": lambda rng, told: zero_pad,
    "scratch": lambda rng, told: zero_pad,
    "structured_non_clone": lambda rng, told: lambda n, size: orthogonal_mixture(n, size, rng, told.share),
}
LOCKING = ("tile", "asymmetric_reset", "block_diagonal")  # copies are alike, but for moments
READS_FIRST = (
    "zero_copy",
    "random_copy",
)  # of new copies, which the rest of the operator is about


def _stream_rule(norm: str, name: str, rule: AxisRule, *, tied: bool) -> AxisRule:
    """How the residual stream widens: norms weigh its coordinates, and a tied table cannot weigh copies at all."""
    if name == "zero_pad":
        return mean_pad if norm == "layernorm" else zero_pad
    if operator(name).preserves == "none":
        return (lambda n, size: tile(n, size)) if tied and name in READS_FIRST else rule
    return _whole_copies(name, tile if tied or name == "net2net" else rule)


def _whole_copies(name: str, rule: AxisRule) -> AxisRule:
    """Copies of the residual stream must be whole, or its norm weighs some coordinates more than others."""

    def whole(n: int, size: int) -> AxisMap:
        if size % n:
            raise InputError(
                f"{name} copies the stream whole, and d_model {n} to {size} is no whole factor: choose "
                f"d_model {n * max(round(size / n), 2)}, or zero_pad or szp, which take any ratio."
            )
        return rule(n, size)

    return whole


def layer_map(n: int, size: int, name: str) -> Layers:
    """Which block each of the target's copies. Raises InputError where the operator cannot make that many."""
    if size == n:
        return Layers(tuple(range(n)))
    if n == 0:
        raise InputError("the base has no hidden-to-hidden layer to repeat: widen it instead.")
    spread = tuple(j * n // size for j in range(size))
    repeated = frozenset(j for j in range(1, size) if spread[j] == spread[j - 1])
    if name == "solar":
        return Layers(_overlapped(n, size))
    return {
        "stack": Layers(tuple(j % n for j in range(size))),
        "interleave": Layers(spread),
        "zero_insert": Layers(spread, repeated, INSERTED_ZERO),
        "identity_insert": Layers(spread, repeated, INSERTED_IDENTITY),
        "middle": Layers(_middle(n, size)),
    }[name]


def _overlapped(n: int, size: int) -> tuple[int, ...]:
    """The first half of the target from the base's beginning, the second up to its end (SOLAR's up-scaling)."""
    if size % 2 or not n < size <= 2 * n:
        raise InputError(
            f"solar joins two cut copies of {n} layers: choose an even depth up to {2 * n}, or stack."
        )
    return (*range(size // 2), *range(n - size // 2, n))


def _middle(n: int, size: int) -> tuple[int, ...]:
    """The middle half of the layers repeated in place (MIDAS)."""
    first, last = n // 4, max(n - n // 4, n // 4 + 1)
    extra = tuple(first + j % (last - first) for j in range(size - n))
    return (*range(last), *extra, *range(last, n))


KEPT = {
    ModelShape: ("positions", "norm", "mlp", "biases", "qk_norm", "gate", "context"),
    MLPShape: ("n_inputs", "n_outputs", "biases"),
}
SIZES = {
    ModelShape: ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size"),
    MLPShape: ("width", "depth"),
}


def _require_growable(base: Shape, target: Shape) -> None:
    """Refuse what no operator does."""
    if type(base) is not type(target):
        raise InputError("a decoder grows to a decoder, a network to a network: base and target are of two kinds.")
    for name in SIZES[type(base)]:
        old, new = getattr(base, name), getattr(target, name)
        if new < old:
            raise InputError(f"the target's {name} {new} is below the base's {old}: growing never shrinks.")
    for name in KEPT[type(base)]:
        if getattr(target, name) != getattr(base, name):
            raise InputError(f"base and target differ in {name}: growing keeps the architecture.")
    if isinstance(base, ModelShape) and isinstance(target, ModelShape):
        _require_growable_decoder(base, target)


def _require_growable_decoder(base: ModelShape, target: ModelShape) -> None:
    if target.tied and not base.tied:
        raise InputError("the base's head is a table of its own, and growing cannot tie it: leave it untied.")
    if base.qk_norm and base.head_dim != target.head_dim:
        raise InputError("head_dim cannot grow under QK-norm: grow the number of heads instead.")
    before, after = base.n_heads // base.n_kv_heads, target.n_heads // target.n_kv_heads
    if after < before:
        raise InputError(
            f"{after} query heads would share a key-value head where {before} did: grow both kinds of heads alike."
        )
