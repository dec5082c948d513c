"""Grow a checkpoint: a base's training state on disk into a target's, with its lineage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scalegrow.errors import InputError
from scalegrow.growth import Growth
from scalegrow.runs.config import RunConfig
from scalegrow.train.axes import Parameter
from scalegrow.train.distributed import Ranks
from scalegrow.train.grow import Grower, grower, parameters_of, target_config
from scalegrow.train.maps import Mixture
from scalegrow.train.measures import distance, new_token_share
from scalegrow.train.mup import in_every_layer, scales
from scalegrow.train.operators import Plan
from scalegrow.train.optim import YOUNG
from scalegrow.train.policies import Policies
from scalegrow.train.restore import load_model
from scalegrow.train.run import require_memory
from scalegrow.train.start import start_of
from scalegrow.train.state import (
    GROWN,
    MOMENTS,
    OPTIMISER,
    read_facts,
    read_tensors,
    read_weights,
    step_name,
    write_checkpoint,
)
from scalegrow.train.symmetry import locked
from scalegrow.train.task import task_for

HELDOUT_ITEMS = 32
Tensors = dict[str, torch.Tensor]


def grow_checkpoint(
    checkpoint: Path, out: Path, plan: Plan, policies: Policies, cache: Path, *, measured: bool = True
) -> dict[str, Any]:
    """Write out/step_00000000, the grown state; its lineage.

    zero_step_kl in it is the mean token KL(base || grown) on the base's held-out data, nats (of networks the mean
    square change of outputs); locked, by axis, the share of coordinates that no gradient tells apart. Both are
    left out unless measured. Raises InputError.
    """
    facts = read_facts(checkpoint)
    base = config_of(facts)
    target = out / step_name(0)
    if target.exists():
        raise InputError(f"{target} is there already: choose another --out.")
    require_memory(target_config(base, plan), Ranks())
    policies = policies.resolved(plan)
    weights = read_weights(checkpoint, facts, parameters_of(plan.base))
    plan = learned(plan, weights, base, cache)
    growing = grower(base, plan)
    grown = contiguous({name: growing.weight(name, weights.__getitem__) for name in growing.new})
    carried: Tensors = {}
    if policies.moments != "reset":
        stored = read_tensors(checkpoint / OPTIMISER, facts["sha256"][OPTIMISER])
        carried = grow_moments_of(growing, stored, policies, untrained=facts["stage"] == GROWN)
    if not all(tensor.isfinite().all() for tensor in grown.values()):
        raise InputError("the grown weights are not all numbers: lower --noise, or restore the base.")
    lineage = _lineage(facts, base, growing, policies)
    if measured:
        models = load_model(weights, base), load_model(grown, target_config(base, plan))
        task = task_for(base, cache)
        n = min(HELDOUT_ITEMS, task.n_heldout or HELDOUT_ITEMS)
        lineage["zero_step_kl"] = distance(*models, task, n)
        lineage["new_token_share"] = new_token_share(models[1], plan.base, task, n)
        lineage["locked"] = locked(grown, carried, growing.new)
    write_checkpoint(target, grown, carried, _state(facts, base, plan, policies, lineage))
    return lineage


def learned(plan: Plan, weights: Tensors, base: RunConfig, cache: Path) -> Plan:
    """The plan with its maps, where its operator learns them from the base's data and has not yet."""
    if plan.operator != "ligo" or plan.layers.mix is not None:
        return plan
    from scalegrow.train.ligo import learn_maps

    return learn_maps(plan, weights, base, task_for(base, cache))


def grow_moments_of(growing: Grower, stored: Tensors, policies: Policies, *, untrained: bool = False) -> Tensors:
    """Moments by name, and under young.<name> which entries have none where some of a tensor have.

    untrained: the base was grown and not trained since, so that what is young in it still is.
    """
    if not stored:
        raise InputError("the base has no moments to carry: choose --moments reset.")
    grown: Tensors = {}
    raw, asymmetric = policies.moments == "raw", policies.moments == "asymmetric"
    for name in growing.new:
        inherits = growing.inherits(name)
        if asymmetric:
            inherits = inherits & growing.old_copies(name)
        if untrained and f"{YOUNG}.{growing.source(name)}" in stored:
            young = lambda source: stored[f"{YOUNG}.{source}"].float()  # noqa: E731
            inherits = inherits & (growing.moment(name, young, "first", raw=True) == 0)
        for moment, side in zip(MOMENTS, ("first", "second"), strict=True):
            read = lambda source, moment=moment: stored[f"{moment}.{source}"]  # noqa: E731
            tensor = growing.moment(name, read, side, raw=raw)  # type: ignore[arg-type]
            grown[f"{moment}.{name}"] = torch.where(inherits, tensor, torch.zeros_like(tensor))
        if not inherits.all():
            grown[f"{YOUNG}.{name}"] = (~inherits).to(torch.uint8)
    return contiguous(grown)


