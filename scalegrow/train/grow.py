"""Grow a training state: weights and moments of a base into those of a target, by a plan.

Symbols: E copies values, C gives consumers their shares (scalegrow.train.maps); a, a scalar on a whole tensor.
A weight W' = a (E W C') has gradient g' = (1/a) (C g E'): moments follow, squared for the second.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.axes import Parameter, decoder_parameters
from scalegrow.train.init import first_values, seed_of
from scalegrow.train.maps import NEW, AxisMap, Side, grow_tensor
from scalegrow.train.mup import multipliers
from scalegrow.train.operators import INSERTED_IDENTITY, Plan

Tensors = dict[str, Tensor]
UNITS = ("heads", "kv_heads", "d_ff")
NOISE = {"tile_noise": 0.1, "perturbative_copy": 0.1, "szp": 1.0}  # relative std where none is given


def target_config(base: RunConfig, plan: Plan) -> RunConfig:
    """The target's config: the base's, with the target's shape and the epsilon its norms need.

    zero_pad multiplies the stream's mean square by n / n', so its epsilon shrinks alike; muP's base stays the
    base's, so rates and multipliers follow from the new widths.
    """
    assert isinstance(base.model, Decoder)
    factor = plan.norm_factor**2 if plan.rescales_norms else 1.0
    return replace(base, model=replace(base.model, shape=plan.target, norm_eps=factor * base.model.norm_eps))


def grow_weights(weights: Tensors, base: RunConfig, plan: Plan) -> Tensors:
    """The target's weights. Raises KeyError if one of the base's is missing."""
    config = target_config(base, plan)
    specs, old = decoder_parameters(plan.target), decoder_parameters(plan.base)
    grown = {}
    for name, spec in specs.items():
        source = source_of(name, plan)
        grown[name] = _grow_weight(name, weights[source], old[source], spec, base, config, plan)
    return grown


def grow_moments(moments: Tensors, base: RunConfig, plan: Plan, side: Side) -> Tensors:
    """First or second moments of the target's weights, by parameter name; zero where nothing is inherited."""
    config = target_config(base, plan)
    old = decoder_parameters(plan.base)
    grown = {}
    for name in decoder_parameters(plan.target):
        source = source_of(name, plan)
        scalar = 1.0 if plan.operator == "szp" else tensor_factor(name, base, config, plan)
        power = 2 if side == "second" else 1
        grown[name] = grow_tensor(moments[source], old[source], plan.maps, side) / scalar**power
    return grown


def source_of(name: str, plan: Plan) -> str:
    """The base's parameter that one of the target's comes from."""
    head, layers, rest = name.partition("model.layers.")
    if not layers:
        return name
    number, _, tail = rest.partition(".")
    return f"{head}{layers}{plan.layers.source[int(number)]}.{tail}"


def tensor_factor(name: str, base: RunConfig, target: RunConfig, plan: Plan) -> float:
    """a: what a whole tensor is multiplied by, so that the target's multipliers and norms add up to the base's."""
    old, new = multipliers(base), multipliers(target)
    if "q_proj" in name or "k_proj" in name:
        return math.sqrt(old.attention / new.attention)
    if "o_proj" in name or "down_proj" in name:
        return old.residual / new.residual
    if "embed" in name:
        return old.embedding / new.embedding
    if name.startswith("lm_head"):
        return old.logits / new.logits
    if name == "model.norm.weight":
        return plan.norm_factor * _tied_factor(base, target, plan)
    if name.endswith("layernorm.weight"):
        return plan.norm_factor
    if name == "model.norm.bias":
        return _tied_factor(base, target, plan)
    return 1.0


def _tied_factor(base: RunConfig, target: RunConfig, plan: Plan) -> float:
    """What the final norm must take over where the head is the embedding, which cannot be scaled for itself."""
    if not plan.base.tied:
        return 1.0
    old, new = multipliers(base), multipliers(target)
    copies = plan.maps["d_model"].uniform or 1
    return old.logits / (new.logits * copies * old.embedding / new.embedding)


