"""Model shapes: what a decoder or an MLP counts and costs, and the ladder from a size to a shape.

Symbols: N parameters, D tokens, C FLOPs, d = d_model, f = d_ff, L = n_layers, H = n_heads, V = vocab_size.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise
from typing import Literal, get_args

from scalegrow.errors import InputError
from scalegrow.units import format_count

Positions = Literal["rope", "learned"]
Norm = Literal["rmsnorm", "layernorm"]
Mlp = Literal["swiglu", "gelu"]
Gate = Literal["none", "headwise", "elementwise"]

FLOPS_PER_PARAM = 6  # C = 6 N D: two forward, four backward (Kaplan et al. 2020, section 2.1)
_CHOICES = {
    "positions": get_args(Positions),
    "norm": get_args(Norm),
    "mlp": get_args(Mlp),
    "gate": get_args(Gate),
}


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer, Llama-like unless told otherwise.

    context is the sequence length in tokens. biases puts one on every linear map but the head, and a shift
    in every LayerNorm. qk_norm normalises queries and keys, with one gain a head dimension (Qwen3). gate
    multiplies attention's output by the sigmoid of a linear map of its input, one value a head or one a
    coordinate (arXiv 2505.06708). Raises InputError if a size is not a positive whole number or the parts do
    not fit.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    tied: bool
    context: int
    positions: Positions = "rope"
    norm: Norm = "rmsnorm"
    mlp: Mlp = "swiglu"
    biases: bool = False
    qk_norm: bool = False
    gate: Gate = "none"

    def __post_init__(self) -> None:
        _check_sizes(self)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r} is unknown: choose {' or '.join(choices)}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_heads={self.n_heads} is no multiple of n_kv_heads={self.n_kv_heads}: "
                "give every key-value head as many query heads"
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise InputError(f"head_dim={self.head_dim} is odd, and rope turns pairs: make it even")

    @property
    def n_params(self) -> int:
        """N = token table + position table + L blocks + final norm + untied head."""
        return self.n_params_non_embedding + self._tables

    @property
    def n_params_non_embedding(self) -> int:
        """N without the token and position tables and without the untied head: blocks and norms."""
        return self._linear_weights + self._linear_biases + self._norms

    @property
    def flops_per_token(self) -> int:
        """6 N, N with embeddings: the C = 6 N D of Hoffmann et al. 2022 and of every run table here."""
        return FLOPS_PER_PARAM * self.n_params

    @property
    def flops_per_token_with_attention(self) -> int:
        """6 (linear weights + V d) + 12 L context H head_dim: training FLOPs per token, counted.

        The head multiplies, tied or not; looking a token up, norms and biases cost nothing. Scores and
        values take 2 * 2 * context * H * head_dim a layer forward, three times that with the backward pass,
        the causal mask not exploited (Chowdhery et al. 2022, PaLM, appendix B; Kaplan et al. 2020, table 1,
        count half of it).
        """
        matmuls = self._linear_weights + self.vocab_size * self.d_model
        attention = 12 * self.n_layers * self.context * self.n_heads * self.head_dim
        return FLOPS_PER_PARAM * matmuls + attention

    @property
    def _tables(self) -> int:
        token_tables = 1 if self.tied else 2
        positions = self.context if self.positions == "learned" else 0
        return (token_tables * self.vocab_size + positions) * self.d_model

    @property
    def _linear_weights(self) -> int:
        heads = 2 * (self.n_heads + self.n_kv_heads) * self.head_dim  # queries and output, keys and values
        matrices = 3 if self.mlp == "swiglu" else 2
        return self.n_layers * self.d_model * (heads + self.gate_width + matrices * self.d_ff)

    @property
    def gate_width(self) -> int:
        """Values of a layer's attention gate: 0, one a head, or one a coordinate of every head."""
        return {"none": 0, "headwise": self.n_heads, "elementwise": self.n_heads * self.head_dim}[self.gate]

    @property
    def _linear_biases(self) -> int:
        heads = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
        hidden = (2 if self.mlp == "swiglu" else 1) * self.d_ff
        per_layer = heads + self.gate_width + hidden + 2 * self.d_model
        return self.n_layers * per_layer if self.biases else 0

    @property
    def _norms(self) -> int:
        vectors = 2 if self.norm == "layernorm" and self.biases else 1
        queries_and_keys = 2 * self.n_layers * self.head_dim if self.qk_norm else 0
        return (2 * self.n_layers + 1) * vectors * self.d_model + queries_and_keys


