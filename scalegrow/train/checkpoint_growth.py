"""Grow a checkpoint: a base's training state on disk into a target's, with its lineage.

Policies are choices of their own: what becomes of the moments, and nothing else is guessed.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from scalegrow.errors import InputError
from scalegrow.growth import Growth
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.grow import grow_moments, grow_weights, target_config
from scalegrow.train.operators import Plan
from scalegrow.train.restore import load_model
from scalegrow.train.state import MODEL, MOMENTS, OPTIMISER, read_facts, read_tensors, step_name, write_checkpoint
from scalegrow.train.task import LanguageTask, task_for

MOMENT_POLICIES = ("carry", "reset")
KL_SEQUENCES = 32
Tensors = dict[str, torch.Tensor]


def grow_checkpoint(checkpoint: Path, out: Path, plan: Plan, moments: str, cache: Path) -> dict[str, Any]:
    """Write out/step_00000000, the grown state; its lineage.

    moments: carry (grown by the dual of the weights' rule, step counter kept) or reset (none, counter 0). Its
    zero_step_kl is the mean token KL(base || grown) on the base's held-out data, nats. Raises InputError.
    """
    if moments not in MOMENT_POLICIES:
        raise InputError(f"moments {moments!r} is no policy: choose carry or reset.")
    if plan.operator == "scratch":
        moments = "reset"
    facts = read_facts(checkpoint)
    base = RunConfig.from_dict(facts["config"])
    if not isinstance(base.model, Decoder):
        raise InputError(f"{checkpoint} holds a dense network: growing takes decoders so far.")
    target = out / step_name(0)
    if target.exists():
        raise InputError(f"{target} is there already: choose another --out.")
    weights = read_tensors(checkpoint / MODEL, facts["sha256"][MODEL])
    grown = contiguous(grow_weights(weights, base, plan))
    carried = _grown_moments(checkpoint, facts, base, plan) if moments == "carry" else {}
    state = _state(facts, base, plan, moments)
    write_checkpoint(target, grown, carried, state)
    return {**state["lineage"], "zero_step_kl": zero_step_kl(checkpoint, target, cache)}


def _grown_moments(checkpoint: Path, facts: dict[str, Any], base: RunConfig, plan: Plan) -> Tensors:
    stored = read_tensors(checkpoint / OPTIMISER, facts["sha256"][OPTIMISER])
    names = decoder_parameters(plan.base)
    grown: Tensors = {}
    for moment, side in zip(MOMENTS, ("first", "second"), strict=True):
        old = {name: stored[f"{moment}.{name}"] for name in names}
        new = grow_moments(old, base, plan, side)  # type: ignore[arg-type]
        grown |= {f"{moment}.{name}": tensor for name, tensor in new.items()}
    return contiguous(grown)


def contiguous(tensors: Tensors) -> Tensors:
    """As safetensors wants them."""
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _state(facts: dict[str, Any], base: RunConfig, plan: Plan, moments: str) -> dict[str, Any]:
    """state.json of the grown checkpoint: step 0 of the target, and where it comes from."""
    growth = Growth(plan.base, plan.target, plan.operator)
    lineage = {
        "parent": {
            "sha256": facts["sha256"],
            "run": base.digest(),
            "n_params": plan.base.n_params,
            "stage": facts["stage"],
            "step": facts["step"],
            "tokens": facts["tokens"],
            "flops": base.flops_per_token * facts["tokens"],
        },
        "operator": plan.operator,
        "depth_operator": plan.depth_operator,
        "arguments": vars(plan.arguments),
        "layers": list(plan.layers.source),
        "axes": {name: [grown.n, grown.size] for name, grown in plan.maps.items() if grown.size != grown.n},
        "moments": moments,
        "g_params": growth.g_params,
        "g_non_embedding": growth.g_non_embedding,
        "g_width": growth.g_width,
    }
    return {
        "stage": "grown",
        "step": 0,
        "tokens": 0,
        "loss_sum": 0.0,
        "loss_count": 0,
        "seconds": 0.0,
        "optimiser_step": facts["step"] if moments == "carry" else 0,
        "config": target_config(base, plan).to_dict(),
        "lineage": lineage,
    }


def zero_step_kl(base: Path, grown: Path, cache: Path) -> float:
    """Mean token KL(p_base || p_grown) on the first held-out sequences of the base's data, nats."""
    config = RunConfig.from_dict(read_facts(base)["config"])
    task = task_for(config, cache)
    assert isinstance(task, LanguageTask)
    n = min(KL_SEQUENCES, task.n_heldout or KL_SEQUENCES)
    tokens = torch.from_numpy(task.source.heldout_batch(0, n).tokens)[:, :-1]
    with torch.no_grad():
        log_p, log_q = (F.log_softmax(load_model(each)(tokens).double(), dim=-1) for each in (base, grown))
    vocab = log_p.shape[-1]
    return float((log_p.exp() * (log_p - log_q[..., :vocab])).sum(-1).mean())
