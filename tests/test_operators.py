"""Growth on named axes, in float64: what is said to preserve does, what is not does not, and moments follow.

Exactness at step 0 in both directions, the gradient law, the trajectory of five AdamW steps, composition, no
aliasing.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from training import TINY, tiny_config, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, Optimiser, Parametrisation, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.grow import grow_moments, grow_weights, target_config, widened_shape
from scalegrow.train.init import initialise
from scalegrow.train.model import Transformer
from scalegrow.train.mup import multipliers
from scalegrow.train.operators import Arguments, Plan, layer_map, plan
from scalegrow.train.optim import make_adamw

BASE = replace(TINY, d_model=12, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=20, vocab_size=40, context=10)
SHAPES = [
    BASE,
    replace(BASE, tied=False, biases=True, norm="layernorm", mlp="gelu", positions="learned"),
    replace(BASE, n_kv_heads=4, gate="headwise", qk_norm=True),
    replace(BASE, n_kv_heads=1, gate="elementwise", tied=False),
    replace(BASE, biases=True, norm="layernorm"),
]
TOKENS = torch.randint(0, 40, (3, 10), generator=torch.Generator().manual_seed(0))
EXACT_WIDTH = ("tile", "tile_noise", "split", "zero_pad")
EXACT_DEPTH = ("zero_insert", "identity_insert")


def config_of(shape: ModelShape, kind: str = "mup", **changes: Any) -> RunConfig:
    parametrisation = Parametrisation(kind, base_width=12, base_ff=20, base_head_dim=4, residual_multiplier=0.7)
    config = with_shape(tiny_config(parametrisation=parametrisation, **changes), **vars(shape))
    assert isinstance(config.model, Decoder)
    return replace(config, model=replace(config.model, norm_eps=1e-3))


def model_of(config: RunConfig, weights: dict[str, Tensor] | None = None) -> nn.Module:
    """In float64, with gains, biases and shifts away from where they start."""
    assert isinstance(config.model, Decoder)
    model = Transformer(config.model, multipliers(config)).double()
    if weights is not None:
        model.load_state_dict(weights, strict=False)
        return model
    initialise(dict(model.named_parameters()), decoder_parameters(config.model.shape), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def grown_model(model: nn.Module, config: RunConfig, growth: Plan) -> nn.Module:
    return model_of(target_config(config, growth), grow_weights(weights_of(model), config, growth))


def difference(one: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        return float((one(TOKENS) - other(TOKENS)).abs().max())


@pytest.mark.parametrize("kind", ["mup", "standard"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*EXACT_WIDTH, "net2net"])
def test_exact_width_operators_keep_the_function(name: str, shape: ModelShape, kind: str) -> None:
    config = config_of(shape, kind)
    model = model_of(config)
    wider = widened_shape(shape, 2)
    if name in ("zero_pad", "split", "tile"):  # d_ff at any ratio
        wider = replace(wider, d_ff=33)
    if name == "zero_pad":
        kv = shape.n_kv_heads + 1
        wider = replace(wider, d_model=19, n_heads=kv * shape.n_heads // shape.n_kv_heads, n_kv_heads=kv)
    if name == "net2net":  # its random copies cannot widen a normed stream
        wider = replace(wider, d_model=shape.d_model)
    grown = grown_model(model, config, plan(shape, wider, name))
    assert difference(model, grown) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", EXACT_DEPTH)
@pytest.mark.parametrize("layers", [3, 4, 5])
def test_exact_depth_operators_keep_the_function(depth: str, shape: ModelShape, layers: int) -> None:
    config = config_of(shape)
    model = model_of(config)
    deeper = plan(shape, replace(shape, n_layers=layers), depth)
    assert difference(model, grown_model(model, config, deeper)) < 1e-12
    both = plan(shape, replace(widened_shape(shape, 2), n_layers=layers), "tile", depth)
    assert difference(model, grown_model(model, config, both)) < 1e-12


@pytest.mark.parametrize("name", ["szp", "perturbative_copy", "scratch"])
def test_other_width_operators_do_not(name: str) -> None:
    config = config_of(BASE)
    model = model_of(config)
    grown = grown_model(model, config, plan(BASE, widened_shape(BASE, 2), name))
    assert difference(model, grown) > 1e-3


@pytest.mark.parametrize("name", ["stack", "interleave", "solar", "middle"])
def test_other_depth_operators_do_not(name: str) -> None:
    config = config_of(BASE)
    model = model_of(config)
    grown = grown_model(model, config, plan(BASE, replace(BASE, n_layers=4), name))
    assert difference(model, grown) > 1e-3


def test_a_perturbation_s_limit_is_the_exact_copy() -> None:
    config = config_of(BASE)
    model = model_of(config)
    wider = widened_shape(BASE, 2)
    plans = [plan(BASE, wider, "perturbative_copy", arguments=Arguments(noise=noise)) for noise in (1e-2, 1e-6)]
    far, near = (difference(model, grown_model(model, config, growth)) for growth in plans)
    assert near < 1e-3 * far


@pytest.mark.parametrize("rule", ["gain", "epsilon"])
def test_zero_pad_needs_both_of_its_norm_s_rules(rule: str) -> None:
    """Negative controls: leave the gain or the epsilon alone, and the function changes."""
    config = config_of(BASE)
    model = model_of(config)
    growth = plan(BASE, widened_shape(BASE, 2), "zero_pad")
    weights = grow_weights(weights_of(model), config, growth)
    target = target_config(config, growth)
    assert isinstance(target.model, Decoder)
    if rule == "gain":
        weights = {n: w / growth.norm_factor if "layernorm" in n else w for n, w in weights.items()}
    else:
        target = replace(target, model=replace(target.model, norm_eps=1e-3))
    assert difference(model, model_of(target, weights)) > 1e-6


def test_head_dimensions_grow_with_their_frequencies() -> None:
    config = config_of(BASE)
    model = model_of(config)
    longer = replace(BASE, head_dim=8)
    assert difference(model, grown_model(model, config, plan(BASE, longer, "zero_pad"))) < 1e-12
    with pytest.raises(InputError, match="whole factor"):
        plan(BASE, replace(BASE, head_dim=6), "zero_pad")


def gradient_gap(shape: ModelShape, k: int, name: str) -> float:
    """The largest distance of a grown model's gradients from C g E', relative to the largest gradient of all."""
    config = config_of(shape)
    model = model_of(config)
    growth = plan(shape, widened_shape(shape, k), name)
    grown = grown_model(model, config, growth)
    for each in (model, grown):
        F.cross_entropy(each(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    wanted = grow_moments({n: p.grad for n, p in model.named_parameters()}, config, growth, "first")
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    return max(float((p.grad - wanted[n]).abs().max()) for n, p in grown.named_parameters()) / largest


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(2, 3), st.sampled_from(("tile", "split")))
def test_gradients_grow_by_the_dual_rule(shape: ModelShape, k: int, name: str) -> None:
    """g' = C g E' for every tensor, whatever the shares of heads and units."""
    assert gradient_gap(replace(shape, tied=name == "split" or shape.tied), k, name) < 1e-9


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.tied])
def test_uneven_shares_of_the_stream_are_the_exception(shape: ModelShape) -> None:
    """A norm's backward pass mixes all coordinates and knows no shares: there moments follow only about."""
    assert gradient_gap(shape, 2, "split") > 1e-6


