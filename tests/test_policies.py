"""What becomes of the rest of a state: moments, their age, the counter, schedule, data, rates, clipping.

Trajectories in float64: a state grown by the rules trains as its base, step for step, and each rule is needed.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_operators import BASE, SHAPES, TOKENS, config_of, difference, grown_model, model_of
from test_train import Stopper, assert_same_run
from torch import nn
from torch.nn import functional as F
from training import TINY, tiny_config, tiny_network

from scalegrow.errors import InputError
from scalegrow.growth import widened_shape
from scalegrow.runs.config import Decoder, Network, Optimiser, Parametrisation, Rate, RunConfig, Schedule, Start
from scalegrow.shape import MLPShape, ModelShape
from scalegrow.train.axes import decoder_parameters, mlp_parameters
from scalegrow.train.checkpoint_growth import carried_rates, grow_checkpoint
from scalegrow.train.grow import grow_moments, grow_weights, grower, target_config
from scalegrow.train.mlp import build_network
from scalegrow.train.operators import plan
from scalegrow.train.optim import SINCE, YOUNG, AdamW, clip, make_adamw, relative_rate
from scalegrow.train.policies import Policies
from scalegrow.train.run import train
from scalegrow.train.start import started_config
from scalegrow.train.state import TrainState, load_start, read_facts, read_tensors
from scalegrow.train.task import task_for

WIDE = widened_shape(TINY, 2)
ADAM = Optimiser(lr=0.01, eps=1e-3, weight_decay=0.1, clip=0.0)
CLIPPED = replace(ADAM, clip=0.05, clip_mode="growth_invariant")  # far below the norms: every step is clipped


def train_steps(model: nn.Module, optimiser: AdamW, steps: range, chosen: Optimiser) -> None:
    for step in steps:
        tokens = torch.randint(0, 40, (3, 10), generator=torch.Generator().manual_seed(100 + step))
        optimiser.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        clip(optimiser, chosen)
        optimiser.step()


def optimiser_of(model: nn.Module, config: RunConfig) -> AdamW:
    assert isinstance(config.model, Decoder)
    return make_adamw(model, decoder_parameters(config.model.shape), config)


def started(**changes: Any) -> Start:
    plain = {
        "checkpoint": "",
        "sha256": "",
        "moments_sha256": "",
        "optimiser_step": 0,
        "operator": "tile",
        "base": "",
    }
    numbers = dict.fromkeys(("base_params", "base_tokens"), 1.0)
    factors = ("growth_factor", "growth_factor_non_embedding", "growth_factor_width")
    return Start(**{**plain, **numbers, **dict.fromkeys(factors, 2.0), **changes})


def trajectory_gap(
    shape: ModelShape, broken: str = "", kind: str = "mup", name: str = "tile", chosen: Optimiser = ADAM
) -> float:
    """|logits| apart after five AdamW steps of base and grown from a state in the middle of training."""
    config = config_of(shape, kind, optimiser=chosen)
    model = model_of(config)
    optimiser = optimiser_of(model, config)
    train_steps(model, optimiser, range(3), chosen)
    growth = plan(shape, widened_shape(shape, 2), name)
    target = target_config(config, growth)
    if kind == "standard" and broken != "rate":
        target = replace(target, start=started(rates=carried(config, growth)))
    grown = grown_model(model, config, growth)
    other = optimiser_of(grown, target)
    state = {n: optimiser.state[p] for n, p in model.named_parameters()}
    first = grow_moments({n: s["exp_avg"] for n, s in state.items()}, config, growth, "first")
    second = grow_moments({n: s["exp_avg_sq"] for n, s in state.items()}, config, growth, "second")
    for tensor, parameter in grown.named_parameters():
        step = torch.tensor(3.0, dtype=torch.float32)
        other.state[parameter] = {"step": step, "exp_avg": first[tensor], "exp_avg_sq": second[tensor]}
        if broken == "moments":
            other.state[parameter]["exp_avg_sq"] = second[tensor] * 4
        if broken == "counter":
            other.state[parameter]["step"] = torch.tensor(0.0)
    for group in other.param_groups:
        if broken == "rate":
            group["lr"] = 0.01
        if broken == "decay":
            group["weight_decay"] = 0.1 if group["weight_decay"] else 0.0
        if broken == "epsilon":
            group["eps"] = 1e-3
    train_steps(model, optimiser, range(3, 8), chosen)
    train_steps(grown, other, range(3, 8), replace(chosen, clip_mode="norm") if broken == "clip" else chosen)
    return difference(model, grown)


def carried(config: RunConfig, growth: Any) -> tuple[Rate, ...]:
    return tuple(Rate(**rate) for rate in carried_rates(config, grower(config, growth)))


@pytest.mark.parametrize("chosen", [ADAM, CLIPPED], ids=["free", "clipped"])
@pytest.mark.parametrize("kind", ["mup", "standard"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_tiled_state_trains_as_its_base(shape: ModelShape, kind: str, chosen: Optimiser) -> None:
    """P3: weights, moments, rates, decay, epsilon, clipping by their rules: the same function for five steps.

    muP's own rates are the rule; in the standard parametrisation they are those carried from the base.
    """
    assert trajectory_gap(shape, kind=kind, chosen=chosen) < 1e-9


@pytest.mark.parametrize("kind", ["mup", "standard"])
def test_a_tiled_network_trains_as_its_base(kind: str) -> None:
    shape, x = MLPShape(10, 3, 4, 2), torch.randn(16, 4, dtype=torch.float64)
    y = torch.randn(16, 2, dtype=torch.float64)
    parametrisation = Parametrisation(kind, base_width=10)
    config = tiny_network(model=Network(shape), optimiser=ADAM, parametrisation=parametrisation)
    model = build_network(config).double()
    growth = plan(shape, MLPShape(20, 3, 4, 2), "tile")
    target = replace(target_config(config, growth), start=started(rates=carried(config, growth)))
    grown = build_network(target).double()
    grown.load_state_dict(grow_weights(dict(model.named_parameters()), config, growth))
    for each, own in ((model, config), (grown, target)):
        optimiser = make_adamw(each, mlp_parameters(own.model.shape), own)
        for _ in range(5):
            optimiser.zero_grad()
            F.mse_loss(each(x), y).backward()
            optimiser.step()
    with torch.no_grad():
        assert float((model(x) - grown(x)).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["tile_noise", "block_diagonal"])
def test_only_symmetric_copies_do(name: str) -> None:
    """Off-diagonal blocks get the diagonal ones' gradient, so block-diagonal growth re-trains the base as well."""
    gap = trajectory_gap(BASE, name=name)
    assert gap < 1e-9 if name == "block_diagonal" else gap > 1e-3


