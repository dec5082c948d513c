"""Growth on named axes, in float64: what is said to preserve does, what is not does not, and moments follow.

Exactness at step 0 in both directions, the gradient law, the trajectory of five AdamW steps, composition, no
aliasing.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor, nn
from torch.nn import functional as F
from training import TINY, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.growth import OPERATORS, Growth, Operator, widened_shape
from scalegrow.runs.config import Decoder, Network, Parametrisation, RunConfig
from scalegrow.shape import MLPShape, ModelShape
from scalegrow.train.axes import block_of, decoder_parameters
from scalegrow.train.grow import grow_moments, grow_weights, grower, target_config
from scalegrow.train.init import first_values, initialise, standard_deviation
from scalegrow.train.ligo import learn_maps
from scalegrow.train.maps import orthogonal_mixture
from scalegrow.train.mlp import build_network
from scalegrow.train.model import Transformer
from scalegrow.train.mup import multipliers, scales
from scalegrow.train.operators import WIDENING, Arguments, Plan, layer_map, plan
from scalegrow.train.restore import load_model
from scalegrow.train.task import task_for

BASE = replace(TINY, d_model=12, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=20, vocab_size=40, context=10)
SHAPES = [
    BASE,
    replace(BASE, tied=False, biases=True, norm="layernorm", mlp="gelu", positions="learned"),
    replace(BASE, n_kv_heads=4, gate="headwise", qk_norm=True),
    replace(BASE, n_kv_heads=1, gate="elementwise", tied=False),
    replace(BASE, biases=True, norm="layernorm"),
]
TOKENS = torch.randint(0, 40, (3, 10), generator=torch.Generator().manual_seed(0))
WIDTH = [each for each in OPERATORS.values() if each.axis != "depth" and each.name != "ligo"]  # it learns first
EXACT_WIDTH = [each.name for each in WIDTH if each.preserves == "exact"]
UNEVEN = ("split", "zero_copy")  # of the stream too, where the head is untied
LAWFUL = [name for name in EXACT_WIDTH if name != "tile_noise"]  # noise moves the gradients
EXACT_DEPTH = [each.name for each in OPERATORS.values() if each.axis == "depth" and each.preserves == "exact"]
NETWORK = MLPShape(10, 3, 4, 2)
INPUTS = torch.randn(7, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


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


def test_every_operator_is_held_to_what_it_declares() -> None:
    """The families below cover the registry: a new operator is tested the day it is listed."""
    assert {each.name for each in OPERATORS.values() if each.axis == "width"} - {"ligo"} <= WIDENING.keys()
    assert EXACT_WIDTH
    assert EXACT_DEPTH
    assert {each.preserves for each in WIDTH} == {"exact", "limit", "none"}


@pytest.mark.parametrize("kind", ["mup", "standard"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EXACT_WIDTH)
def test_exact_width_operators_keep_the_function(name: str, shape: ModelShape, kind: str) -> None:
    config = config_of(shape, kind)
    model = model_of(config)
    wider = replace(widened_shape(shape, 2), d_ff=33)  # units at any ratio
    if name == "zero_pad":
        kv = shape.n_kv_heads + 1
        wider = replace(wider, d_model=19, n_heads=kv * shape.n_heads // shape.n_kv_heads, n_kv_heads=kv)
    grown = grown_model(model, config, plan(shape, wider, name))
    assert difference(model, grown) < 1e-12


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(EXACT_WIDTH),
    st.sampled_from(SHAPES),
    st.integers(1, 3),
    st.integers(20, 50),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
)
def test_exact_operators_compose_with_any_axis(
    name: str, shape: ModelShape, k: int, d_ff: int, kv: int, layers: int, untie: bool
) -> None:
    """P1 over ratios, GQA groups, ties, norms and depth: whatever the axes that grow, the logits stay."""
    config = config_of(shape)
    model = model_of(config)
    group = shape.n_heads // shape.n_kv_heads
    target = replace(
        shape,
        d_model=12 * k,
        d_ff=d_ff,
        n_kv_heads=shape.n_kv_heads * kv,
        n_heads=shape.n_kv_heads * kv * group * (2 if kv == 1 else 1),
        n_layers=2 + layers,
        tied=shape.tied and not untie,
    )
    assert difference(model, grown_model(model, config, plan(shape, target, name))) < 1e-11


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


@pytest.mark.parametrize("name", [each.name for each in WIDTH if each.preserves != "exact"])
def test_other_width_operators_do_not(name: str) -> None:
    config = config_of(BASE)
    model = model_of(config)
    grown = grown_model(model, config, plan(BASE, widened_shape(BASE, 2), name))
    assert difference(model, grown) > 1e-3


@pytest.mark.parametrize(
    "name", [each.name for each in OPERATORS.values() if each.axis == "depth" and each.preserves != "exact"]
)
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
    growing = grower(config, growth)
    inherits = {name: growing.inherits(name) for name in wanted}
    return (
        max(float((inherits[n] * (p.grad - wanted[n])).abs().max()) for n, p in grown.named_parameters()) / largest
    )


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.integers(2, 3),
    st.sampled_from([each for each in EXACT_WIDTH if each != "tile_noise"]),
)
def test_gradients_grow_by_the_dual_rule(shape: ModelShape, k: int, name: str) -> None:
    """P2: g' = C g E' for every tensor, whatever the shares of heads and units, where something is inherited."""
    shape = replace(shape, tied=name in UNEVEN or shape.tied)
    if name == "zero_pad":
        shape = replace(shape, norm="rmsnorm")
    assert gradient_gap(shape, k, name) < 1e-9


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.norm == "layernorm"])
def test_a_stream_padded_with_its_mean_is_an_exception(shape: ModelShape) -> None:
    """LayerNorm's backward pass takes the mean over n' coordinates instead of n: moments follow only about."""
    assert 1e-9 < gradient_gap(shape, 2, "zero_pad") < 0.2


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.tied])
def test_uneven_shares_of_the_stream_are_the_exception(shape: ModelShape) -> None:
    """A norm's backward pass mixes all coordinates and knows no shares: there moments follow only about."""
    assert gradient_gap(shape, 2, "split") > 1e-6


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


