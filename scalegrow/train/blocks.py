"""Growing a tensor a few rows at a time: memory bounded by a block, whatever the tensor's size."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from scalegrow.train.axes import Axis, Parameter
from scalegrow.train.grow import Grower
from scalegrow.train.maps import AxisMap, Mixture, Part

Rows = Callable[[str, int, int], Tensor]  # some rows of one of the base's parameters: name, first, how many
Draw = Callable[[str, Parameter], Tensor]  # first weights, from a seed's name and what is drawn

# Their noise follows a whole tensor's mean square, or its copies' sum.
WHOLE = ("tile_noise", "perturbative_copy", "random_copy")


def row_blocks(grower: Grower, name: str, limit: int) -> list[range]:
    """The first axis of one of the target's parameters in runs of at most `limit` numbers; whole where it must be.

    A run ends where copies begin anew, so that a block reads few of the base's rows.
    """
    spec = grower.new[name]
    axis, grows = spec.axes[0], _map(grower, spec)
    mixed = any(isinstance(grower.plan.maps.get(each.name), Mixture) for each in spec.axes)
    if len(spec.axes) == 1 or mixed or grower.plan.operator in WHOLE:
        return [range(axis.size)]
    step = max(limit * axis.size // spec.n_elements, 1)
    cuts, start = [], 0
    for row in range(1, axis.size + 1):
        if row == axis.size or row - start == step or (row % grows.n == 0 and row < axis.size):
            cuts.append(range(start, row))
            start = row
    return cuts


def grow_rows(grower: Grower, name: str, rows: range, read: Rows, draw: Draw) -> Tensor:
    """The rows (of the first axis) of one of the target's parameters, as Grower.weight has them."""
    spec = grower.new[name]
    axis = spec.axes[0]
    if len(rows) == axis.size:
        whole = replace(grower, first=lambda _: draw(name, spec))
        return whole.weight(name, lambda each: read(each, 0, grower.old[each].shape[0]))
    part, target = Part.of(_map(grower, spec), rows), _resized(spec, len(rows))
    base = grower.old[grower.source(name)]
    inner = base.shape[0] // base.axes[0].size
    used = {each: _resized(grower.old[each], part.n) for each in grower.sources(name)}
    block = replace(
        grower,
        plan=replace(grower.plan, maps=grower.plan.maps | {axis.name: part}),
        old=grower.old | used,
        new=grower.new | {name: target},
        first=lambda _: _first(block, f"{name}/{rows.start}", target, draw),
    )
    return block.weight(name, lambda each: read(each, part.low * inner, part.n * inner))


def _first(block: Grower, seed_name: str, spec: Parameter, draw: Draw) -> Tensor:
    """First weights; for zero_pad only the columns that read a wider stream, where old rows need no more."""
    *_, last = spec.axes
    grows = block.plan.maps[last.name]
    old = (block.plan.maps[spec.axes[0].name].source >= 0).all()
    if block.plan.operator != "zero_pad" or last.name != "d_model" or not old:
        return draw(seed_name, spec)
    new = replace(spec, dimensions=(spec.dimensions[0], (replace(last, size=grows.size - grows.n),)))
    return torch.nn.functional.pad(draw(seed_name, new), (grows.n, 0))


def _map(grower: Grower, spec: Parameter) -> AxisMap:
    return grower.plan.maps[spec.axes[0].name]


def _resized(spec: Parameter, size: int) -> Parameter:
    first, *rest = spec.dimensions[0]
    return replace(spec, dimensions=((Axis(first.name, size, first.role), *rest), *spec.dimensions[1:]))
