"""Growth operators: which coordinates of the target are which of the base, and what the new ones hold.

Every operator is a plan: a map for each axis (scalegrow.train.maps), a map of layers, and rules for what no map
decides. Sources and exceptions are in docs/growth.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scalegrow.errors import InputError
from scalegrow.growth import OPERATORS, operator
from scalegrow.shape import ModelShape
from scalegrow.train.axes import AxisName
from scalegrow.train.maps import (
    AxisMap,
    mean_pad,
    of_groups,
    random_copies,
    stride_pad,
    tile,
    uneven,
    zero_pad,
)

AxisRule = Callable[[int, int], AxisMap]

INSERTED_ZERO, INSERTED_IDENTITY = "zero", "identity"


@dataclass(frozen=True)
class Layers:
    """source [L']: the base's layer that each new one copies. inserted: those silenced, and how."""

    source: tuple[int, ...]
    inserted: frozenset[int] = frozenset()
    silence: str = ""


@dataclass(frozen=True)
class Arguments:
    """What operators may be told.

    shrink is SZP's lambda. noise is a std: for szp relative to the target's first weights, for tile_noise and
    perturbative_copy relative to each tensor's root mean square. norm_rescale lets SZP rescale gains as zero_pad
    does.
    """

    shrink: float = 0.4
    noise: float | None = None
    norm_rescale: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shrink <= 1:
            raise InputError(f"shrink = {self.shrink!r}: give a factor from 0 to 1, such as 0.4.")
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise InputError(f"noise = {self.noise!r}: give a relative std from 0, such as 1.")


@dataclass(frozen=True)
class Plan:
    """A growth, decided: maps by axis, layers, arguments."""

    operator: str
    depth_operator: str
    base: ModelShape
    target: ModelShape
    maps: dict[AxisName, AxisMap]
    layers: Layers
    arguments: Arguments = field(default_factory=Arguments)

    @property
    def rescales_norms(self) -> bool:
        """Whether gains and epsilons follow the stream's mean square; SZP does so only when told."""
        return self.arguments.norm_rescale if self.operator == "szp" else self.operator != "scratch"

    @property
    def norm_factor(self) -> float:
        """f = sqrt(copies n / n'): the root mean square of the grown stream over the base's.

        Gains grow by f and epsilons by f^2, so that norms put out what they did. Raises InputError where some
        coordinates of the stream have more copies than others: no norm keeps that.
        """
        stream = self.maps["d_model"]
        copies = stream.uniform if stream.uniform is not None else 1
        return math.sqrt(copies * stream.n / stream.size)


def plan(
    base: ModelShape,
    target: ModelShape,
    name: str,
    depth_name: str | None = None,
    arguments: Arguments | None = None,
) -> Plan:
    """How to grow base to target. Raises InputError where the operator's algebra does not allow it."""
    arguments = arguments or Arguments()
    chosen = operator(name)
    _require_growable(base, target)
    width_name = "tile" if chosen.axis == "depth" else name
    default = "zero_insert" if operator(width_name).preserves == "exact" else "stack"
    depth_name = depth_name or (name if chosen.axis == "depth" else default)
    if operator(depth_name).axis != "depth":
        adders = ", ".join(each.name for each in OPERATORS.values() if each.axis == "depth")
        raise InputError(f"{depth_name!r} does not add layers: choose {adders}.")
    maps = axis_maps(base, target, width_name, np.random.default_rng(arguments.seed))
    return Plan(
        name, depth_name, base, target, maps, layer_map(base.n_layers, target.n_layers, depth_name), arguments
    )


def axis_maps(
    base: ModelShape, target: ModelShape, name: str, rng: np.random.Generator
) -> dict[AxisName, AxisMap]:
    """The map of every axis that width growth changes."""
    rule, residual = _rules(base, target, name, rng)
    kv_heads = rule(base.n_kv_heads, target.n_kv_heads)
    group = rule(base.n_heads // base.n_kv_heads, target.n_heads // target.n_kv_heads)
    return {
        "d_model": residual(base.d_model, target.d_model),
        "d_ff": rule(base.d_ff, target.d_ff),
        "kv_heads": kv_heads,
        "heads": of_groups(kv_heads, group),
        "head_dim": stride_pad(base.head_dim, target.head_dim),
        "vocab": zero_pad(base.vocab_size, target.vocab_size),
    }


COPYING = ("tile", "tile_noise", "perturbative_copy")
PADDING = ("zero_pad", "szp", "scratch")


def _rules(base: ModelShape, target: ModelShape, name: str, rng: np.random.Generator) -> tuple[AxisRule, AxisRule]:
    """(rule of heads and d_ff, rule of the residual stream)."""
    if name in PADDING:
        return zero_pad, mean_pad if base.norm == "layernorm" and name == "zero_pad" else zero_pad
    if name in COPYING:
        return tile, _whole_copies(name)
    if name == "net2net":
        return (lambda n, size: random_copies(n, size, rng)), _whole_copies(name)
    if name == "split":
        whole = _whole_copies(name)
        # A tied table is read by the head and by the look-up: it cannot weigh its copies for one of them alone.
        stream = whole if base.tied else lambda n, size: uneven(whole(n, size), rng)
        return (lambda n, size: uneven(tile(n, size), rng)), stream
    raise InputError(f"{name!r} is not built yet: choose {', '.join((*COPYING, *PADDING, 'net2net', 'split'))}.")


def _whole_copies(name: str) -> AxisRule:
    """Copies of the residual stream must be whole, or its norm weighs some coordinates more than others."""

    def rule(n: int, size: int) -> AxisMap:
        if size % n:
            raise InputError(
                f"{name} copies the stream whole, and d_model {n} to {size} is no whole factor: choose "
                f"d_model {n * max(round(size / n), 2)}, or zero_pad or szp, which take any ratio."
            )
        return tile(n, size)

    return rule


def layer_map(n: int, size: int, name: str) -> Layers:
    """Which layer each of the target's copies. Raises InputError where the operator cannot make that many."""
    if size == n:
        return Layers(tuple(range(n)))
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


def _require_growable(base: ModelShape, target: ModelShape) -> None:
    """Refuse what no operator does."""
    for name in ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size"):
        old, new = getattr(base, name), getattr(target, name)
        if new < old:
            raise InputError(f"the target's {name} {new} is below the base's {old}: growing never shrinks.")
    for name in ("tied", "positions", "norm", "mlp", "biases", "qk_norm", "gate"):
        if getattr(target, name) != getattr(base, name):
            raise InputError(f"base and target differ in {name}: growing keeps the architecture.")
    if base.qk_norm and base.head_dim != target.head_dim:
        raise InputError("head_dim cannot grow under QK-norm: grow the number of heads instead.")
