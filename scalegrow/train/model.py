"""A Llama-family decoder. Shapes: B sequences, T tokens, D d_model, H heads, G kv heads, K head_dim, V vocab.

Every choice of the architecture is a field of ModelShape or Decoder; every multiplier a number in the config.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.init import initialise
from scalegrow.train.mup import Multipliers, multipliers

QK_NORM_EPS = 1e-6  # as in Qwen3


class Transformer(nn.Module):
    """The decoder: tokens [B, T] -> logits [B, T, V]. Parameters are named as in Llama checkpoints."""

    def __init__(self, config: Decoder, scale: Multipliers) -> None:
        super().__init__()
        shape = config.shape
        self.config, self.scale = config, scale
        self.model = Stack(config, scale)
        self.lm_head = None if shape.tied else nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token at every position."""
        x_BTD = scaled(self.model(tokens_BT), self.scale.logits)
        return F.linear(x_BTD, (self.lm_head or self.model.embed_tokens).weight)


class Stack(nn.Module):
    """Embedding, blocks and the final norm: tokens [B, T] -> [B, T, D]."""

    rotation: Tensor

    def __init__(self, config: Decoder, scale: Multipliers) -> None:
        super().__init__()
        shape = config.shape
        self.config, self.scale = config, scale
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.d_model)
        learned = shape.positions == "learned"
        self.embed_positions = nn.Embedding(shape.context, shape.d_model) if learned else None
        if not learned:
            self.register_buffer("rotation", rotation(shape, config.rope_theta), persistent=False)
        self.layers = nn.ModuleList(Block(config, scale) for _ in range(shape.n_layers))
        self.norm = Norm(shape, config.norm_eps)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """What the head reads."""
        T = tokens_BT.shape[1]
        x_BTD = self.embed_tokens(tokens_BT)
        turns = None
        if self.embed_positions is None:
            turns = self.rotation[:, :T]
        else:
            x_BTD = x_BTD + self.embed_positions.weight[:T]
        x_BTD = scaled(x_BTD, self.scale.embedding)
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training)
        for block in self.layers:
            x_BTD = block(x_BTD, turns)
        return self.norm(x_BTD)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), each write times the residual multiplier."""

    def __init__(self, config: Decoder, scale: Multipliers) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        self.input_layernorm = Norm(config.shape, config.norm_eps)
        self.self_attn = Attention(config.shape, scale.attention, config.dropout)
        self.post_attention_layernorm = Norm(config.shape, config.norm_eps)
        self.mlp = FeedForward(config.shape)

    def forward(self, x_BTD: Tensor, turns: Tensor | None) -> Tensor:
        """The residual stream after this block."""
        x_BTD = self._add(x_BTD, self.self_attn(self.input_layernorm(x_BTD), turns))
        return self._add(x_BTD, self.mlp(self.post_attention_layernorm(x_BTD)))

    def _add(self, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        y_BTD = F.dropout(y_BTD, self.config.dropout, self.training)
        return torch.add(x_BTD, y_BTD, alpha=self.scale.residual)


class Attention(nn.Module):
    """Causal attention with grouped keys and values; optional QK-norm and output gate (arXiv 2505.06708)."""

    def __init__(self, shape: ModelShape, scale: float, dropout: float) -> None:
        super().__init__()
        self.shape, self.scale, self.dropout = shape, scale, dropout
        queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.d_model, queries, bias=shape.biases)
        self.k_proj = nn.Linear(shape.d_model, keys, bias=shape.biases)
        self.v_proj = nn.Linear(shape.d_model, keys, bias=shape.biases)
        gated = shape.gate != "none"
        self.gate_proj = nn.Linear(shape.d_model, shape.gate_width, bias=shape.biases) if gated else None
        self.o_proj = nn.Linear(queries, shape.d_model, bias=shape.biases)
        self.q_norm = Gain(shape.head_dim) if shape.qk_norm else None
        self.k_norm = Gain(shape.head_dim) if shape.qk_norm else None

    def projected(self, x_BTD: Tensor, turns: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries [B, H, T, K], keys and values [B, G, T, K], and the gate's values before the sigmoid."""
        shape = self.shape
        H, G, K = shape.n_heads, shape.n_kv_heads, shape.head_dim
        maps = [self.q_proj, self.k_proj, self.v_proj] + ([self.gate_proj] if self.gate_proj else [])
        joined = together(x_BTD, maps)
        q_k, v, gate = torch.split(joined, [(H + G) * K, G * K, shape.gate_width], dim=-1)
        q_k = q_k.reshape(*q_k.shape[:2], H + G, K)
        if self.q_norm and self.k_norm:
            gain = torch.cat((self.q_norm.weight.expand(H, K), self.k_norm.weight.expand(G, K)))
            q_k = F.rms_norm(q_k, (K,), eps=QK_NORM_EPS) * gain
        if turns is not None:
            q_k = turn(q_k, turns)
        q_BHTK, k_BGTK = torch.split(q_k.transpose(1, 2), [H, G], dim=1)
        return q_BHTK, k_BGTK, v.reshape(*v.shape[:2], G, K).transpose(1, 2), gate

    def forward(self, x_BTD: Tensor, turns: Tensor | None) -> Tensor:
        """Attention's write [B, T, D]."""
        shape = self.shape
        q_BHTK, k_BGTK, v_BGTK, gate = self.projected(x_BTD, turns)
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BGTK,
            v_BGTK,
            is_causal=True,
            scale=self.scale,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=shape.n_kv_heads < shape.n_heads,
        )
        y_BTHK = y_BHTK.transpose(1, 2)
        if shape.gate == "headwise":
            y_BTHK = y_BTHK * torch.sigmoid(gate).unsqueeze(-1)
        y_BTX = y_BTHK.flatten(2)
        if shape.gate == "elementwise":
            y_BTX = y_BTX * torch.sigmoid(gate)
        return self.o_proj(y_BTX)


