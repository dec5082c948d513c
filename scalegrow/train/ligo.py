"""LiGO's learned growth (Wang et al. 2023, arXiv 2303.00980): maps of width and depth found by gradient descent.

W'_l = sum_j w_lj E W_j C': one E and C for each axis, shared by all layers, and how much of each of the base's
layers a new one holds. They start where tile and stack are and are trained on the base's own data and loss; the
base's weights do not change. Ours differs from the paper in that C is learned apart from E, so that it can start
at a map whose consumers share.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from scalegrow.runs.config import RunConfig
from scalegrow.shape import n_blocks
from scalegrow.train.axes import AxisName
from scalegrow.train.grow import Tensors, grower, target_config
from scalegrow.train.maps import AxisMap, Mixture
from scalegrow.train.operators import Layers, Plan
from scalegrow.train.restore import build
from scalegrow.train.task import Task

RATE = 1e-3  # Adam's, on entries of E, C and w
NOISE = 0.01  # std of a row's norm, so that copies differ from the first step
LEARNED: tuple[AxisName, ...] = ("d_model", "d_ff", "kv_heads", "heads", "width")


def learn_maps(plan: Plan, weights: Tensors, base: RunConfig, task: Task) -> Plan:
    """The plan with learned maps, after arguments.learn_steps steps on the base's next batches."""
    config = target_config(base, plan)
    model = build(config)
    matrices, depth = _starts(plan)
    optimiser = torch.optim.Adam([*(each for pair in matrices.values() for each in pair), depth], lr=RATE)
    weights = {name: tensor.float() for name, tensor in weights.items()}
    for step in range(plan.arguments.learn_steps):
        growing = grower(base, _with(plan, matrices, depth))
        grown = {name: growing.weight(name, weights.__getitem__) for name in growing.new}
        batch = task.batch(base.first_item + step * base.batch, base.batch)
        loss = task.loss(lambda x, grown=grown: functional_call(model, grown, (x,)), batch, "cpu")  # type: ignore[arg-type]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _with(plan, {name: (e.detach(), c.detach()) for name, (e, c) in matrices.items()}, depth.detach())


def _starts(plan: Plan) -> tuple[dict[AxisName, tuple[Tensor, Tensor]], Tensor]:
    """E and C of every axis that grows, and w, where they start; a little noise tells copies apart."""
    generator = torch.Generator().manual_seed(plan.arguments.seed)
    matrices = {}
    for name in LEARNED:
        grows: AxisMap | None = plan.maps.get(name)
        if grows is not None and grows.size > grows.n:
            pair = [matrix.float() for matrix in grows.matrices()]
            noises = [NOISE * torch.randn(each.shape, generator=generator) / grows.n**0.5 for each in pair]
            e, c = ((each + noise).requires_grad_() for each, noise in zip(pair, noises, strict=True))
            matrices[name] = (e, c)
    return matrices, torch.eye(n_blocks(plan.base))[list(plan.layers.source)].requires_grad_()


def _with(plan: Plan, matrices: dict[AxisName, tuple[Tensor, Tensor]], depth: Tensor) -> Plan:
    """The plan with these maps; query heads that grow in step with key-value heads follow those' maps."""
    learned: dict[AxisName, AxisMap] = {name: Mixture.of(e, c) for name, (e, c) in matrices.items()}
    return replace(plan, maps=plan.maps | learned, layers=Layers(plan.layers.source, mix=depth))