@dataclass(frozen=True)
class MLPShape:
    """A dense network for regression: `depth` hidden layers of `width` units.

    Raises InputError if a size is not a positive whole number.
    """

    width: int
    depth: int
    n_inputs: int
    n_outputs: int
    biases: bool = True

    def __post_init__(self) -> None:
        _check_sizes(self)

    @property
    def n_params(self) -> int:
        """N = hidden to hidden + the first and the last layer, each with its biases."""
        outer = self.width * (self.n_inputs + self.n_outputs)
        biases = self.width + self.n_outputs if self.biases else 0
        return self.n_params_non_embedding + outer + biases

    @property
    def n_params_non_embedding(self) -> int:
        """(depth - 1) (width^2 + width): hidden to hidden only, the part that grows with width squared."""
        return (self.depth - 1) * (self.width**2 + (self.width if self.biases else 0))

    @property
    def flops_per_sample(self) -> int:
        """6 N, as for a token."""
        return FLOPS_PER_PARAM * self.n_params


Shape = ModelShape | MLPShape


def n_blocks(shape: Shape) -> int:
    """How many layers of one kind repeat: a decoder's blocks, a network's hidden-to-hidden layers."""
    return shape.n_layers if isinstance(shape, ModelShape) else shape.depth - 1


def gpt_shape(width: int) -> ModelShape:
    """The GPT ladder of arXiv 2605.13405 at this width, a multiple of 64: N = 96 d^2 + (2 * 50304 + 874) d.

    8 layers, heads of 64, learned positions of length 768, LayerNorm, GELU with f = 4 d, biases, untied
    head. Widths 128, 256, 512, 768 and 1280 give the published N to the parameter. Raises InputError.
    """
    if width < 64 or width % 64:
        raise InputError(f"width={width!r} has no whole heads of 64: give a multiple of 64")
    return ModelShape(
        d_model=width,
        n_layers=8,
        n_heads=width // 64,
        n_kv_heads=width // 64,
        head_dim=64,
        d_ff=4 * width,
        vocab_size=50304,
        tied=False,
        context=768,
        positions="learned",
        norm="layernorm",
        mlp="gelu",
        biases=True,
    )


NETWORK_DEPTH, NETWORK_INPUTS, NETWORK_OUTPUTS = 3, 16, 1
WIDEST_NETWORK = 10**6


def network_shape(n_params: float, like: MLPShape | None = None) -> MLPShape:
    """The dense network of about N parameters: three hidden layers of equal width, 16 inputs, one output.

    `like` gives another depth, inputs and outputs.
    """
    like = like or MLPShape(1, NETWORK_DEPTH, NETWORK_INPUTS, NETWORK_OUTPUTS)
    middle = like.depth - 1
    n_params = min(n_params, 1e15)
    # middle w^2 + (inputs + outputs + middle + 1) w + outputs = N
    linear = like.n_inputs + like.n_outputs + middle + 1
    rest = n_params - like.n_outputs
    width = (math.sqrt(linear**2 + 4 * middle * rest) - linear) / (2 * middle) if middle else rest / linear
    if not 1 <= round(width) <= WIDEST_NETWORK:
        raise InputError(f"{format_count(n_params)} parameters make no network: ask for 100 to 1T.")
    return replace(like, width=round(width))


def _check_sizes(shape: ModelShape | MLPShape) -> None:
    for field in fields(shape):
        value = getattr(shape, field.name)
        if field.type is int and (type(value) is not int or value < 1):
            raise InputError(f"{field.name}={value!r} is not a size: give a whole number above 0")
        if field.type is bool and type(value) is not bool:
            raise InputError(f"{field.name}={value!r} is neither true nor false: give one of them")


# The ladder. A rung is a width and a depth; width climbs in whole heads and depth follows it, and d_ff, about
# 8/3 of the width, meets the count between one rung and the next.

SMALLEST, LARGEST = 1e4, 1e12
MOST_LAYERS = 1000
CONTEXT = 2048
VOCABULARIES = ((0.0, 256), (1e6, 4096), (1e7, 32000))  # from about this count: bytes, small, Llama 2's
UNTIED_FROM_WIDTH = 2048  # about 1.2B: tied below, as in Llama 3.2 1B and Qwen2.5; untied above, as in Llama 2
HEAD_DIMS = ((16, 8), (64, 16), (128, 32), (256, 64), (3072, 128))  # from this width (3072: 3B), head size
WIDEST = 25600
DEPTHS = ((16, 1), (64, 3), (512, 10), (4096, 32), (18432, 118))  # (width, layers): Llama 2 7B, PaLM 540B
FF_RATIO = 8 / 3  # SwiGLU with the parameters of a 4 d GELU (Shazeer 2020)
FF_STEPS = ((16, 1), (256, 8), (2048, 64))  # from this width, d_ff is a multiple of this


