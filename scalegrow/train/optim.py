"""AdamW with muP's groups, and learning-rate schedules as functions of the step.

Symbols: s step (from 0), w warm-up steps, S the last step of a budget, eta_s the rate at s relative to the peak.
"""

import math

import torch
from torch import nn

from scalegrow.runs.config import RunConfig
from scalegrow.train.axes import Parameter
from scalegrow.train.mup import scales


def make_adamw(model: nn.Module, specs: dict[str, Parameter], config: RunConfig) -> torch.optim.AdamW:
    """One group for each (lr, weight decay, epsilon) that muP asks for; gains and biases do not decay.

    Each group remembers its peak learning rate as `peak_lr`.
    """
    chosen = config.optimiser
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        spec = specs[name]
        scale = scales(spec, config)
        decay = 0.0 if spec.kind in ("gain", "bias") else chosen.weight_decay * scale.weight_decay
        groups.setdefault((chosen.lr * scale.lr, decay, chosen.eps * scale.eps), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay, "eps": eps}
            for (lr, decay, eps), parameters in groups.items()
        ],
        lr=chosen.lr,
        betas=(chosen.beta1, chosen.beta2),
        fused=True,
    )


def set_rate(optimiser: torch.optim.AdamW, relative: float) -> None:
    """Every group's learning rate = its peak times this."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * relative


def warmup_steps(config: RunConfig) -> int:
    """w: the warm-up in steps, whatever the budgets, so that all can share a trunk."""
    return config.steps(config.schedule.warmup)


def decay_start(config: RunConfig, end: int) -> int:
    """The first step of a budget's decay: the last `decay` share of it in wsd, the end of warm-up in cosine."""
    if config.schedule.kind == "constant":
        return end
    if config.schedule.kind == "cosine":
        return min(warmup_steps(config), end)
    return end - max(round(config.schedule.decay * end), 1)


def relative_rate(config: RunConfig, step: int, end: int | None) -> float:
    """eta_s: (s + 1) / w in warm-up, 1 on the trunk (end None), then down to `final` at the budget's end.

    wsd falls linearly, 1 - (1 - final) x with x = (s - s0) / (S - s0) (Haegele et al. 2024, arXiv 2405.18392);
    cosine as (1 + cos(pi x)) / 2 (Loshchilov & Hutter 2017).
    """
    warm = min((step + 1) / warmup_steps(config), 1.0)
    if end is None or step < (start := decay_start(config, end)):
        return warm
    x = (step - start) / (end - start)
    falling = 1 - x if config.schedule.kind == "wsd" else (1 + math.cos(math.pi * x)) / 2
    return warm * (config.schedule.final + (1 - config.schedule.final) * falling)