def contiguous(tensors: Tensors) -> Tensors:
    """As safetensors wants them."""
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _state(
    facts: dict[str, Any], base: RunConfig, plan: Plan, policies: Policies, lineage: dict[str, Any]
) -> dict[str, Any]:
    """state.json of the grown checkpoint: step 0 of the target, and where it comes from."""
    return {
        "stage": GROWN,
        "step": 0,
        "tokens": 0,
        "loss_sum": 0.0,
        "loss_count": 0,
        "seconds": 0.0,
        "optimiser_step": adam_counter(facts, base) if policies.counter == "keep" else 0,
        "config": replace(target_config(base, plan), start=None).to_dict(),
        "lineage": lineage,
    }


def config_of(facts: dict[str, Any]) -> RunConfig:
    """A checkpoint's config; of a state that was grown and not trained yet with the rates it carries, if any."""
    config = RunConfig.from_dict(facts["config"])
    if facts["stage"] != GROWN:
        return config
    return replace(config, start=start_of(facts))


def adam_counter(facts: dict[str, Any], config: RunConfig) -> int:
    """How many steps Adam has counted at a checkpoint: the run's, and those carried from before it."""
    return facts["step"] + (config.start.optimiser_step if config.start else 0)


def _lineage(facts: dict[str, Any], base: RunConfig, growing: Grower, policies: Policies) -> dict[str, Any]:
    plan = growing.plan
    growth = Growth(plan.base, plan.target, plan.operator)
    trained = {
        "run": base.digest(),
        "tokens": facts["tokens"],
        "items": base.first_item + facts["step"] * base.batch,
        "flops": base.flops_per_token * facts["tokens"],
    }
    if facts["stage"] == GROWN:  # the parent itself learned nothing: what it grew from did
        trained = {name: facts["lineage"]["parent"][name] for name in trained}
    return {
        "parent": {
            "sha256": facts["sha256"],
            "n_params": plan.base.n_params,
            "stage": facts["stage"],
            "step": facts["step"],
            **trained,
        },
        "operator": plan.operator,
        "depth_operator": plan.depth_operator,
        "arguments": vars(plan.arguments),
        "layers": list(plan.layers.source),
        "axes": {name: _described(grown) for name, grown in plan.maps.items() if grown.size != grown.n},
        "policies": policies.to_dict(),
        "rates": carried_rates(base, growing),
        "g_params": growth.g_params,
        "g_non_embedding": growth.g_non_embedding,
        "g_width": growth.g_width,
    }


def carried_rates(base: RunConfig, growing: Grower) -> list[dict[str, Any]]:
    """What the gradient law asks of AdamW: its settings for the parameters of each name, as in config.Rate."""
    return [_rate(name, spec, base, growing) for name, spec in _one_of_each(growing.new).items()]


def _described(grown: Any) -> dict[str, Any]:
    """An axis' map: how long it was and is, and the old coordinate of each new one (negative: none)."""
    told = {"from": grown.n, "to": grown.size}
    return told | ({"mixture": True} if isinstance(grown, Mixture) else {"source": grown.source.tolist()})


def _one_of_each(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """The first parameter of each name, whatever the layer."""
    found: dict[str, Parameter] = {}
    seen = set()
    for name, spec in parameters.items():
        if (tail := in_every_layer(name)) not in seen:
            seen.add(tail)
            found[name] = spec
    return found


def _rate(name: str, spec: Parameter, base: RunConfig, growing: Grower) -> dict[str, Any]:
    """What the gradient law asks of AdamW for this parameter, relative to the optimiser's own settings.

    lr a / k_in, decay k_in / a, epsilon 1 / (a k_out), times the base's, k the copies along its axes.
    """
    source = growing.source(name)
    mine = scales(source, parameters_of(growing.plan.base)[source], base)
    a, k_in, k_out = growing.factor(name), 1.0, 1.0
    for axis in spec.axes:
        if axis.name in growing.plan.maps:
            copies = growing.plan.maps[axis.name].multiplicity if axis.name != "vocab" else 1.0
            k_in, k_out = (k_in * copies, k_out) if axis.role == "in" else (k_in, k_out * copies)
    return {
        "parameter": in_every_layer(name),
        "lr": mine.lr * a / k_in,
        "weight_decay": mine.weight_decay * k_in / a,
        "eps": mine.eps / (a * k_out),
    }