@pytest.mark.parametrize("each", WIDTH, ids=lambda each: each.name)
def test_changing_a_child_never_changes_its_parent(each: Operator) -> None:
    """P12, also for tensors that do not grow."""
    config = tiny_network(model=Network(NETWORK))
    weights = weights_of(network_of(config))
    before = {name: tensor.clone() for name, tensor in weights.items()}
    for tensor in grow_weights(weights, config, plan(NETWORK, replace(NETWORK, width=20), each.name)).values():
        tensor.mul_(2).add_(1)
    assert all(torch.equal(weights[name], before[name]) for name in before)


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


# Networks.


def network_of(config: RunConfig, weights: dict[str, Tensor] | None = None) -> nn.Module:
    model = build_network(config).double()
    if weights is not None:
        model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("kind", ["mup", "standard"])
@pytest.mark.parametrize("each", WIDTH, ids=lambda each: each.name)
@pytest.mark.parametrize("width", [20, 23])
def test_networks_grow_by_every_operator(each: Operator, kind: str, width: int) -> None:
    config = tiny_network(model=Network(NETWORK), parametrisation=Parametrisation(kind, base_width=10))
    model = network_of(config)
    growth = plan(NETWORK, replace(NETWORK, width=width), each.name)
    grown = network_of(target_config(config, growth), grow_weights(weights_of(model), config, growth))
    with torch.no_grad():
        gap = float((model(INPUTS) - grown(INPUTS)).abs().max())
    assert gap < 1e-12 if each.preserves == "exact" else gap > 1e-3


@pytest.mark.parametrize(("name", "exact"), [("identity_insert", True), ("stack", False), ("middle", False)])
def test_networks_grow_deeper(name: str, exact: bool) -> None:
    config = tiny_network(model=Network(NETWORK))
    model = network_of(config)
    growth = plan(NETWORK, replace(NETWORK, depth=5, width=20), "tile", name)
    grown = network_of(target_config(config, growth), grow_weights(weights_of(model), config, growth))
    with torch.no_grad():
        assert (float((model(INPUTS) - grown(INPUTS)).abs().max()) < 1e-12) == exact
    with pytest.raises(InputError, match="choose identity_insert"):
        plan(NETWORK, replace(NETWORK, depth=5), "zero_insert")


# What single operators are defined to be.


def tensors_grown(
    name: str, tensor: str, target: ModelShape, **told: Any
) -> tuple[Tensor, dict[str, Tensor], Plan]:
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    growth = plan(BASE, target, name, arguments=Arguments(**told))
    return grow_weights(weights, config, growth)[tensor], weights, growth