@pytest.mark.parametrize("rule", ["moments", "counter", "rate", "decay", "epsilon"])
@pytest.mark.parametrize("kind", ["mup", "standard"])
def test_every_rule_of_the_trajectory_is_needed(rule: str, kind: str) -> None:
    assert trajectory_gap(BASE, rule, kind) > 1e-6


def test_plain_clipping_breaks_the_trajectory() -> None:
    assert trajectory_gap(BASE, "clip", chosen=CLIPPED) > 1e-6


def test_the_invariant_norm_is_the_base_s() -> None:
    config = config_of(BASE, optimiser=CLIPPED)
    model = model_of(config)
    growth = plan(BASE, widened_shape(BASE, 3), "tile")
    norms = []
    for each, own in ((model, config), (grown_model(model, config, growth), target_config(config, growth))):
        F.cross_entropy(each(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        norms.append(
            [
                float(clip(optimiser_of(each, own), replace(CLIPPED, clip=0, clip_mode=mode)))
                for mode in ("growth_invariant", "norm")
            ]
        )
    assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-12)
    assert norms[1][1] != pytest.approx(norms[0][1], rel=1e-3)


def test_young_entries_take_a_fresh_optimiser_s_steps() -> None:
    """Each entry's update is that of an AdamW of its own age, whatever the counter of its tensor."""
    torch.manual_seed(0)
    weight, gradients = torch.randn(6, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    settings = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "fused": True}

    def trained(first: int, optimiser_class: type[torch.optim.AdamW]) -> tuple[torch.Tensor, torch.optim.AdamW]:
        parameter = nn.Parameter(weight.clone())
        optimiser = optimiser_class([parameter], **settings)
        for step in range(first, 6):
            parameter.grad = gradients[step].clone()
            optimiser.step()
        return parameter, optimiser

    old, old_optimiser = trained(0, torch.optim.AdamW)
    both = nn.Parameter(old.detach().clone())
    mixed = AdamW([both], **settings)
    young = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    state = {name: value.clone() for name, value in old_optimiser.state[old].items()}
    mixed.state[both] = {
        "step": state["step"],
        "exp_avg": state["exp_avg"] * (1 - young),
        "exp_avg_sq": state["exp_avg_sq"] * (1 - young),
        YOUNG: young,
        SINCE: state["step"].clone(),
    }
    fresh = nn.Parameter(old.detach().clone())
    fresh_optimiser = torch.optim.AdamW([fresh], **settings)
    for step in range(6, 9):
        for parameter, optimiser in ((old, old_optimiser), (both, mixed), (fresh, fresh_optimiser)):
            parameter.grad = gradients[step].clone()
            optimiser.step()
    torch.testing.assert_close(both, torch.where(young > 0, fresh, old))
    hot = nn.Parameter(torch.ones(1))
    naive = torch.optim.AdamW([hot], lr=0.1, betas=(0.9, 0.999), weight_decay=0)
    naive.state[hot] = {"step": torch.tensor(1e6), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    hot.grad = torch.ones(1)
    naive.step()
    assert 1 - hot.item() == pytest.approx(0.1 * 0.1 / 0.001**0.5, rel=1e-3), "3.16 times too far without it"


# On disk.


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    train(tiny_config(), folder)
    return folder / "trunk" / "checkpoints" / "step_00000032"


def grown_moments(base: Path, out: Path, name: str, **policies: str) -> dict[str, torch.Tensor]:
    grow_checkpoint(base, out, plan(TINY, WIDE, name), Policies(**policies), out, measured=False)
    return moments_of(out / "step_00000000")


def moments_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return read_tensors(
        checkpoint / "optimiser.safetensors", read_facts(checkpoint)["sha256"]["optimiser.safetensors"]
    )


def test_moments_carried_raw_or_asymmetric(base: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    old = moments_of(base)
    carry = grown_moments(base, tmp_path / "a", "tile", moments="carry")
    raw = grown_moments(base, tmp_path / "b", "tile", moments="raw")
    asymmetric = grown_moments(base, tmp_path / "c", "asymmetric_reset")
    for moment, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        tiled = old[f"{moment}.{name}"].repeat(2, 2)
        torch.testing.assert_close(carry[f"{moment}.{name}"], tiled / 2**power)
        assert torch.equal(raw[f"{moment}.{name}"], tiled)
        kept = torch.zeros_like(tiled)
        kept[:40, :16] = tiled[:40, :16] / 2**power
        torch.testing.assert_close(asymmetric[f"{moment}.{name}"], kept)
    assert not any(key.startswith(YOUNG) for key in (*carry, *raw))
    assert torch.equal(asymmetric[f"{YOUNG}.{name}"] == 0, kept != 0)


def test_zero_padded_and_inserted_entries_are_young(base: Path, tmp_path: Path) -> None:
    padded = grown_moments(base, tmp_path / "pad", "zero_pad")
    young = padded[f"{YOUNG}.model.layers.0.mlp.down_proj.weight"]
    assert not young[:16, :40].any()
    assert young[16:].all(), "nothing reads new coordinates of the stream yet, so no gradient ever came"
    assert young[:16, 40:].all(), "nor did one come to new units"
    grow_checkpoint(
        base, tmp_path / "deep", plan(TINY, replace(TINY, n_layers=4), "zero_insert"), Policies(), tmp_path
    )
    deep = moments_of(tmp_path / "deep" / "step_00000000")
    assert deep[f"{YOUNG}.model.layers.1.mlp.up_proj.weight"].all()
    assert f"{YOUNG}.model.layers.2.mlp.up_proj.weight" not in deep


def test_the_counter_follows_the_moments_unless_told(base: Path, tmp_path: Path) -> None:
    for place, (policies, counter) in enumerate(
        (
            ({}, 32),
            ({"moments": "reset"}, 0),
            ({"moments": "reset", "counter": "keep"}, 32),
            ({"counter": "zero"}, 0),
        )
    ):
        out = tmp_path / str(place)
        grow_checkpoint(base, out, plan(TINY, WIDE, "tile"), Policies(**policies), tmp_path, measured=False)
        assert read_facts(out / "step_00000000")["optimiser_step"] == counter


def test_a_state_grown_twice_counts_all_of_adam_s_steps(base: Path, tmp_path: Path) -> None:
    grow_checkpoint(base, tmp_path / "one", plan(TINY, WIDE, "zero_pad"), Policies(), tmp_path, measured=False)
    config = started_config(tmp_path / "one" / "step_00000000", ("960 tokens",), {"batch": 4})
    train(config, tmp_path / "run")
    last = tmp_path / "run" / "trunk" / "checkpoints" / "step_00000008"
    again = plan(WIDE, widened_shape(WIDE, 2), "zero_pad")
    lineage = grow_checkpoint(last, tmp_path / "two", again, Policies(), tmp_path, measured=False)
    assert read_facts(tmp_path / "two" / "step_00000000")["optimiser_step"] == 32 + 8
    assert lineage["parent"]["items"] == 32 * 4 + 8 * 4, "data go on behind both"


def test_data_go_on_or_start_again(base: Path, tmp_path: Path) -> None:
    for data, first in (("continue", 32 * 4), ("restart", 0)):
        grow_checkpoint(
            base, tmp_path / data, plan(TINY, WIDE, "tile"), Policies(data=data), tmp_path, measured=False
        )
        checkpoint = tmp_path / data / "step_00000000"
        assert started_config(checkpoint, ("960 tokens",), {}).first_item == first
        assert started_config(checkpoint, ("960 tokens",), {"data.seed": 3}).first_item == 0, "other data"


def test_schedules_restart_rewarm_or_continue() -> None:
    """Warm-up 5 steps, base 20 steps of this size, budget 40: cosine counts the base's steps where it goes on."""
    cosine = tiny_config(schedule=Schedule("cosine", warmup="480 tokens"), budgets=("3840 tokens",))
    grown = {
        kind: replace(cosine, start=started(schedule=kind, base_tokens=20.0 * 96))
        for kind in ("restart", "rewarm", "continue")
    }
    rates = {kind: [relative_rate(config, step, 40) for step in range(40)] for kind, config in grown.items()}
    assert rates["restart"] == [relative_rate(cosine, step, 40) for step in range(40)]
    assert rates["continue"] == [relative_rate(cosine, step, 60) for step in range(20, 60)]
    assert rates["rewarm"][0] == pytest.approx(rates["continue"][0] / 5)
    assert rates["rewarm"][4:] == rates["continue"][4:]
    trunk = replace(cosine, schedule=Schedule(warmup="480 tokens"))
    steady = replace(trunk, start=grown["continue"].start)
    assert [relative_rate(steady, step, None) for step in range(3)] == [1.0] * 3
    assert relative_rate(steady, 39, 40) == relative_rate(trunk, 39, 40), "the decay is the budget's own"


def test_an_asymmetric_start_resumes_bit_for_bit(base: Path, tmp_path: Path) -> None:
    """P11 across a growth event, with entries of two ages in one tensor."""
    growth = plan(TINY, WIDE, "asymmetric_reset")
    grow_checkpoint(base, tmp_path / "grown", growth, Policies(rates="carried"), tmp_path, measured=False)
    settings = {"checkpoint_seconds": 1e-9, "schedule.warmup": "480 tokens", "batch": 4}
    config = started_config(tmp_path / "grown" / "step_00000000", ("1920 tokens",), settings)
    train(config, tmp_path / "whole")
    with pytest.raises(MemoryError):
        train(config, tmp_path / "stopped", watchers=(Stopper(3),))
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped", ("trunk", "1920_tokens"))
    last = moments_of(tmp_path / "whole" / "1920_tokens" / "checkpoints" / "step_00000020")
    assert any(key.startswith(YOUNG) for key in last)


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ({"moments": "keep"}, "choose auto, carry, raw"),
        ({"counter": "1"}, "choose auto, keep, zero"),
        ({"schedule": "now"}, "choose restart, rewarm, continue"),
        ({"data": "x"}, "choose continue, restart"),
        ({"rates": "x"}, "choose parametrisation, carried"),
    ],
)
def test_unknown_policies_name_the_known_ones(policies: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Policies(**policies)


def test_scratch_has_no_moments_to_keep() -> None:
    scratch = plan(TINY, WIDE, "scratch")
    assert Policies().resolved(scratch).moments == "reset"
    with pytest.raises(InputError, match="scratch inherits nothing"):
        Policies("carry").resolved(scratch)


def test_auto_looks_at_the_depth_operator_too() -> None:
    deeper = replace(WIDE, n_layers=4)
    chosen = {
        ("tile_noise", "stack"): "reset",
        ("tile_noise", "zero_insert"): "carry",
        ("asymmetric_reset", "stack"): "reset",
        ("asymmetric_reset", "zero_insert"): "asymmetric",
        ("perturbative_copy", None): "reset",
        ("szp", None): "reset",
    }
    for (width, depth), moments in chosen.items():
        assert Policies().resolved(plan(TINY, deeper, width, depth)).moments == moments
    assert Policies().resolved(plan(TINY, WIDE, "perturbative_copy")).moments == "carry"


def test_growing_twice_at_once_keeps_what_the_first_growth_kept(base: Path, tmp_path: Path) -> None:
    """Counter, place in the data, tokens and the youth of entries come from the state that was trained."""
    grow_checkpoint(base, tmp_path / "one", plan(TINY, WIDE, "zero_pad"), Policies(), tmp_path, measured=False)
    again = plan(WIDE, widened_shape(WIDE, 2), "tile")
    once, twice = tmp_path / "one" / "step_00000000", tmp_path / "two" / "step_00000000"
    lineage = grow_checkpoint(once, tmp_path / "two", again, Policies(), tmp_path, measured=False)
    assert read_facts(twice)["optimiser_step"] == 32
    assert (lineage["parent"]["items"], lineage["parent"]["tokens"]) == (32 * 4, 32 * 96)
    name = f"{YOUNG}.model.layers.0.mlp.down_proj.weight"
    assert torch.equal(moments_of(twice)[name], moments_of(once)[name].repeat(2, 2))


def test_a_state_grown_twice_at_once_carries_its_rates(tmp_path: Path) -> None:
    """By two and by two is by four: rates, like everything else, in the standard parametrisation."""
    config = tiny_config(parametrisation=Parametrisation("standard"))
    train(config, tmp_path / "base")
    base = tmp_path / "base" / "trunk" / "checkpoints" / "step_00000032"
    four = widened_shape(TINY, 4)
    kept = Policies(rates="carried")
    grow_checkpoint(base, tmp_path / "a", plan(TINY, WIDE, "tile"), kept, tmp_path, measured=False)
    halfway = tmp_path / "a" / "step_00000000"
    twice = grow_checkpoint(halfway, tmp_path / "b", plan(WIDE, four, "tile"), kept, tmp_path, measured=False)
    once = grow_checkpoint(base, tmp_path / "c", plan(TINY, four, "tile"), kept, tmp_path, measured=False)
    assert twice["rates"] == once["rates"]
    assert {name: twice["parent"][name] for name in ("run", "tokens", "items", "flops")} == {
        name: once["parent"][name] for name in ("run", "tokens", "items", "flops")
    }


def test_runs_that_differ_in_moments_are_different_runs(base: Path, tmp_path: Path) -> None:
    digests = set()
    for moments in ("carry", "raw", "asymmetric"):
        out = tmp_path / moments
        grow_checkpoint(base, out, plan(TINY, WIDE, "tile"), Policies(moments), tmp_path, measured=False)
        digests.add(started_config(out / "step_00000000", ("960 tokens",), {}).digest())
    assert len(digests) == 3


def test_a_start_knows_when_its_young_entries_were_born(base: Path, tmp_path: Path) -> None:
    """Loaded from disk: counter 32, born at 32, so that their first step is their first."""
    growth = plan(TINY, WIDE, "asymmetric_reset")
    grow_checkpoint(base, tmp_path / "grown", growth, Policies(), tmp_path, measured=False)
    config = started_config(tmp_path / "grown" / "step_00000000", ("960 tokens",), {"batch": 4})
    task = task_for(config, tmp_path)
    model = task.build("cpu")
    state = TrainState(model, make_adamw(model, task.parameters(), config), model)
    assert config.start
    load_start(state, config.start)
    slots = [each for each in state.optimiser.state.values() if YOUNG in each]
    assert slots
    assert all(float(each[SINCE]) == float(each["step"]) == 32 for each in slots)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("rates", 0, "lr"), -1.0),
        (("parent", "tokens"), -(10**9)),
        (("g_params",), 0.0),
        (("operator",), "nope"),
        (("policies",), []),
        (("parent",), None),
        (("rates",), None),
    ],
)
def test_a_damaged_lineage_is_one_line(base: Path, tmp_path: Path, where: tuple[Any, ...], value: object) -> None:
    kept = Policies(rates="carried")
    grow_checkpoint(base, tmp_path, plan(TINY, WIDE, "tile"), kept, tmp_path, measured=False)
    state = tmp_path / "step_00000000" / "state.json"
    facts = json.loads(state.read_text())
    inner = facts["lineage"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    state.write_text(json.dumps(facts))
    with pytest.raises(InputError):
        started_config(tmp_path / "step_00000000", ("960 tokens",), {})
