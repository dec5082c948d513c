"""The symmetry detector: coordinates that no gradient will ever tell apart.

A partition of every axis' coordinates is equitable if, in every tensor, entries of one class sum alike over every
class of the other axis. Then equal coordinates compute equal values and get equal gradients, and a deterministic
step keeps it so: tiled copies and block-diagonal ones alike train as the small model for ever. The coarsest
equitable partition comes out of colour refinement (Weisfeiler & Leman 1968), from one class an axis.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scalegrow.train.axes import Axis, Parameter, block_of
from scalegrow.train.optim import YOUNG

Colours = dict[str, NDArray[np.int64]]
EXCHANGEABLE = ("d_model", "heads", "kv_heads", "d_ff", "width")
CLOSE = 1e-6  # of the largest: numbers this near are equal, since float32 sums depend on their order


def locked(
    weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], specs: dict[str, Parameter]
) -> dict[str, float]:
    """By axis, the share of coordinates that have a twin; axes without any are left out.

    Moments, where there are any, must be alike too: AdamW moves what they tell apart.
    """
    tensors = [
        (spec, name, tensor)
        for name, spec in specs.items()
        for tensor in (weights[name], *(moments[key] for key in _moments_of(name) if key in moments))
    ]
    colours = _refined(tensors)
    found: dict[str, list[float]] = {}
    for key, classes in colours.items():
        twins = np.bincount(classes)[classes] > 1
        found.setdefault(key.rpartition("/")[2], []).append(float(twins.mean()))
    shares = {axis: float(np.mean(values)) for axis, values in found.items()}
    return {axis: share for axis, share in shares.items() if share > 0}


def _moments_of(name: str) -> tuple[str, ...]:
    return tuple(f"{moment}.{name}" for moment in ("exp_avg", "exp_avg_sq", YOUNG))


def _refined(tensors: list[tuple[Parameter, str, Tensor]]) -> Colours:
    """The coarsest equitable partition of every exchangeable axis: classes by layer and axis."""
    sizes = {
        _key(name, axis): axis.size for spec, name, _ in tensors for axis in spec.axes if axis.name in EXCHANGEABLE
    }
    colours = {key: np.zeros(size, dtype=np.int64) for key, size in sizes.items()}
    while True:
        signatures = {key: [colours[key]] for key in colours}
        for spec, name, tensor in tensors:
            array = tensor.double().numpy().reshape([axis.size for axis in spec.axes])
            for dim, axis in enumerate(spec.axes):
                if axis.name in EXCHANGEABLE:
                    signatures[_key(name, axis)].append(_levels(_sums(array, spec.axes, dim, name, colours)))
        _group(signatures, colours)
        finer = {key: _classes(np.stack(parts, axis=1)) for key, parts in signatures.items()}
        if all(finer[key].max() == colours[key].max() for key in colours):
            return finer
        colours = finer


def _sums(
    array: NDArray[np.float64], axes: tuple[Axis, ...], dim: int, name: str, colours: Colours
) -> NDArray[np.float64]:
    """[n, ...]: an axis' coordinates, every other exchangeable axis summed over its classes."""
    moved = np.moveaxis(array, dim, 0)
    others = [axis for index, axis in enumerate(axes) if index != dim]
    for place, axis in enumerate(others, start=1):
        if axis.name in EXCHANGEABLE:
            members = np.eye(colours[_key(name, axis)].max() + 1)[colours[_key(name, axis)]]
            moved = np.moveaxis(np.tensordot(moved, members, axes=([place], [0])), -1, place)
    return moved.reshape(len(moved), -1)


def _levels(sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """Equal numbers for rows that are equal but for rounding, by their product with a random vector."""
    direction = np.random.default_rng(sums.shape[1]).standard_normal(sums.shape[1])
    values = sums @ direction
    order = np.argsort(values)
    apart = np.diff(values[order]) > CLOSE * np.abs(values).max()
    levels = np.zeros(len(values), dtype=np.int64)
    levels[order[1:]] = np.cumsum(apart)
    return levels


def _group(signatures: dict[str, list[NDArray[np.int64]]], colours: Colours) -> None:
    """Query heads know their key-value head's class, and key-value heads their query heads'."""
    for key in [key for key in colours if key.endswith("/kv_heads")]:
        queries = key.removesuffix("kv_heads") + "heads"
        group = len(colours[queries]) // len(colours[key])
        signatures[queries].append(np.repeat(colours[key], group))
        signatures[key] += list(np.sort(colours[queries].reshape(-1, group), axis=1).T)


def _classes(signature: NDArray[np.int64]) -> NDArray[np.int64]:
    """Equal rows get equal numbers."""
    return np.asarray(np.unique(signature, axis=0, return_inverse=True)[1]).reshape(-1)


def _key(name: str, axis: Axis) -> str:
    """An axis of one layer; the residual stream and a network's width in step with it are named by themselves."""
    if axis.name == "d_model":
        return "/d_model"
    _, number, _ = block_of(name)
    if axis.name == "width":  # what layer i produces, layer i + 1 reads
        return f"{number if axis.role == 'out' else (number or 0) - 1}/width"
    return f"{number}/{axis.name}"