def test_block_diagonal_copies_stand_side_by_side() -> None:
    grown, weights, _ = tensors_grown(
        "block_diagonal", "model.layers.0.mlp.down_proj.weight", widened_shape(BASE, 2)
    )
    old = weights["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(grown, torch.block_diag(old, old))


def test_aki_gives_new_outputs_the_next_layer_s_weights() -> None:
    """bert2BERT: new rows of layer l are those of the expanded l + 1; the last layer copies its own."""
    name = "model.layers.{}.mlp.up_proj.weight"
    wider = replace(BASE, d_ff=40)
    grown, weights, growth = tensors_grown("aki", name.format(0), wider)
    source = growth.maps["d_ff"].source
    assert torch.equal(grown[:20], weights[name.format(0)])
    assert torch.equal(grown[20:], weights[name.format(1)][source[20:]])
    last, _, _ = tensors_grown("aki", name.format(1), wider)
    assert torch.equal(last[20:], weights[name.format(1)][source[20:]])


def test_structured_non_clones_are_mixtures_that_invert() -> None:
    """C'E = I, the stream's mean square stays, and no new coordinate is a multiple of an old one."""
    for n, size in ((12, 24), (12, 17), (5, 12)):
        grown = orthogonal_mixture(n, size, np.random.default_rng(0), 0.25)
        e, c = grown.matrices()
        torch.testing.assert_close(c.T @ e, torch.eye(n, dtype=torch.float64))
        torch.testing.assert_close(e.square().sum(1), torch.ones(size, dtype=torch.float64))
        assert e[n:].abs().max() < 0.999
    x = torch.randn(12, dtype=torch.float64)
    doubled = orthogonal_mixture(12, 24, np.random.default_rng(0), 0.25).values(x, 0)
    torch.testing.assert_close(doubled.square().mean(), x.square().mean())


def test_random_copy_keeps_the_output_s_mean_square() -> None:
    """W' = [W, R] / sqrt 2 on [h; h]: R of W's mean square."""
    name = "model.layers.0.mlp.down_proj.weight"
    grown, weights, _ = tensors_grown("random_copy", name, replace(BASE, d_ff=40))
    torch.testing.assert_close(grown[:, :20], weights[name] / 2**0.5)
    assert grown[:, 20:].square().mean().sqrt() == pytest.approx(
        float(grown[:, :20].square().mean().sqrt()), rel=0.2
    )


def test_szp_is_what_its_formula_says() -> None:
    """lambda x zero-padded + sigma x the target's first weights, at every entry."""
    name, target = "model.layers.1.self_attn.q_proj.weight", widened_shape(BASE, 2)
    grown, weights, growth = tensors_grown("szp", name, target, shrink=0.3, noise=0.5)
    first = first_values(name, decoder_parameters(target)[name], target_config(config_of(BASE), growth)).double()
    padded = torch.zeros_like(grown)
    old = weights[name].reshape(4, 4, 12)
    padded.reshape(8, 4, 24)[:4, :, :12] = old  # the new key-value heads' queries come last
    torch.testing.assert_close(grown, 0.3 * padded + 0.5 * first)


def test_an_untied_head_is_the_embedding_and_a_padded_vocabulary_adds_nothing() -> None:
    config = config_of(BASE)
    model = model_of(config)
    target = replace(BASE, tied=False, vocab_size=48)
    grown = grown_model(model, config, plan(BASE, target, "zero_pad"))
    with torch.no_grad():
        assert float((grown(TOKENS)[..., :40] - model(TOKENS)).abs().max()) < 1e-12
        assert float(grown(TOKENS)[..., 40:].abs().max()) == 0
    with pytest.raises(InputError, match="cannot tie"):
        plan(target, replace(target, tied=True), "zero_pad")


# Invariants of the algebra.


def test_averaging_copies_gives_the_base_back() -> None:
    """P7: for weights and both moments, the mean over copies times what was divided is the base's, bit for bit."""
    config = config_of(BASE)
    model = model_of(config)
    growth = plan(BASE, widened_shape(BASE, 2), "tile")
    weights = weights_of(model)
    for side, grown in (
        ("weight", grow_weights(weights, config, growth)),
        ("first", grow_moments(weights, config, growth, "first")),
        ("second", grow_moments(weights, config, growth, "second")),
    ):
        shrunk = {name: collapsed(tensor, name, growth, side) for name, tensor in grown.items()}
        assert all(torch.equal(shrunk[name], weights[name]) for name in weights)


def collapsed(tensor: Tensor, name: str, growth: Plan, side: str) -> Tensor:
    """The left inverse of tiling, E'C-wise: sum over the copies of what was divided, mean over the others."""
    spec, old = decoder_parameters(growth.target)[name], decoder_parameters(growth.base)[name]
    found = tensor.reshape([axis.size for axis in spec.axes])
    for dim, axis in enumerate(spec.axes):
        if axis.name in growth.maps and (k := axis.size // growth.maps[axis.name].n) > 1:
            divided = (axis.role == "in") == (side == "weight")
            parts = found.unflatten(dim, (k, axis.size // k))
            found = parts.mean(dim) * (k ** (2 if side == "second" else 1) if divided else 1)
    return found.reshape(old.shape)


def test_renaming_units_and_growing_commute() -> None:
    """P6: permuted and grown is grown and permuted by copies, bitwise: heads move by groups, units one by one."""
    config = config_of(BASE)
    model = model_of(config)
    orders = {
        "kv_heads": torch.tensor([1, 0]),
        "heads": torch.tensor([2, 3, 0, 1]),
        "d_ff": torch.randperm(20, generator=torch.Generator().manual_seed(1)),
        "d_model": torch.randperm(12, generator=torch.Generator().manual_seed(2)),
    }
    permuted = permute(weights_of(model), BASE, orders)
    assert difference(model, model_of(config, permuted)) < 1e-12
    growth = plan(BASE, widened_shape(BASE, 2), "tile")
    by_copies = {name: torch.cat((order, len(order) + order)) for name, order in orders.items()}
    one = grow_weights(permuted, config, growth)
    other = permute(grow_weights(weights_of(model), config, growth), growth.target, by_copies)
    assert all(torch.equal(one[name], other[name]) for name in one)


def permute(weights: dict[str, Tensor], shape: ModelShape, orders: dict[str, Tensor]) -> dict[str, Tensor]:
    """Key-value heads (with their query heads), units and stream coordinates in another order."""
    found = {}
    for name, spec in decoder_parameters(shape).items():
        tensor = weights[name].reshape([axis.size for axis in spec.axes])
        for dim, axis in enumerate(spec.axes):
            if axis.name in orders:
                tensor = tensor.index_select(dim, orders[axis.name])
        found[name] = tensor.reshape(spec.shape)
    return found


def test_axes_grow_in_any_order() -> None:
    """P5: d_ff then d_model is d_model then d_ff, bitwise."""
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    units, stream = replace(BASE, d_ff=40), replace(BASE, d_model=24)
    both = replace(units, d_model=24)
    paths = []
    for middle in (units, stream):
        first = plan(BASE, middle, "tile")
        halfway = grow_weights(weights, config, first)
        paths.append(grow_weights(halfway, target_config(config, first), plan(middle, both, "tile")))
    assert all(torch.equal(paths[0][name], paths[1][name]) for name in paths[0])


def test_inserted_layers_can_be_taken_out_again() -> None:
    config = config_of(BASE)
    weights = weights_of(model_of(config))
    deeper = grow_weights(weights, config, plan(BASE, replace(BASE, n_layers=4), "zero_insert"))
    kept = {0: 0, 2: 1}
    for name, tensor in deeper.items():
        before, number, after = block_of(name)
        if number is None:
            assert torch.equal(tensor, weights[name])
        elif number in kept:
            assert torch.equal(tensor, weights[f"{before}{kept[number]}{after}"])


def test_frequencies_hold_far_beyond_the_training_length() -> None:
    """P8: rotary pairs stay where their frequencies are, at positions in the thousands."""
    shape = replace(BASE, context=4000)
    config = config_of(shape, budgets=("1M tokens",))
    model = model_of(config)
    grown = grown_model(model, config, plan(shape, replace(shape, head_dim=8, d_model=24), "zero_pad"))
    tokens = torch.randint(0, 40, (1, 4000), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert float((model(tokens) - grown(tokens)).abs().max()) < 1e-11


def test_bfloat16_halves_exactly_and_thirds_within_a_rounding() -> None:
    """P9: grown by two, then cast, is cast, then grown by two; by three, within a unit in the last place."""
    config = config_of(replace(BASE, tied=False))
    shape = replace(BASE, tied=False)
    weights = {name: tensor.float() for name, tensor in weights_of(model_of(config)).items()}
    cast = {name: tensor.bfloat16() for name, tensor in weights.items()}
    for k, exact in ((2, True), (3, False)):
        growth = plan(shape, widened_shape(shape, k), "tile")
        grown, native = grow_weights(weights, config, growth), grow_weights(cast, config, growth)
        for name in grown:
            one, other = grown[name].bfloat16(), native[name].bfloat16()
            assert torch.equal(one, other) if exact else torch.allclose(one, other, rtol=2**-7, atol=0)


@pytest.mark.parametrize("factor", [2, 3])
def test_counts_are_those_of_the_tensors(factor: int) -> None:
    """P13: N and the three g's again, from what was grown."""
    config = config_of(BASE)
    target = widened_shape(BASE, factor)
    growth = Growth(BASE, target, "tile")
    grown = grow_weights(weights_of(model_of(config)), config, plan(BASE, target, "tile"))
    n_params = sum(tensor.numel() for tensor in grown.values())
    assert n_params == target.n_params == pytest.approx(growth.g_params * BASE.n_params)
    embeddings = grown["model.embed_tokens.weight"].numel()
    assert n_params - embeddings == pytest.approx(growth.g_non_embedding * BASE.n_params_non_embedding)
    assert growth.g_width == factor


def test_what_is_drawn_afresh_has_the_target_s_std() -> None:
    """P14: zero_pad's free entries are normal with the std of the target's first weights (Kolmogorov-Smirnov)."""
    base = replace(BASE, d_model=48, d_ff=80)
    config = config_of(base)
    target = replace(base, d_model=96, d_ff=160)
    growth = plan(base, target, "zero_pad")
    name = "model.layers.0.mlp.up_proj.weight"
    grown = grow_weights(weights_of(model_of(config)), config, growth)[name]
    std = standard_deviation(decoder_parameters(target)[name], target_config(config, growth))
    drawn = torch.cat((grown[80:].flatten(), grown[:80, 48:].flatten())).numpy()
    assert kstest(drawn / std, "norm").pvalue > 0.01
    assert kstest(drawn / (1.1 * std), "norm").pvalue < 1e-3, "a tenth off is seen"


@pytest.mark.parametrize("name", ["tile", "zero_pad", "szp"])
def test_rates_of_a_grown_run_are_those_of_a_scratch_run(name: str) -> None:
    """P15: muP's rate, decay and epsilon follow the target's width, however it was reached."""
    config = config_of(BASE)
    growth = plan(BASE, widened_shape(BASE, 2), name)
    grown, scratch = target_config(config, growth), config_of(growth.target)
    for tensor, spec in decoder_parameters(growth.target).items():
        assert scales(tensor, spec, grown) == scales(tensor, spec, scratch)


def test_ligo_learns_maps_that_beat_where_they_start() -> None:
    config = tiny_config(batch=8)
    shape = config.model.shape
    task = task_for(config, Path())
    model = task.build("cpu")
    weights = weights_of(model)
    target = replace(widened_shape(shape, 2), n_layers=3)
    losses = []
    for steps in (1, 60, 60):
        growth = learn_maps(
            plan(shape, target, "ligo", arguments=Arguments(learn_steps=steps)), weights, config, task
        )
        grown = load_model(grow_weights(weights, config, growth), target_config(config, growth))
        with torch.no_grad():
            losses.append(float(task.loss(grown, task.batch(0, 64), "cpu")))
    assert losses[1] < losses[0] - 0.05
    assert losses[2] == losses[1], "the same seed learns the same maps"


@pytest.mark.parametrize("name", [each.name for each in WIDTH])
def test_no_unit_is_dead(name: str) -> None:
    """After some steps the rows of a grown network have moved: no unit was made that gradients do not reach."""
    config = tiny_network(model=Network(NETWORK))
    base = build_network(config)
    growth = plan(NETWORK, replace(NETWORK, width=20), name)
    weights = grow_weights(dict(base.state_dict()), config, growth)
    grown = build_network(target_config(config, growth))
    grown.load_state_dict(weights)
    optimiser = torch.optim.SGD(grown.parameters(), lr=0.05)
    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(5))
    for _ in range(4):
        optimiser.zero_grad()
        (grown(x) - x[:, :2].square()).square().mean().backward()
        optimiser.step()
    for key, tensor in grown.state_dict().items():
        if key.endswith("weight"):
            moved = (tensor != weights[key]).any(1).float().mean()
            assert moved > 0.8, f"{key}: {moved:.0%}"  # a few ReLU units are dead by chance
