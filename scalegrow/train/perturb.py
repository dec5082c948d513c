"""Noise that operators add to copies: independent, or opposite on copies so that it cancels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from scalegrow.train.axes import AxisName, Parameter
from scalegrow.train.init import seed_of
from scalegrow.train.maps import AxisMap


def random_like(tensor: Tensor, seed: int, name: str) -> Tensor:
    """Standard normal numbers of (seed, name), in a tensor's shape and type."""
    generator = torch.Generator().manual_seed(seed_of(seed, f"noise/{name}"))
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return torch.randn(tensor.shape, generator=generator, dtype=dtype).to(tensor.dtype)


def relative_noise(name: str, grown: Tensor, relative: float, seed: int) -> Tensor:
    """Independent noise of a std relative to the tensor's root mean square."""
    return relative * grown.square().mean().sqrt() * random_like(grown, seed, name)


def paired_noise(
    name: str, grown: Tensor, spec: Parameter, maps: Mapping[AxisName, AxisMap], relative: float, seed: int
) -> Tensor:
    """Noise that sums to zero over the copies of every input: equal copies cancel it (HyperCloning, any count)."""
    noise = relative_noise(name, grown, relative, seed).reshape([axis.size for axis in spec.axes])
    for dim, axis in enumerate(spec.axes):
        if axis.role == "in" and axis.name in maps and axis.name != "head_dim":
            group = torch.from_numpy(maps[axis.name].source)
            sums = torch.zeros_like(noise.narrow(dim, 0, maps[axis.name].n)).index_add_(dim, group, noise)
            counts = torch.bincount(group).to(noise.dtype)
            shape = [1] * noise.dim()
            shape[dim] = len(counts)
            noise = noise - (sums / counts.view(shape)).index_select(dim, group)
    return noise.reshape(grown.shape)
