"""How one axis grows, and how a tensor grows with its axes.

An axis of n coordinates x becomes one of n': x' = E x, each new coordinate a copy of an old one (or nothing, or
the mean of all). Whoever reads the axis must weigh the copies so that nothing changes: with consumer weights C,
C' E = I.
A parameter W that produces its `out` axes and reads its `in` axes then grows by
    W' = E_out W C_in'          the function is the base's
    g' = C_out g E_in'          gradients, and so first moments
    v' = C_out^2 v E_in^2'      second moments, elementwise squares
One rule for tile (C = 1/k), uneven splits (C sums to 1 over copies) and zero-pad (E = C = [I; 0]).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scalegrow.errors import InputError
from scalegrow.train.axes import AxisName, Parameter

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Side = Literal["weight", "first", "second"]  # a weight, a first moment (or gradient), a second moment

NEW, MEAN = -1, -2  # a coordinate that copies nothing (zero), or holds the mean of the old ones


@dataclass(frozen=True)
class AxisMap:
    """source [n']: the old coordinate each new one copies, NEW or MEAN. share [n']: C, what consumers give it."""

    n: int
    source: Ints
    share: Floats

    @property
    def size(self) -> int:
        """n'."""
        return len(self.source)

    @property
    def copies(self) -> Ints:
        """How often each old coordinate is there, [n]."""
        return np.bincount(self.source[self.source >= 0], minlength=self.n)

    @property
    def uniform(self) -> int | None:
        """The number of copies if every old coordinate has as many, and none is the mean; None otherwise."""
        copies = self.copies
        same = (copies == copies[0]).all() and not (self.source == MEAN).any()
        return int(copies[0]) if same else None

    def values(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """E applied along a dimension (E^2 for power 2; the mean's entries are 1/n, then 1/n^2)."""
        grown = tensor.index_select(dim, torch.from_numpy(self.source.clip(0)))
        if (self.source == NEW).any():
            grown = grown * _along((self.source != NEW).astype(np.float64), grown, dim)
        if (self.source == MEAN).any():
            mean = tensor.mean(dim, keepdim=True) if power == 1 else tensor.mean(dim, keepdim=True) / self.n
            at = _along((self.source == MEAN).astype(np.float64), grown, dim)
            grown = torch.where(at > 0, mean.expand_as(grown), grown)
        return grown

    def consumers(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """C applied along a dimension (C^2 for power 2)."""
        grown = tensor.index_select(dim, torch.from_numpy(self.source.clip(0)))
        weight = np.where(self.source >= 0, self.share, 0.0) ** power
        return grown if (weight == 1).all() else grown * _along(weight, grown, dim)


def tile(n: int, size: int) -> AxisMap:
    """0 1 .. n-1 0 1 ..: whole copies, the last one perhaps cut short; consumers share evenly."""
    return even(n, np.arange(size) % n)


def even(n: int, source: Ints) -> AxisMap:
    """Any copies, shared evenly: C = 1 / (copies of the source)."""
    copies = np.bincount(source[source >= 0], minlength=n)
    return AxisMap(n, source, np.where(source >= 0, 1.0 / copies[source.clip(0)], 0.0))


def zero_pad(n: int, size: int) -> AxisMap:
    """The old coordinates first, then new ones that are zero."""
    source = np.concatenate((np.arange(n), np.full(size - n, NEW)))
    return AxisMap(n, source, (source >= 0).astype(np.float64))


def mean_pad(n: int, size: int) -> AxisMap:
    """The old coordinates first, then new ones that hold their mean: LayerNorm's way to widen at any ratio."""
    source = np.concatenate((np.arange(n), np.full(size - n, MEAN)))
    return AxisMap(n, source, (source >= 0).astype(np.float64))


def random_copies(n: int, size: int, rng: np.random.Generator) -> AxisMap:
    """The old coordinates first, then copies of random ones (Net2Net, Chen et al. 2015)."""
    return even(n, np.concatenate((np.arange(n), rng.integers(n, size=size - n))))


def uneven(base: AxisMap, rng: np.random.Generator) -> AxisMap:
    """The same copies with uneven consumer shares that still sum to 1 (LEMON, Wang et al. 2023)."""
    raw = np.where(base.source >= 0, rng.uniform(0.25, 0.75, size=base.size), 0.0)
    total = np.bincount(base.source.clip(0), weights=raw, minlength=base.n)
    return AxisMap(base.n, base.source, np.where(base.source >= 0, raw / total[base.source.clip(0)], 0.0))


def of_groups(kv_heads: AxisMap, group: AxisMap) -> AxisMap:
    """Query heads as (kv head, member): query head j reads kv head j // group, so whole groups move together."""
    kv, member = np.repeat(np.arange(kv_heads.size), group.size), np.tile(np.arange(group.size), kv_heads.size)
    old = (kv_heads.source[kv] >= 0) & (group.source[member] >= 0)
    source = np.where(old, kv_heads.source[kv] * group.n + group.source[member], NEW)
    return AxisMap(kv_heads.n * group.n, source, np.where(old, kv_heads.share[kv] * group.share[member], 0.0))


def stride_pad(n: int, size: int) -> AxisMap:
    """Head dimensions with their rotary frequencies kept: old pair i becomes pair k i, the rest is zero.

    omega'_(k i) = theta^(-2 k i / (k n)) = omega_i. Pairs are (i, i + n/2), as in Llama. Raises InputError unless
    size is a multiple of n.
    """
    if size % n:
        raise InputError(f"head_dim {n} cannot become {size} and keep its frequencies: grow it by a whole factor.")
    k, half = size // n, np.arange(n // 2)
    source = np.full(size, NEW)
    source[k * half], source[size // 2 + k * half] = half, n // 2 + half
    return AxisMap(n, source, (source >= 0).astype(np.float64))


def grow_tensor(tensor: Tensor, spec: Parameter, maps: Mapping[AxisName, AxisMap], side: Side) -> Tensor:
    """W', g' or v' of a parameter whose axes grow by these maps; axes without one stay."""
    power = 2 if side == "second" else 1
    grown = tensor.reshape([axis.size for axis in spec.axes])
    for dim, axis in enumerate(spec.axes):
        if axis.name in maps:
            reads = (axis.role == "in") == (side == "weight")
            apply = maps[axis.name].consumers if reads else maps[axis.name].values
            grown = apply(grown, dim, power)
    return grown.reshape(_grown_shape(spec, maps))


def _grown_shape(spec: Parameter, maps: Mapping[AxisName, AxisMap]) -> list[int]:
    return [
        int(np.prod([maps[axis.name].size if axis.name in maps else axis.size for axis in axes]))
        for axes in spec.dimensions
    ]


def _along(weight: Floats, like: Tensor, dim: int) -> Tensor:
    """A vector shaped to multiply along one dimension."""
    shape = [1] * like.dim()
    shape[dim] = len(weight)
    return torch.from_numpy(weight).to(like.dtype).view(shape)
