"""What every parameter is: its axes, each axis' role, its kind. No tensors here, so that growth can plan.

Names are those of Llama checkpoints. A dimension of a tensor may hold two axes, heads of head_dim each.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from scalegrow.shape import MLPShape, ModelShape

AxisName = Literal[
    "vocab", "positions", "d_model", "heads", "kv_heads", "head_dim", "d_ff", "width", "inputs", "outputs"
]
Role = Literal["in", "out"]
Kind = Literal["embedding", "hidden", "head", "gain", "bias"]
LAYER = re.compile(r"(.*?layers\.)(\d+)(\..*)")


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: `in` is summed over when the parameter is applied, `out` is produced."""

    name: AxisName
    size: int
    role: Role


@dataclass(frozen=True)
class Parameter:
    """A parameter: the axes of each of its dimensions, its kind, and whether it writes to the residual stream."""

    dimensions: tuple[tuple[Axis, ...], ...]
    kind: Kind
    writes_residual: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(math.prod(axis.size for axis in axes) for axes in self.dimensions)

    @property
    def fan_in(self) -> int:
        """How many inputs each output sums over: the product of the `in` axes, 1 if there is none."""
        return math.prod(axis.size for axis in self.axes if axis.role == "in")

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All axes, in order."""
        return tuple(axis for axes in self.dimensions for axis in axes)


def decoder_parameters(shape: ModelShape) -> dict[str, Parameter]:
    """Every parameter of a decoder by its name, in order. A tied head is the embedding and is not listed."""
    found = {"model.embed_tokens.weight": _table("vocab", shape.vocab_size, shape.d_model)}
    if shape.positions == "learned":
        found["model.embed_positions.weight"] = _table("positions", shape.context, shape.d_model)
    for layer in range(shape.n_layers):
        found |= {f"model.layers.{layer}.{name}": spec for name, spec in layer_parameters(shape).items()}
    found |= _norm("model.norm", shape)
    if not shape.tied:
        vocab, width = Axis("vocab", shape.vocab_size, "out"), Axis("d_model", shape.d_model, "in")
        found["lm_head.weight"] = Parameter(((vocab,), (width,)), "head")
    return found


def layer_parameters(shape: ModelShape) -> dict[str, Parameter]:
    """One block's parameters: attention, then the feed-forward network, each after its norm."""
    heads, kv_heads = _heads(shape, "heads", "out"), _heads(shape, "kv_heads", "out")
    hidden = (Axis("d_ff", shape.d_ff, "out"),)
    stream_in, stream_out = (Axis("d_model", shape.d_model, "in"),), (Axis("d_model", shape.d_model, "out"),)
    gates = {"none": (), "headwise": heads[:1], "elementwise": heads}[shape.gate]
    found = _norm("input_layernorm", shape)
    for name, out in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads), ("gate_proj", gates)):
        found |= _linear(f"self_attn.{name}", out, stream_in, shape.biases) if out else {}
    found |= _linear("self_attn.o_proj", stream_out, _heads(shape, "heads", "in"), shape.biases, writes=True)
    if shape.qk_norm:
        gain = Parameter(((Axis("head_dim", shape.head_dim, "out"),),), "gain")
        found |= {"self_attn.q_norm.weight": gain, "self_attn.k_norm.weight": gain}
    found |= _norm("post_attention_layernorm", shape)
    for name in ("gate_proj", "up_proj") if shape.mlp == "swiglu" else ("up_proj",):
        found |= _linear(f"mlp.{name}", hidden, stream_in, shape.biases)
    return found | _linear(
        "mlp.down_proj", stream_out, (Axis("d_ff", shape.d_ff, "in"),), shape.biases, writes=True
    )


def block_of(name: str) -> tuple[str, int | None, str]:
    """A parameter's name as (before, number of its layer, after); no number outside the layers."""
    found = LAYER.fullmatch(name)
    return (found[1], int(found[2]), found[3]) if found else (name, None, "")


def mlp_parameters(shape: MLPShape) -> dict[str, Parameter]:
    """Every parameter of a dense network: the first layer embeds, the last is the head, hidden ones between."""
    found: dict[str, Parameter] = {}
    for layer in range(shape.depth + 1):
        first, last = layer == 0, layer == shape.depth
        into = Axis("inputs", shape.n_inputs, "in") if first else Axis("width", shape.width, "in")
        out = Axis("outputs", shape.n_outputs, "out") if last else Axis("width", shape.width, "out")
        kind: Kind = "embedding" if first else "head" if last else "hidden"
        found[f"layers.{layer}.weight"] = Parameter(((out,), (into,)), kind)
        if shape.biases:
            found[f"layers.{layer}.bias"] = Parameter(((out,),), "bias")
    return found


def _table(name: AxisName, rows: int, width: int) -> Parameter:
    """A look-up table: a row is picked, nothing is summed, so neither axis counts as `in`."""
    return Parameter(((Axis(name, rows, "out"),), (Axis("d_model", width, "out"),)), "embedding")


def _heads(shape: ModelShape, name: AxisName, role: Role) -> tuple[Axis, Axis]:
    count = shape.n_heads if name == "heads" else shape.n_kv_heads
    return Axis(name, count, role), Axis("head_dim", shape.head_dim, role)


def _linear(
    name: str, out: tuple[Axis, ...], into: tuple[Axis, ...], biases: bool, *, writes: bool = False
) -> dict[str, Parameter]:
    found = {f"{name}.weight": Parameter((out, into), "hidden", writes)}
    return found | ({f"{name}.bias": Parameter((out,), "bias", writes)} if biases else {})


def _norm(name: str, shape: ModelShape) -> dict[str, Parameter]:
    width = (Axis("d_model", shape.d_model, "out"),)
    found = {f"{name}.weight": Parameter((width,), "gain")}
    shifted = shape.norm == "layernorm" and shape.biases
    return found | ({f"{name}.bias": Parameter((width,), "bias")} if shifted else {})