def _grow_weight(
    name: str, weight: Tensor, old: Parameter, spec: Parameter, base: RunConfig, config: RunConfig, plan: Plan
) -> Tensor:
    fresh: Callable[[], Tensor] = lambda: first_values(name, spec, config).to(weight.dtype)  # noqa: E731
    if plan.operator == "scratch":
        return fresh()
    grown = grow_tensor(weight, old, plan.maps, "weight")
    if plan.operator == "szp":
        return _shrunk(name, grown, spec, plan, fresh)
    grown = grown * tensor_factor(name, base, config, plan)
    if spec.kind == "gain":
        ones = torch.full_like(grown, plan.norm_factor if spec.axes[0].name == "d_model" else 1.0)
        grown = torch.where(_new(spec, plan), ones, grown)
    elif "norm.bias" in name:  # a shift of a new coordinate would reach its readers
        grown = torch.where(_new(spec, plan), torch.zeros_like(grown), grown)
    elif plan.operator == "zero_pad" and spec.kind == "hidden":
        grown = torch.where(_free(spec, plan), fresh(), grown)
    if plan.operator == "tile_noise" and spec.kind in ("hidden", "head"):
        grown = grown + _paired_noise(name, grown, spec, plan)
    if plan.operator == "perturbative_copy" and spec.kind in ("hidden", "head", "embedding"):
        grown = grown + _noise(name, grown, plan)
    return _silenced(name, grown, plan)


def _shrunk(name: str, padded: Tensor, spec: Parameter, plan: Plan, fresh: Callable[[], Tensor]) -> Tensor:
    """SZP (arXiv 2605.13405): shrink x zero-padded + noise x the target's first weights; gains kept, new are 1."""
    if spec.kind == "gain":
        factor = plan.norm_factor if plan.rescales_norms and spec.axes[0].name == "d_model" else 1.0
        return torch.where(_new(spec, plan), torch.full_like(padded, factor), padded * factor)
    if spec.kind == "bias":
        return padded
    sigma = NOISE["szp"] if plan.arguments.noise is None else plan.arguments.noise
    return _silenced(name, plan.arguments.shrink * padded + sigma * fresh(), plan)


def _free(spec: Parameter, plan: Plan) -> Tensor:
    """Entries of a zero-padded matrix that change nothing.

    They read new coordinates of the stream, which are zero, or make new heads and units, which nobody reads yet.
    """
    free = torch.zeros([1] * len(spec.axes), dtype=torch.bool)
    for dim, axis in enumerate(spec.axes):
        reads_nothing = axis.role == "in" and axis.name == "d_model"
        unread = axis.role == "out" and axis.name in UNITS
        if reads_nothing or unread:
            free = free | _along(plan.maps[axis.name], len(spec.axes), dim)
    sizes = [axis.size for axis in spec.axes]
    return free.expand(sizes).reshape(spec.shape)


def _new(spec: Parameter, plan: Plan) -> Tensor:
    """Which entries of a vector (a gain, a shift) are new coordinates."""
    return _along(plan.maps[spec.axes[0].name], 1, 0)


def _along(grown: AxisMap, n_dims: int, dim: int) -> Tensor:
    shape = [1] * n_dims
    shape[dim] = grown.size
    return torch.from_numpy(grown.source <= NEW).view(shape)


def _paired_noise(name: str, grown: Tensor, spec: Parameter, plan: Plan) -> Tensor:
    """Noise that sums to zero over the copies of every input: equal copies cancel it (HyperCloning, any count)."""
    noise = _noise(name, grown, plan).reshape([axis.size for axis in spec.axes])
    for dim, axis in enumerate(spec.axes):
        if axis.role == "in" and axis.name in plan.maps and axis.name != "head_dim":
            group = torch.from_numpy(plan.maps[axis.name].source)
            sums = torch.zeros_like(noise.narrow(dim, 0, plan.maps[axis.name].n)).index_add_(dim, group, noise)
            counts = torch.bincount(group).to(noise.dtype)
            shape = [1] * noise.dim()
            shape[dim] = len(counts)
            noise = noise - (sums / counts.view(shape)).index_select(dim, group)
    return noise.reshape(grown.shape)


def _noise(name: str, grown: Tensor, plan: Plan) -> Tensor:
    """Independent noise of a std relative to the tensor's root mean square."""
    relative = NOISE[plan.operator] if plan.arguments.noise is None else plan.arguments.noise
    generator = torch.Generator().manual_seed(seed_of(plan.arguments.seed, f"noise/{name}"))
    noise = torch.randn(grown.shape, generator=generator, dtype=torch.float64).to(grown.dtype)
    return relative * grown.square().mean().sqrt() * noise


def _silenced(name: str, grown: Tensor, plan: Plan) -> Tensor:
    """Inserted layers write nothing: their last maps are zero, or (identity) their gains and biases are."""
    _, layers, rest = name.partition("model.layers.")
    if not layers or int(rest.partition(".")[0]) not in plan.layers.inserted:
        return grown
    if plan.layers.silence == INSERTED_IDENTITY:
        silent = "layernorm" in name or name.endswith(".bias")
    else:
        silent = "o_proj" in name or "down_proj" in name
    return torch.zeros_like(grown) if silent else grown


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
