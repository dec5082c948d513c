"""The decoder: counts equal to its shape's, causality, rotary positions, grouped keys, gates, multipliers."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from training import TINY, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, Init, Network, Parametrisation
from scalegrow.shape import MLPShape, ModelShape
from scalegrow.train.axes import decoder_parameters, mlp_parameters
from scalegrow.train.mlp import build_network
from scalegrow.train.model import build_decoder, rotation, turn

SHAPES = st.builds(
    lambda heads, kv, head_dim, **rest: ModelShape(
        n_heads=heads * kv, n_kv_heads=kv, head_dim=2 * head_dim, vocab_size=31, context=9, **rest
    ),
    heads=st.integers(1, 3),
    kv=st.integers(1, 2),
    head_dim=st.integers(1, 4),
    d_model=st.integers(1, 24),
    n_layers=st.integers(1, 3),
    d_ff=st.integers(1, 40),
    tied=st.booleans(),
    positions=st.sampled_from(("rope", "learned")),
    norm=st.sampled_from(("rmsnorm", "layernorm")),
    mlp=st.sampled_from(("swiglu", "gelu")),
    biases=st.booleans(),
    qk_norm=st.booleans(),
    gate=st.sampled_from(("none", "headwise", "elementwise")),
)
# One of each choice, and two mixtures.
VARIANTS = [
    TINY,
    replace(TINY, positions="learned", norm="layernorm", mlp="gelu", biases=True, tied=False),
    replace(TINY, qk_norm=True, gate="headwise", n_kv_heads=2),
    replace(TINY, gate="elementwise", biases=True, tied=False, mlp="gelu"),
]


def decoder(shape: ModelShape, **changes: object) -> torch.nn.Module:
    return build_decoder(replace(with_shape(tiny_config(), **vars(shape)), **changes)).eval()


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_tensors_are_what_the_axes_and_the_shape_say(shape: ModelShape) -> None:
    model, specs = decoder(shape), decoder_parameters(shape)
    tensors = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert tensors == {name: spec.shape for name, spec in specs.items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.n_params
    tables = ("embed_tokens", "embed_positions", "lm_head")
    inner = sum(p.numel() for name, p in model.named_parameters() if not any(t in name for t in tables))
    assert inner == shape.n_params_non_embedding


@settings(max_examples=30, deadline=None)
@given(SHAPES)
def test_flops_counted_by_torch_are_the_shape_s(shape: ModelShape) -> None:
    model = decoder(shape)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(torch.zeros(2, shape.context, dtype=torch.long))
    # Backward costs twice the forward pass: 3 x forward is a training step.
    assert 3 * counter.get_total_flops() == shape.flops_per_token_with_attention * 2 * shape.context
    specs = decoder_parameters(shape)
    matrices = sum(spec.n_elements for spec in specs.values() if spec.kind in ("hidden", "head"))
    head = specs["model.embed_tokens.weight"].n_elements if shape.tied else 0
    dense = 6 * (matrices + head)
    attention = 12 * shape.n_layers * shape.context * shape.n_heads * shape.head_dim
    assert dense + attention == shape.flops_per_token_with_attention


@pytest.mark.parametrize("shape", [MLPShape(7, 3, 4, 2), MLPShape(5, 1, 3, 1, biases=False)])
def test_a_network_is_what_its_axes_and_shape_say(shape: MLPShape) -> None:
    model, specs = build_network(tiny_network(model=Network(shape))), mlp_parameters(shape)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == {n: s.shape for n, s in specs.items()}
    assert sum(p.numel() for p in model.parameters()) == shape.n_params


@pytest.mark.parametrize("shape", VARIANTS)
def test_no_position_sees_a_later_one(shape: ModelShape) -> None:
    """By gradients: d logits[t] / d embedding[s] is zero for every s > t, and not for s = t."""
    model = decoder(shape)
    seen: list[torch.Tensor] = []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(torch.arange(10).unsqueeze(0))
    for t in (0, 4, 9):
        (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), seen[0], retain_graph=True)
        reached = gradient[0].abs().sum(-1)
        assert (reached[t + 1 :] == 0).all(), f"position {t} reads the future"
        assert (reached[: t + 1] > 0).all(), f"position {t} does not read all of the past"


def test_grouped_keys_are_repeated_keys() -> None:
    """Query head j reads kv head j // (H / G): a model with every kv head repeated is the same function."""
    grouped = decoder(replace(TINY, n_heads=4, n_kv_heads=2, head_dim=4)).double()
    full = decoder(replace(TINY, n_heads=4, n_kv_heads=4, head_dim=4)).double()
    weights = grouped.state_dict()
    for name, tensor in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = tensor.unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(weights)
    tokens = torch.randint(0, 256, (2, 12))
    torch.testing.assert_close(grouped(tokens), full(tokens), rtol=1e-10, atol=1e-12)


