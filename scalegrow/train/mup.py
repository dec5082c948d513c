"""muP as numbers: what the width of each axis does to multipliers, learning rates, decay and epsilon.

Symbols: k = size / base size of an axis; k_in, k_out the products over a parameter's in and out axes.
Sources: Yang et al. 2022 (arXiv 2203.03466), table 8; epsilon as in Everett et al. 2024 (arXiv 2407.05872).
"""

import math
from dataclasses import dataclass

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import FF_RATIO
from scalegrow.train.axes import AxisName, Parameter, block_of

GELU_FF_RATIO = 4


@dataclass(frozen=True)
class Multipliers:
    """What the forward pass multiplies by: embeddings, attention scores, residual writes, logits."""

    embedding: float
    attention: float
    residual: float
    logits: float


@dataclass(frozen=True)
class Scales:
    """AdamW's settings for one parameter, each relative to the optimiser's own."""

    lr: float
    weight_decay: float
    eps: float


def sizes_of(config: RunConfig) -> dict[AxisName, tuple[float, float]]:
    """(size, base size) of every axis that width scales."""
    base = config.parametrisation
    if not isinstance(config.model, Decoder):
        width = config.model.shape.width
        return {"width": (width, base.base_width), "d_model": (width, base.base_width)}
    shape = config.model.shape
    ratio = FF_RATIO if shape.mlp == "swiglu" else GELU_FF_RATIO
    head_dim = base.base_head_dim or shape.head_dim
    heads = max(base.base_width // head_dim, 1)
    return {
        "d_model": (shape.d_model, base.base_width),
        "d_ff": (shape.d_ff, base.base_ff or round(ratio * base.base_width)),
        "heads": (shape.n_heads, heads),
        "kv_heads": (shape.n_kv_heads, heads * shape.n_kv_heads / shape.n_heads),
        "head_dim": (shape.head_dim, head_dim),
    }


def multipliers(config: RunConfig) -> Multipliers:
    """muP: logits x base/width, attention head_dim^-1 x head_dim_base^1/2. Standard: logits x 1, head_dim^-1/2."""
    chosen = config.parametrisation
    sizes = sizes_of(config)
    mup = chosen.kind == "mup"
    width, base_width = sizes["d_model"]
    head_dim, base_head_dim = sizes.get("head_dim", (1, 1))
    usual = math.sqrt(base_head_dim) / head_dim if mup else 1 / math.sqrt(head_dim)
    return Multipliers(
        embedding=chosen.embedding_multiplier,
        attention=usual if chosen.attention_multiplier is None else chosen.attention_multiplier,
        residual=chosen.residual_multiplier,
        logits=chosen.logit_multiplier * (base_width / width if mup else 1.0),
    )


def scales(name: str, spec: Parameter, config: RunConfig) -> Scales:
    """AdamW's settings of a parameter: its parametrisation's, or those that a grown state carried along."""
    if config.start and config.start.rates:
        tail = in_every_layer(name)
        rate = next((each for each in config.start.rates if each.parameter == tail), None)
        if rate is None:
            raise InputError(f"the grown state carries no rate for {tail}: grow it again.")
        return Scales(rate.lr, rate.weight_decay, rate.eps)
    return parametrised(spec, config)


def in_every_layer(name: str) -> str:
    """A decoder's parameter's name without the number of its layer; a network's layers are of three kinds."""
    before, number, tail = block_of(name)
    return tail.removeprefix(".") if number is not None and before != "layers." else name


def parametrised(spec: Parameter, config: RunConfig) -> Scales:
    """muP: hidden matrices eta / k_in and decay x k_in; every tensor's epsilon / k_out. Standard: all 1.

    Gradients shrink as 1/k_out, so epsilon follows or it slowly takes over. The head's logit multiplier makes
    its width count as `out`: its learning rate stays.
    """
    if config.parametrisation.kind == "standard":
        return Scales(1.0, 1.0, 1.0)
    sizes = sizes_of(config)
    k_in = k_out = 1.0
    for axis in spec.axes:
        size, base = sizes.get(axis.name, (1, 1))
        if axis.role == "in" and spec.kind != "head":
            k_in *= size / base
        else:
            k_out *= size / base
    return Scales(lr=1 / k_in, weight_decay=k_in, eps=1 / k_out)