def train_steps(model: nn.Module, optimiser: torch.optim.AdamW, steps: range) -> None:
    for step in steps:
        tokens = torch.randint(0, 40, (3, 10), generator=torch.Generator().manual_seed(100 + step))
        optimiser.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()


def optimiser_of(model: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    assert isinstance(config.model, Decoder)
    return make_adamw(model, decoder_parameters(config.model.shape), config)


def trajectory_gap(shape: ModelShape, broken: str = "") -> float:
    """|logits| apart after five AdamW steps of base and grown from a state in the middle of training."""
    config = config_of(shape, optimiser=Optimiser(lr=0.01, eps=1e-3, weight_decay=0.1, clip=0.0))
    model = model_of(config)
    optimiser = optimiser_of(model, config)
    train_steps(model, optimiser, range(3))
    growth = plan(shape, widened_shape(shape, 2), "tile")
    target = target_config(config, growth)
    grown = grown_model(model, config, growth)
    other = optimiser_of(grown, target)
    state = {n: optimiser.state[p] for n, p in model.named_parameters()}
    first = grow_moments({n: s["exp_avg"] for n, s in state.items()}, config, growth, "first")
    second = grow_moments({n: s["exp_avg_sq"] for n, s in state.items()}, config, growth, "second")
    for name, parameter in grown.named_parameters():
        step = torch.tensor(3.0, dtype=torch.float32)
        other.state[parameter] = {"step": step, "exp_avg": first[name], "exp_avg_sq": second[name]}
        if broken == "moments":
            other.state[parameter]["exp_avg_sq"] = second[name] * 4
    for group in other.param_groups:
        if broken == "rate":
            group["lr"] = 0.01
        if broken == "decay":
            group["weight_decay"] = 0.1 if group["weight_decay"] else 0.0
        if broken == "epsilon":
            group["eps"] = 1e-3
    train_steps(model, optimiser, range(3, 8))
    train_steps(grown, other, range(3, 8))
    return difference(model, grown)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tiled_state_trains_as_its_base(shape: ModelShape) -> None:
    """P3: weights, moments, rates, decay and epsilon carried by muP's rules: the same function for five steps."""
    assert trajectory_gap(shape) < 1e-9


@pytest.mark.parametrize("rule", ["moments", "rate", "decay", "epsilon"])
def test_every_rule_of_the_trajectory_is_needed(rule: str) -> None:
    assert trajectory_gap(BASE, rule) > 1e-6


def test_tiling_twice_is_tiling_by_four() -> None:
    """P5: bitwise, since powers of two divide exactly."""
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    two, four = widened_shape(BASE, 2), widened_shape(BASE, 4)
    once = plan(BASE, two, "tile")
    twice = grow_weights(grow_weights(weights, config, once), target_config(config, once), plan(two, four, "tile"))
    at_once = grow_weights(weights, config, plan(BASE, four, "tile"))
    assert all(torch.equal(twice[name], at_once[name]) for name in at_once)


@pytest.mark.parametrize("name", ["tile", "zero_pad", "split", "net2net"])
def test_growing_nothing_changes_nothing(name: str) -> None:
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    grown = grow_weights(weights, config, plan(BASE, BASE, name))
    assert all(torch.equal(grown[each], weights[each]) for each in weights)


def test_a_child_shares_no_memory_with_its_parent() -> None:
    """P12, and no two layers of a child share storage, or a checkpoint would lose one."""
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    grown = grow_weights(weights, config, plan(BASE, replace(BASE, n_layers=4), "stack"))
    places = [tensor.data_ptr() for tensor in (*grown.values(), *weights.values())]
    assert len(set(places)) == len(places)


def test_queries_alone_cannot_be_tiled_as_a_list() -> None:
    """Query head j reads kv head j // group: growing queries alone repeats within groups, and stays exact."""
    shape = replace(BASE, n_kv_heads=2)
    config = config_of(shape)
    model = model_of(config)
    grown = grown_model(model, config, plan(shape, replace(shape, n_heads=8), "tile"))
    assert difference(model, grown) < 1e-12


@pytest.mark.parametrize("name", ["tile", "split", "net2net"])
def test_a_stream_that_cannot_be_copied_whole_names_the_way_out(name: str) -> None:
    with pytest.raises(InputError, match=r"choose d_model 24, or zero_pad or szp"):
        plan(BASE, replace(BASE, d_model=18), name)


def test_layer_maps_are_what_the_papers_say() -> None:
    assert layer_map(3, 6, "stack").source == (0, 1, 2, 0, 1, 2)
    assert layer_map(3, 6, "interleave").source == (0, 0, 1, 1, 2, 2)
    assert layer_map(3, 6, "zero_insert").inserted == {1, 3, 5}
    assert layer_map(32, 48, "solar").source == (*range(24), *range(8, 32)), "SOLAR's 32 to 48"
    assert layer_map(8, 12, "middle").source == (*range(6), *range(2, 6), *range(6, 8))
    with pytest.raises(InputError, match="even depth"):
        layer_map(4, 7, "solar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_ff": 10}, "growing never shrinks"),
        ({"norm": "layernorm"}, "differ in norm"),
        ({"context": 5, "positions": "learned"}, "differ in positions"),
    ],
)
def test_what_no_operator_does_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(BASE, replace(BASE, **change), "szp")


@pytest.mark.parametrize("wrong", [{"shrink": 2.0}, {"shrink": -0.1}, {"noise": -1.0}])
def test_impossible_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Arguments(**wrong)
