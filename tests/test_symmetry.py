"""The symmetry detector against training: what it calls locked stays equal, what it does not comes apart."""

from dataclasses import replace

import pytest
import torch
from test_operators import BASE, config_of, model_of, weights_of
from test_policies import ADAM, optimiser_of, train_steps
from torch import Tensor
from training import tiny_network

from scalegrow.growth import widened_shape
from scalegrow.runs.config import Network
from scalegrow.shape import MLPShape, ModelShape
from scalegrow.train.axes import decoder_parameters, mlp_parameters
from scalegrow.train.checkpoint_growth import Policies, grow_moments_of
from scalegrow.train.grow import grow_weights, grower, target_config
from scalegrow.train.operators import plan
from scalegrow.train.symmetry import locked

UNTIED = replace(BASE, tied=False)
AXES = {"d_model", "heads", "kv_heads", "d_ff"}


def grown(
    shape: ModelShape, name: str, policies: Policies | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and moments of a state from the middle of training, grown to twice the width."""
    config = config_of(shape, optimiser=ADAM)
    model = model_of(config)
    optimiser = optimiser_of(model, config)
    train_steps(model, optimiser, range(3), ADAM)
    state = {tensor: optimiser.state[p] for tensor, p in model.named_parameters()}
    stored = {
        f"{moment}.{tensor}": slots[moment]
        for tensor, slots in state.items()
        for moment in ("exp_avg", "exp_avg_sq")
    }
    growing = grower(config, plan(shape, widened_shape(shape, 2), name))
    weights = {tensor: growing.weight(tensor, weights_of(model).__getitem__) for tensor in growing.new}
    chosen = (policies or Policies()).resolved(growing.plan)
    return weights, grow_moments_of(growing, stored, chosen) if chosen.moments != "reset" else {}


def shares(shape: ModelShape, name: str, policies: Policies | None = None) -> dict[str, float]:
    return locked(*grown(shape, name, policies), decoder_parameters(widened_shape(shape, 2)))


@pytest.mark.parametrize("name", ["tile", "block_diagonal"])
@pytest.mark.parametrize("shape", [BASE, UNTIED])
def test_exact_copies_are_locked_on_every_axis(shape: ModelShape, name: str) -> None:
    """Block-diagonal copies differ entry by entry and are locked all the same."""
    assert shares(shape, name) == dict.fromkeys(AXES, 1.0)
    assert shares(shape, name, Policies("reset")) == dict.fromkeys(AXES, 1.0)


@pytest.mark.parametrize(
    "name", ["tile_noise", "perturbative_copy", "asymmetric_reset", "zero_pad", "szp", "scratch"]
)
def test_breakers_leave_nothing_locked(name: str) -> None:
    assert shares(BASE, name) == {}
    assert shares(UNTIED, name) == {}


@pytest.mark.parametrize("name", ["split", "zero_copy"])
def test_a_tied_stream_stays_locked_where_only_units_are_told_apart(name: str) -> None:
    """A tied table cannot weigh copies, so uneven shares break heads and units but never the residual stream."""
    assert shares(BASE, name) == {"d_model": 1.0}
    assert shares(UNTIED, name) == {}


def test_an_ordinary_state_has_no_twins() -> None:
    weights = weights_of(model_of(config_of(BASE)))
    assert locked(weights, {}, decoder_parameters(BASE)) == {}


def test_one_pair_of_twins_is_found() -> None:
    weights = weights_of(model_of(config_of(BASE)))
    name = "model.layers.1.mlp.{}_proj.weight"
    for each in ("gate", "up"):
        weights[name.format(each)][7] = weights[name.format(each)][3]
    assert locked(weights, {}, decoder_parameters(BASE)) == {}, "their consumers still differ"
    weights[name.format("down")][:, 7] = weights[name.format("down")][:, 3]
    assert locked(weights, {}, decoder_parameters(BASE)) == {"d_ff": pytest.approx(2 / 20 / 2)}


def test_networks_have_twins_too() -> None:
    shape, wide = MLPShape(10, 3, 4, 2), MLPShape(20, 3, 4, 2)
    config = tiny_network(model=Network(shape))
    from scalegrow.train.mlp import build_network

    weights = weights_of(build_network(config))
    tiled = grow_weights(weights, config, plan(shape, wide, "tile"))
    assert locked(tiled, {}, mlp_parameters(wide)) == {"width": 1.0}
    assert locked(grow_weights(weights, config, plan(shape, wide, "split")), {}, mlp_parameters(wide)) == {}


def apart(shape: ModelShape, name: str, steps: int) -> dict[str, float]:
    """How far first and second copies of units and of the stream are apart after steps of AdamW, relatively."""
    config = config_of(shape, optimiser=ADAM)
    growth = plan(shape, widened_shape(shape, 2), name)
    target = target_config(config, growth)
    weights, moments = grown(shape, name)
    model = model_of(target, weights)
    optimiser = optimiser_of(model, target)
    for tensor, parameter in model.named_parameters():
        if f"exp_avg.{tensor}" in moments:
            slots = {key: moments[f"{key}.{tensor}"] for key in ("exp_avg", "exp_avg_sq")}
            if f"young.{tensor}" in moments:
                slots |= {"young": moments[f"young.{tensor}"].double(), "since": torch.tensor(3.0)}
            optimiser.state[parameter] = {"step": torch.tensor(3.0), **slots}
    train_steps(model, optimiser, range(3, 3 + steps), ADAM)
    after = weights_of(model)
    gate, table = after["model.layers.0.mlp.gate_proj.weight"], after["model.embed_tokens.weight"]
    return {
        "d_ff": float((gate[:20, :12] - gate[20:, :12]).norm() / gate.norm()),
        "d_model": float((table[:, :12] - table[:, 12:]).norm() / table.norm()),
    }


def test_what_is_locked_stays_together_and_what_is_not_comes_apart() -> None:
    """P4. Under AdamW an uneven split of units shows after two steps, not one: it cancels the uneven factor."""
    assert max(apart(UNTIED, "tile", 5).values()) < 1e-14
    assert min(apart(UNTIED, "tile_noise", 2).values()) > 1e-4
    assert min(apart(UNTIED, "asymmetric_reset", 1).values()) > 1e-4
    assert min(apart(UNTIED, "split", 2).values()) > 1e-4
    tied = apart(BASE, "split", 5)
    assert tied["d_model"] < 1e-14
    assert tied["d_ff"] > 1e-4


def test_twin_key_value_heads_need_twin_queries() -> None:
    """Two key-value heads that are equal are no twins while the queries that read them differ."""
    weights = weights_of(model_of(config_of(BASE)))
    for name in ("k_proj", "v_proj"):
        tensor = weights[f"model.layers.0.self_attn.{name}.weight"]
        tensor[4:] = tensor[:4]
    assert locked(weights, {}, decoder_parameters(BASE)) == {}
    for name in ("q_proj", "o_proj"):
        tensor = weights[f"model.layers.0.self_attn.{name}.weight"]
        if name == "q_proj":
            tensor[8:] = tensor[:8]
        else:
            tensor[:, 8:] = tensor[:, :8]
    assert locked(weights, {}, decoder_parameters(BASE)) == {
        "heads": pytest.approx(0.5),
        "kv_heads": pytest.approx(0.5),
    }
