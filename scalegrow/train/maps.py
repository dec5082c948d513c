"""How one axis grows, and how a tensor grows with its axes.

An axis of n coordinates x becomes one of n': x' = E x, each new coordinate a copy of an old one (or nothing, or
the mean of all). Whoever reads the axis must weigh the copies so that nothing changes: with consumer weights C,
C' E = I.
A parameter W that produces its `out` axes and reads its `in` axes then grows by
    W' = E_out W C_in'          the function is the base's
    g' = C_out g E_in'          gradients, and so first moments
    v' = C_out^2 v E_in^2'      second moments, elementwise squares
One rule for tile (C = 1/k), uneven splits (C sums to 1 over copies), zero-pad (E = C = [I; 0]) and mixtures, whose
E and C are any matrices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scalegrow.errors import InputError
from scalegrow.train.axes import Axis, AxisName, Parameter

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Side = Literal["weight", "first", "second"]  # a weight, a first moment (or gradient), a second moment

# A coordinate that copies nothing (zero), holds the mean of the old ones, or mixes them.
NEW, MEAN, MIXED = -1, -2, -3


@dataclass(frozen=True)
class AxisMap:
    """source [n']: the old coordinate each new one copies, NEW, MEAN or MIXED. share [n']: what readers give."""

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
    def rank(self) -> Ints:
        """Which copy of its source each new coordinate is, from 0; 0 too where it copies nothing, [n']."""
        order = np.argsort(self.source, kind="stable")
        ordered = self.source[order]
        first = np.searchsorted(ordered, ordered, side="left")
        rank = np.empty(self.size, dtype=np.int64)
        rank[order] = np.arange(self.size) - first
        return np.where(self.source >= 0, rank, 0)

    @property
    def fresh(self) -> NDArray[np.bool_]:
        """Coordinates that the base does not have: all but the first copy of each of its own, [n']."""
        return (self.source < 0) | (self.rank > 0)

    @property
    def copies_nothing(self) -> NDArray[np.bool_]:
        """Coordinates that are no old one, nor a mixture of them, [n']."""
        return (self.source == NEW) | (self.source == MEAN)

    @property
    def mean_square(self) -> float:
        """What growing does to the mean square of the axis: copies n / n', where all have as many copies.

        1 for mixtures, which keep it, and for uneven copies, where it holds on average only.
        """
        copies = self.copies
        if (self.source == MIXED).any() or (copies != copies[0]).any():
            return 1.0
        return float(copies[0]) * self.n / self.size

    @property
    def multiplicity(self) -> float:
        """E'E = multiplicity x I, on average where copies are uneven: what a tied head makes of the logits."""
        return float(((self.source >= 0) | (self.source == MIXED)).sum()) / self.n

    def matrices(self) -> tuple[Tensor, Tensor]:
        """(E, C), each [n', n], float64."""
        eye = torch.eye(self.n, dtype=torch.float64)
        return self.values(eye, 0), self.consumers(eye, 0)

    def values(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """E applied along a dimension (E^2 for power 2; the mean's entries are 1/n, then 1/n^2)."""
        grown = _picked(tensor, dim, self.source)
        if (self.source == MEAN).any():
            mean = tensor.mean(dim, keepdim=True) if power == 1 else tensor.mean(dim, keepdim=True) / self.n
            at = along(self.source == MEAN, grown.dim(), dim)
            grown = torch.where(at, mean.expand_as(grown), grown)
        return grown

    def normed(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """E as readers see it: behind a norm that centres them, coordinates that hold the mean are zero."""
        centred = AxisMap(self.n, np.where(self.source == MEAN, NEW, self.source), self.share)
        return centred.values(tensor, dim, power)

    def consumers(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """C applied along a dimension (C^2 for power 2)."""
        weight = self.share**power
        used = weight[self.source >= 0]
        if len(used) and (used == used[0]).all():  # weighed before they are copied: fewer products
            return _picked(tensor if used[0] == 1 else tensor * float(used[0]), dim, self.source)
        return _picked(tensor, dim, self.source) * along(weight, tensor.dim(), dim, tensor.dtype)


@dataclass(frozen=True, eq=False)
class Part(AxisMap):
    """Some consecutive new coordinates of an axis, from the few old ones that they need: for growing in blocks.

    What holds for the axis as a whole (which copy, how many, mean square) is the whole axis' answer.
    """

    whole: AxisMap
    rows: range
    low: int  # the first old coordinate

    @classmethod
    def of(cls, whole: AxisMap, rows: range) -> "Part":
        """New coordinates `rows` of a map that copies; a MEAN needs every old one."""
        source, share = whole.source[rows.start : rows.stop], whole.share[rows.start : rows.stop]
        needed = source[source >= 0]
        low, high = (int(needed.min()), int(needed.max()) + 1) if len(needed) else (0, 1)
        if (source == MEAN).any():
            low, high = 0, whole.n
        return cls(high - low, np.where(source >= 0, source - low, source), share, whole, rows, low)

    @property
    def rank(self) -> Ints:
        """Which copy of its source each new coordinate is in the whole axis."""
        return self.whole.rank[self.rows.start : self.rows.stop]

    @property
    def mean_square(self) -> float:
        """The whole axis'."""
        return self.whole.mean_square

    @property
    def multiplicity(self) -> float:
        """The whole axis'."""
        return self.whole.multiplicity


@dataclass(frozen=True, eq=False)
class Mixture(AxisMap):
    """New coordinates are linear mixtures of the old: E and C are matrices [n', n], learned or drawn."""

    e: Tensor
    c: Tensor

    @classmethod
    def of(cls, e: Tensor, c: Tensor) -> "Mixture":
        """The map of two matrices. Where E begins with the identity, the first n are the old coordinates."""
        size, n = e.shape
        head = e[:n].detach().double()
        old = torch.equal(head, torch.eye(n, dtype=torch.float64)) if size >= n else False
        source = np.full(size, MIXED)
        if old:
            source[:n] = np.arange(n)
        return cls(n, source, np.ones(size), e, c)

    def values(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """E applied along a dimension; for power 2 its entries' squares."""
        return _times(self.e, tensor, dim, power)

    def consumers(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """C applied along a dimension; for power 2 its entries' squares."""
        return _times(self.c, tensor, dim, power)

    def normed(self, tensor: Tensor, dim: int, power: int = 1) -> Tensor:
        """E again: no mixture is the mean."""
        return self.values(tensor, dim, power)


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


def first_share(base: AxisMap) -> AxisMap:
    """The same copies, of which consumers read the first alone."""
    return AxisMap(base.n, base.source, np.where((base.source >= 0) & (base.rank == 0), 1.0, 0.0))


def orthogonal_mixture(n: int, size: int, rng: np.random.Generator, share: float) -> AxisMap:
    """x' = [x; R x], R's rows orthonormal (in blocks of n where there are more); C = [I - share R'R; share R].

    So C'E = I. New coordinates stay in the subspace that the old ones span, and none is a clone of one.
    """
    blocks = []
    for start in range(n, size, n):
        q, r = np.linalg.qr(rng.standard_normal((n, n)))
        blocks.append((q * np.sign(np.diag(r)))[: min(n, size - start)])
    if not blocks:
        return tile(n, size)
    mix, eye = np.concatenate(blocks), np.eye(n)
    e, c = np.concatenate((eye, mix)), np.concatenate((eye - share * mix.T @ mix, share * mix))
    return Mixture.of(torch.from_numpy(e), torch.from_numpy(c))


def of_groups(kv_heads: AxisMap, group: AxisMap) -> AxisMap:
    """Query heads as (kv head, member): query head j reads kv head j // group, so whole groups move together."""
    if isinstance(kv_heads, Mixture) or isinstance(group, Mixture):
        pairs = zip(kv_heads.matrices(), group.matrices(), strict=True)
        return Mixture.of(*(torch.kron(one, other) for one, other in pairs))
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


def grow_tensor(
    tensor: Tensor, spec: Parameter, maps: Mapping[AxisName, AxisMap], side: Side, *, raw: bool = False
) -> Tensor:
    """W', g' or v' of a parameter whose axes grow by these maps; axes without one stay. raw copies along all."""
    power = 2 if side == "second" else 1
    if not any(axis.name in maps for axis in spec.axes):
        return tensor.clone()
    grown = tensor.reshape([axis.size for axis in spec.axes])
    for dim, axis in enumerate(spec.axes):
        if axis.name in maps:
            grows = maps[axis.name]
            if raw or (side == "weight" and axis.role == "out"):
                grown = grows.values(grown, dim, power)
            elif side != "weight" and axis.role == "in":
                grown = grows.normed(grown, dim, power)
            else:
                grown = grows.consumers(grown, dim, power)
    grown = grown.reshape(_grown_shape(spec, maps))
    shared = grown.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    return grown.clone(memory_format=torch.contiguous_format) if shared else grown


def _grown_shape(spec: Parameter, maps: Mapping[AxisName, AxisMap]) -> list[int]:
    return [
        int(np.prod([maps[axis.name].size if axis.name in maps else axis.size for axis in axes]))
        for axes in spec.dimensions
    ]


RUNS = 16


def _picked(tensor: Tensor, dim: int, source: Ints) -> Tensor:
    """The coordinates that `source` names, zeros where it names none.

    Where they are a few runs of neighbours, as in tiles and pads, runs are joined: far quicker than one by one.
    The result may be a view.
    """
    none = source < 0
    breaks = (none[1:] != none[:-1]) | (~none[1:] & (np.diff(source) != 1))
    starts = [0, *(np.flatnonzero(breaks) + 1), len(source)]
    if len(starts) > RUNS + 1:
        grown = tensor.index_select(dim, torch.from_numpy(source.clip(0)))
        return grown * along(~none, grown.dim(), dim) if none.any() else grown
    runs = [_run(tensor, dim, int(source[i]), int(j - i)) for i, j in pairwise(starts)]
    return torch.cat(runs, dim) if len(runs) > 1 else runs[0]


def _run(tensor: Tensor, dim: int, first: int, length: int) -> Tensor:
    if first >= 0:
        return tensor.narrow(dim, first, length)
    return tensor.new_zeros(()).expand([*tensor.shape[:dim], length, *tensor.shape[dim + 1 :]])


def _times(matrix: Tensor, tensor: Tensor, dim: int, power: int) -> Tensor:
    used = matrix.to(tensor.dtype)
    return torch.tensordot(used.square() if power == 2 else used, tensor, dims=([1], [dim])).movedim(0, dim)


def along(values: Any, n_dims: int, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """A vector of an axis, shaped to go along one dimension."""
    vector = torch.as_tensor(values, dtype=dtype)
    shape = [1] * n_dims
    shape[dim] = len(vector)
    return vector.view(shape)


def any_axis(spec: Parameter, chosen: Callable[[Axis], Any]) -> Tensor:
    """Entries of a parameter that any of its axes chooses: bools along an axis, or None for none of it."""
    found = torch.zeros([1] * len(spec.axes), dtype=torch.bool)
    for dim, axis in enumerate(spec.axes):
        if (which := chosen(axis)) is not None:
            found = found | along(which, len(spec.axes), dim)
    return found.expand([axis.size for axis in spec.axes]).reshape(spec.shape)