def test_rotation_turns_by_distance_alone() -> None:
    turns = rotation(replace(TINY, context=64), 10_000.0).double()
    q, k = torch.randn(2, 1, 1, 1, TINY.head_dim, dtype=torch.float64)

    def score(t: int, s: int) -> float:
        return float((turn(q, turns[:, t : t + 1]) * turn(k, turns[:, s : s + 1])).sum())

    assert score(9, 4) == pytest.approx(score(55, 50), abs=1e-6)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-3)


@pytest.mark.parametrize("gate", ["headwise", "elementwise"])
def test_a_gate_of_zero_weights_halves_attention(gate: str) -> None:
    """sigmoid(0) = 1/2, so doubling o_proj gives the ungated model."""
    plain, gated = decoder(TINY).double(), decoder(replace(TINY, gate=gate)).double()
    weights = gated.state_dict() | plain.state_dict()
    for name in weights:
        if "self_attn.gate_proj" in name:
            weights[name] = torch.zeros_like(weights[name])
        if "o_proj" in name:
            weights[name] = 2 * weights[name]
    gated.load_state_dict(weights)
    tokens = torch.randint(0, 256, (2, 12))
    torch.testing.assert_close(gated(tokens), plain(tokens), rtol=1e-10, atol=1e-12)


def test_qk_norm_takes_the_scale_of_queries_away() -> None:
    model = decoder(replace(TINY, qk_norm=True)).double()
    tokens = torch.randint(0, 256, (1, 12))
    queries = model.model.layers[0].self_attn.q_proj.weight
    with torch.no_grad():
        queries.mul_(100)  # away from the norm's epsilon
        before = model(tokens)
        queries.mul_(100)
    torch.testing.assert_close(model(tokens), before, rtol=1e-6, atol=1e-9)
    plain = decoder(TINY).double()
    before = plain(tokens)
    with torch.no_grad():
        plain.model.layers[0].self_attn.q_proj.weight.mul_(100)
    assert (plain(tokens) - before).abs().max() > 1e-2, "the control must notice"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_multiplier", 3.0),
        ("attention_multiplier", 0.9),
        ("residual_multiplier", 0.5),
        ("logit_multiplier", 2),
    ],
)
def test_every_multiplier_acts(name: str, value: float) -> None:
    tokens = torch.randint(0, 256, (1, 12))
    plain = decoder(TINY)(tokens)
    changed = decoder(TINY, parametrisation=Parametrisation(**{name: float(value)}))(tokens)
    assert (plain - changed).abs().max() > 1e-4
    if name == "logit_multiplier":
        torch.testing.assert_close(changed, 2 * plain)


def test_the_norm_s_epsilon_acts_on_small_streams() -> None:
    """P3's first setting: with a tiny embedding, eps 1e-5 shrinks what the blocks see and 1e-12 does not."""
    tokens = torch.randint(0, 256, (1, 12))

    def first_norm(eps: float) -> float:
        config = tiny_config(model=Decoder(TINY, norm_eps=eps), init=Init(embedding="std:0.0001"))
        stack = build_decoder(config).model
        return float(stack.layers[0].input_layernorm(stack.embed_tokens(tokens)).detach().square().mean().sqrt())

    assert first_norm(1e-12) == pytest.approx(1.0, abs=0.01)
    assert first_norm(1e-5) == pytest.approx(1e-4 / math.sqrt(1e-5), rel=0.1)


def test_dropout_acts_in_training_only() -> None:
    model = build_decoder(tiny_config(model=Decoder(TINY, dropout=0.5)))
    tokens = torch.randint(0, 256, (1, 12))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(("biases", "norm"), list(itertools.product((True, False), ("rmsnorm", "layernorm"))))
def test_biases_stand_where_the_shape_says(biases: bool, norm: str) -> None:
    names = [name for name, _ in decoder(replace(TINY, biases=biases, norm=norm)).named_parameters()]
    assert any("q_proj.bias" in name for name in names) == biases
    assert any("norm.bias" in name for name in names) == (biases and norm == "layernorm")
    assert not any("lm_head.bias" in name for name in names)


@pytest.mark.parametrize(
    ("field", "value"),
    [("norm_eps", 0.0), ("norm_eps", 2.0), ("dropout", 1.0), ("dropout", -0.1), ("rope_theta", 1.0)],
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"model.{field}"):
        Decoder(TINY, **{field: value})