class FeedForward(nn.Module):
    """SwiGLU, down(silu(gate x) * up x) (Shazeer 2020), or GELU, down(gelu(up x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        gated = shape.mlp == "swiglu"
        self.gate_proj = nn.Linear(shape.d_model, shape.d_ff, bias=shape.biases) if gated else None
        self.up_proj = nn.Linear(shape.d_model, shape.d_ff, bias=shape.biases)
        self.down_proj = nn.Linear(shape.d_ff, shape.d_model, bias=shape.biases)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The network's write [B, T, D]."""
        if self.gate_proj is None:
            return self.down_proj(F.gelu(self.up_proj(x_BTD)))
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Norm(nn.Module):
    """RMSNorm, or LayerNorm with a shift where the shape has biases."""

    def __init__(self, shape: ModelShape, eps: float) -> None:
        super().__init__()
        self.kind, self.eps = shape.norm, eps
        self.weight = nn.Parameter(torch.ones(shape.d_model))
        shifted = shape.norm == "layernorm" and shape.biases
        self.bias = nn.Parameter(torch.zeros(shape.d_model)) if shifted else None

    def forward(self, x: Tensor) -> Tensor:
        """x / RMS(x) * gain, or the standardised x * gain + shift."""
        if self.kind == "rmsnorm":
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Gain(nn.Module):
    """A gain of QK-norm, shared by all heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


def together(x: Tensor, maps: list[nn.Linear]) -> Tensor:
    """Several linear maps of one input as one product: fewer, larger matrix multiplications."""
    weight = torch.cat([each.weight for each in maps])
    return F.linear(x, weight, None if maps[0].bias is None else torch.cat([each.bias for each in maps]))


def scaled(x: Tensor, by: float) -> Tensor:
    """x times a multiplier; 1 costs nothing."""
    return x if by == 1 else x * by


def rotation(shape: ModelShape, theta: float) -> Tensor:
    """[2, T, 1, K]: cosines and signed sines of t theta^(-2i/K), each pair's angle twice (Su et al. 2021; Llama).

    The sines of the first half are negative: coordinate i takes -sin of its partner i + K/2.
    """
    pairs = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), theta**-pairs)
    sines = torch.cat((-angles.sin(), angles.sin()), dim=1)
    return torch.stack((angles.cos().repeat(1, 2), sines))[:, :, None].float()


def turn(x_BTNK: Tensor, turns: Tensor) -> Tensor:
    """Rotate the pairs (i, i + K/2) of every head by its position's angles."""
    cosines, sines = turns.to(x_BTNK.dtype)
    return torch.addcmul(x_BTNK * cosines, x_BTNK.roll(x_BTNK.shape[-1] // 2, -1), sines)


def build_decoder(config: RunConfig, device: str | torch.device = "cpu") -> Transformer:
    """A decoder with its first weights."""
    if not isinstance(config.model, Decoder):
        raise TypeError("build_decoder wants a decoder's config")
    model = Transformer(config.model, multipliers(config))
    initialise(dict(model.named_parameters()), decoder_parameters(config.model.shape), config)
    return model.to(device)
