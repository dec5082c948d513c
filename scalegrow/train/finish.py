"""What operators do to a grown tensor beyond copying: fresh entries, noise, blocks, random readers, SZP."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scalegrow.train.axes import Kind, Parameter
from scalegrow.train.init import seed_of
from scalegrow.train.maps import along, any_axis
from scalegrow.train.operators import Plan

UNITS = ("heads", "kv_heads", "d_ff", "width")
NOISE = {"tile_noise": 0.1, "perturbative_copy": 0.1, "szp": 1.0}  # relative std where none is given


class Grown(NamedTuple):
    """A parameter of the target, grown by its maps, with what may be needed to finish it."""

    name: str
    tensor: Tensor
    spec: Parameter
    plan: Plan
    first: Callable[[str], Tensor]

    def fresh(self) -> Tensor:
        """The target's first weights in its place."""
        return self.first(self.name).to(self.tensor.dtype)

    @property
    def noise(self) -> float:
        """The relative std of the operator's noise."""
        told = self.plan.arguments.noise
        return NOISE[self.plan.operator] if told is None else told

    def random(self) -> Tensor:
        """Standard normal numbers of (seed, name), in the tensor's shape and type."""
        generator = torch.Generator().manual_seed(seed_of(self.plan.arguments.seed, f"noise/{self.name}"))
        dtype = torch.promote_types(self.tensor.dtype, torch.float32)
        return torch.randn(self.tensor.shape, generator=generator, dtype=dtype).to(self.tensor.dtype)


def finished(grown: Grown) -> Tensor:
    """The tensor as its operator leaves it."""
    kinds, finish = FINISHES.get(grown.plan.operator, ((), None))
    return finish(grown) if finish and grown.spec.kind in kinds else grown.tensor


def filled(grown: Grown) -> Tensor:
    """zero_pad: entries that change nothing are the target's first weights.

    They read new coordinates of the stream, which are zero, or make new heads and units, which nobody reads yet.
    """
    maps = grown.plan.maps
    free = any_axis(
        grown.spec,
        lambda axis: (
            maps[axis.name].source < 0
            if (axis.role == "in" and axis.name == "d_model") or (axis.role == "out" and axis.name in UNITS)
            else None
        ),
    )
    return torch.where(free, grown.fresh(), grown.tensor) if free.any() else grown.tensor


def shrunk(grown: Grown) -> Tensor:
    """SZP (arXiv 2605.13405): shrink x zero-padded + noise x the target's first weights."""
    return times(grown.fresh(), grown.noise).add_(grown.tensor, alpha=grown.plan.arguments.shrink)


def perturbed(grown: Grown) -> Tensor:
    """Independent noise of a std relative to the tensor's root mean square."""
    return grown.tensor + _relative_noise(grown)


def perturbed_in_pairs(grown: Grown) -> Tensor:
    """Noise that sums to zero over the copies of every input: equal copies cancel it (HyperCloning, any count)."""
    noise = _relative_noise(grown).reshape([axis.size for axis in grown.spec.axes])
    for dim, axis in enumerate(grown.spec.axes):
        if axis.role == "in" and axis.name in grown.plan.maps and axis.name != "head_dim":
            grows = grown.plan.maps[axis.name]
            group = torch.from_numpy(grows.source)
            sums = torch.zeros_like(noise.narrow(dim, 0, grows.n)).index_add_(dim, group, noise)
            means = sums / along(torch.bincount(group).to(noise.dtype), noise.dim(), dim)
            noise = noise - means.index_select(dim, group)
    return grown.tensor + noise.reshape(grown.tensor.shape)


def read_at_random(grown: Grown) -> Tensor:
    """random_copy: what reads new copies is random, of the inherited std, and all is divided by sqrt(copies).

    So the mean square of what is put out stays.
    """
    maps, copies = grown.plan.maps, 1.0
    read = [maps[axis.name] for axis in grown.spec.axes if axis.role == "in" and axis.name in maps]
    for grows in read:
        copies *= grows.size / grows.n if (grows.share == 0).any() else 1.0
    unread = any_axis(
        grown.spec, lambda axis: maps[axis.name].share == 0 if axis.role == "in" and axis.name in maps else None
    )
    if not unread.any():
        return grown.tensor
    std = grown.tensor[~unread].square().mean().sqrt()
    return torch.where(unread, std * grown.random(), grown.tensor) / math.sqrt(copies)


def block_diagonal(grown: Grown) -> Tensor:
    """Copy i of an output reads copy i (modulo their number) of its inputs alone (Staged, arXiv 2203.06211).

    Inputs' even shares become 1 and 0; where outputs have one copy they go on averaging.
    """
    spec, maps, n_dims = grown.spec, grown.plan.maps, len(grown.spec.axes)
    factors, outputs = torch.ones([1] * n_dims), torch.zeros([1] * n_dims, dtype=torch.int64)
    for dim, axis in enumerate(spec.axes):
        if axis.role == "out" and axis.name in maps:
            outputs = torch.maximum(outputs, along(maps[axis.name].rank, n_dims, dim))
    if not outputs.any():
        return grown.tensor
    for dim, axis in enumerate(spec.axes):
        if axis.role == "in" and axis.name in maps:
            grows = maps[axis.name]
            copies = along(grows.copies[grows.source.clip(0)], n_dims, dim)
            own = outputs % copies == along(grows.rank, n_dims, dim)
            factors = factors * torch.where(own, copies, torch.zeros_like(copies))
    whole = factors.expand([axis.size for axis in spec.axes]).reshape(spec.shape)
    return grown.tensor * whole.to(grown.tensor.dtype)


FINISHES: dict[str, tuple[tuple[Kind, ...], Callable[[Grown], Tensor]]] = {
    "zero_pad": (("hidden", "embedding"), filled),  # a network's first layer makes units too
    "szp": (("hidden", "head", "embedding"), shrunk),
    "tile_noise": (("hidden", "head"), perturbed_in_pairs),
    "perturbative_copy": (("hidden", "head", "embedding"), perturbed),
    "random_copy": (("hidden", "head"), read_at_random),
    "block_diagonal": (("hidden",), block_diagonal),
}


def times(tensor: Tensor, by: float) -> Tensor:
    """A tensor times a number; 1 costs nothing."""
    return tensor if by == 1 else tensor * by


def _relative_noise(grown: Grown) -> Tensor:
    return grown.noise * grown.tensor.square().mean().sqrt() * grown.random()