def shape_for(n_params: float, like: ModelShape | None = None, n_layers: int | None = None) -> ModelShape:
    """The Llama-like shape of the ladder nearest to n_params parameters, embeddings counted.

    Within 1 % from 1e4 to 1e12. A larger request never gives fewer parameters, nor
    less width or depth, but where the vocabulary steps up: 256 below about 1e6, 4096 below about 1e7, then
    32000. Embeddings are tied below about 1.2e9. `like`, a shape of the ladder, gives the vocabulary, the
    tying and the head size instead, since growth keeps them; n_layers fixes the depth, and widths alone follow
    the count. Raises InputError outside 1e4 to 1e12.
    """
    if not SMALLEST <= n_params <= LARGEST:
        size = format_count(n_params, 6) if math.isfinite(n_params) else n_params
        bounds = f"{format_count(SMALLEST)} to {format_count(LARGEST)}"
        raise InputError(f"{size} parameters are off the ladder: ask for {bounds}.")
    if n_layers is not None:
        like = like or shape_for(n_params)
        if not 1 <= n_layers <= MOST_LAYERS:
            raise InputError(f"n_layers={n_layers!r} is out of range: give 1 to {MOST_LAYERS}.")
    stairs = rungs(like.vocab_size, like.tied, like.head_dim, n_layers) if like else ladder()
    above = max(bisect_right(stairs, n_params, key=_count), 1)
    lower = _widened(stairs[above - 1], n_params)
    upper = min((_step_up(lower), *stairs[above : above + 1]), key=_count)
    return min((lower, upper), key=lambda shape: abs(shape.n_params - n_params))


@cache
def ladder() -> tuple[ModelShape, ...]:
    """The rungs of every vocabulary, each from about the count where it starts, by count."""
    climbed: tuple[ModelShape, ...] = ()
    for start, vocab_size in VOCABULARIES:
        upper = tuple(rung for rung in rungs(vocab_size) if rung.n_params >= start)
        climbed = (*(rung for rung in climbed if rung.n_params < upper[0].n_params), *upper)
    return climbed


@cache
def rungs(
    vocab_size: int, tied: bool | None = None, head_dim: int | None = None, n_layers: int | None = None
) -> tuple[ModelShape, ...]:
    """Every width and depth, by count, each with the least d_ff it is used with.

    A rung takes over from the one before at the geometric mean of their counts at the usual d_ff.
    """
    stairs = _staircase(head_dim or 1) if n_layers is None else ((width, n_layers) for width in _widths(1))
    if head_dim is not None and head_dim > WIDEST:
        raise InputError(f"head_dim={head_dim} is wider than any model of the ladder: give at most {WIDEST}.")
    usual = [_usual_shape(*rung, vocab_size, tied, head_dim) for rung in stairs]
    middles = [math.sqrt(lower.n_params * upper.n_params) for lower, upper in pairwise(usual)]
    return usual[0], *map(_widened, usual[1:], middles)


def _staircase(multiple: int) -> Iterator[tuple[int, int]]:
    """(width, depth), one of them up at a time: a new width comes at the old depth first."""
    depth = 1
    for width in _widths(multiple):
        deeper = max(depth, _depth(width))
        yield from ((width, layers) for layers in range(depth, deeper + 1))
        depth = deeper


def _widths(multiple: int) -> Iterator[int]:
    """Widths of whole heads that are multiples of this number."""
    for (start, step), (stop, _) in pairwise((*HEAD_DIMS, (WIDEST + 1, 0))):
        yield from (width for width in range(start, stop, step) if width % multiple == 0)


def _depth(width: int) -> int:
    """Layers at this width: a power law from each anchor of DEPTHS to the next."""
    index = min(bisect_right(DEPTHS, width, key=lambda anchor: anchor[0]), len(DEPTHS) - 1)
    (low, shallow), (high, deep) = DEPTHS[index - 1 : index + 1]
    exponent = math.log(deep / shallow) / math.log(high / low)
    return round(shallow * math.pow(width / low, exponent))


def _usual_shape(width: int, depth: int, vocab_size: int, tied: bool | None, head_dim: int | None) -> ModelShape:
    """The rung with d_ff nearest to 8/3 of the width."""
    head_dim = head_dim or _at(width, HEAD_DIMS)
    step = _at(width, FF_STEPS)
    return ModelShape(
        d_model=width,
        n_layers=depth,
        n_heads=math.ceil(width / head_dim),
        n_kv_heads=math.ceil(width / head_dim),
        head_dim=head_dim,
        d_ff=round(FF_RATIO * width / step) * step,
        vocab_size=vocab_size,
        tied=width < UNTIED_FROM_WIDTH if tied is None else tied,
        context=CONTEXT,
    )


def _widened(rung: ModelShape, n_params: float) -> ModelShape:
    """The rung with the largest d_ff whose count is at most n_params, or with the least there is."""
    step = _at(rung.d_model, FF_STEPS)
    steps = math.floor((n_params - rung.n_params) / (3 * step * rung.d_model * rung.n_layers))
    return replace(rung, d_ff=max(rung.d_ff + steps * step, step))


def _step_up(shape: ModelShape) -> ModelShape:
    return replace(shape, d_ff=shape.d_ff + _at(shape.d_model, FF_STEPS))


def _at(width: int, table: tuple[tuple[int, int], ...]) -> int:
    return next(value for start, value in reversed(table) if width >= start)


def _count(shape: ModelShape) -> int:
    return shape.n_params
