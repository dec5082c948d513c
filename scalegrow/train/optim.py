"""AdamW with muP's groups, clipping, and learning-rate schedules as functions of the step.

Symbols: s step (from 0), w warm-up steps, S the last step of a budget, eta_s the rate at s relative to the peak.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from scalegrow.runs.branches import decay_start, warmup_steps
from scalegrow.runs.config import Optimiser, RunConfig
from scalegrow.train.axes import Parameter
from scalegrow.train.distributed import gathered
from scalegrow.train.mup import scales

YOUNG, SINCE = (
    "young",
    "since",
)  # slots of AdamW's state: which entries are younger than its counter, and from when


class AdamW(torch.optim.AdamW):
    """PyTorch's AdamW, and entries of a grown tensor that are younger than the others.

    Bias correction divides m by 1 - beta1^t and v by 1 - beta2^t, t the steps that were summed. An entry without
    inherited moments has t = counter - since; under the tensor's own counter its first update would be
    (1 - beta1) / sqrt(1 - beta2) of what it should be: 0.45 at (0.9, 0.95), 3.2 at (0.9, 0.999).
    """

    def step(self, closure: Any = None) -> Any:
        """One update; tensors with young entries entry by entry, all others by PyTorch's kernel."""
        mixed = [
            (group, parameter)
            for group in self.param_groups
            for parameter in group["params"]
            if YOUNG in self.state.get(parameter, {})
        ]
        gradients = [parameter.grad for _, parameter in mixed]
        for (group, parameter), gradient in zip(mixed, gradients, strict=True):
            if gradient is not None:
                self._update(parameter, gradient, group)
                parameter.grad = None  # so that the kernel leaves it alone
        done = super().step(closure)
        for (_, parameter), gradient in zip(mixed, gradients, strict=True):
            parameter.grad = gradient
        return done

    @torch.no_grad()
    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        state["step"] += 1
        m, v, young = state["exp_avg"], state["exp_avg_sq"], state[YOUNG]
        old, new = float(state["step"]), float(state["step"] - state[SINCE])
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # 1 - beta^t by entry: young is 1 or 0
        first = (1 - beta1**old) + young * (beta1**old - beta1**new)
        second = (1 - beta2**old) + young * (beta2**old - beta2**new)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(group["lr"] * (m / first) / ((v / second).sqrt() + group["eps"]))


def make_adamw(model: nn.Module, specs: dict[str, Parameter], config: RunConfig) -> AdamW:
    """One group for each (lr, weight decay, epsilon) that muP asks for; gains and biases do not decay.

    Each group remembers its peak learning rate as `peak_lr`, and as `weight` what growth-invariant clipping
    multiplies its squares by: relative rate over relative epsilon.
    """
    chosen = config.optimiser
    groups: dict[tuple[float, float, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        spec = specs[name]
        scale = scales(name, spec, config)
        decay = 0.0 if spec.kind in ("gain", "bias") else chosen.weight_decay * scale.weight_decay
        key = (chosen.lr * scale.lr, decay, chosen.eps * scale.eps, scale.lr / scale.eps)
        groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay, "eps": eps, "weight": weight}
            for (lr, decay, eps, weight), parameters in groups.items()
        ],
        lr=chosen.lr,
        betas=(chosen.beta1, chosen.beta2),
        fused=True,
    )


def clip(optimiser: torch.optim.AdamW, chosen: Optimiser) -> Tensor:
    """Scale all gradients so that their norm is at most chosen.clip; the norm before.

    growth_invariant: sqrt(sum over tensors of a^2 k_out / k_in ||g||^2), a the tensor's own factor. Copying makes
    k_in k_out entries of g / (a k_out) out of each, so this sum stays as it was, and a grown state is clipped as
    its base would be.
    """
    groups = [
        (group["weight"], [parameter.grad for parameter in group["params"] if parameter.grad is not None])
        for group in optimiser.param_groups
    ]
    everything = [gradient for _, gradients in groups for gradient in gradients]
    if chosen.clip_mode == "norm":
        norm = get_total_norm(everything)
    else:
        norms = [(weight, get_total_norm(gradients)) for weight, gradients in groups if gradients]
        norm = torch.stack([weight * gathered(each) ** 2 for weight, each in norms]).sum().sqrt()
    if chosen.clip:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        clip_grads_with_norm_(parameters, chosen.clip, norm)
    return norm


def set_rate(optimiser: torch.optim.AdamW, relative: float) -> None:
    """Every group's learning rate = its peak times this."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * relative


def past_steps(config: RunConfig) -> int:
    """Steps of this run's size that the schedule has behind it: the base's tokens, unless it starts anew."""
    start = config.start
    if start is None or start.schedule == "restart":
        return 0
    return round(start.base_tokens / config.tokens_per_step)


def relative_rate(config: RunConfig, step: int, end: int | None) -> float:
    """eta_s: (s + 1) / w in warm-up, 1 on the trunk (end None), then down to `final` at the budget's end.

    wsd falls linearly, 1 - (1 - final) x with x = (s - s0) / (S - s0) (Haegele et al. 2024, arXiv 2405.18392);
    cosine as (1 + cos(pi x)) / 2 (Loshchilov & Hutter 2017). Of a grown run that goes on with its base's schedule
    the steps behind it count in s and S, but for wsd's decay, which is the budget's own.
    """
    warmup, past = warmup_steps(config), past_steps(config)
    warmed = step + past if config.start and config.start.schedule == "continue" else step
    warm = min((warmed + 1) / warmup, 1.0)
    if config.schedule.kind == "cosine" and end is not None:
        step, end = step + past, end + past
    if end is None or step < (start := decay_start(config, end)):
        return warm
    x = (step - start) / (end - start)
    falling = 1 - x if config.schedule.kind == "wsd" else (1 + math.cos(math.pi * x)) / 2
    return warm * (config.schedule.final + (1 - config.schedule.final) * falling)
