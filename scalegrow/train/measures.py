"""What a probe measures of a grown state: distance from its base, escape from the inherited copies, condensation.

Symbols: theta_0 the grown weights, theta_k those k steps later, U = theta_k - theta_0; n neurons, d their inputs.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalegrow.shape import ModelShape, Shape
from scalegrow.train.axes import Axis, AxisName, Parameter, Role, block_of
from scalegrow.train.evaluate import inference
from scalegrow.train.maps import AxisMap
from scalegrow.train.task import LanguageTask, Task

JOINT = "joint"
COSINE = 0.95  # of two neurons' input weights, from where on they count as one; ours
LARGEST_LOGITS = 1 << 24  # of one chunk of the KL, in float64
SAMPLES = 4096  # of one chunk of a network's outputs
NEURON_AXES = ("d_ff", "width")

Tensors = Mapping[str, Tensor]
Spans = dict[tuple[AxisName, Role], Tensor]


class Condensation(NamedTuple):
    """clusters: directions over neurons, 1 where no two agree. rank: effective over largest. Means over layers."""

    clusters: float
    rank: float


def distance(base: nn.Module, grown: nn.Module, task: Task, n: int, device: str | torch.device = "cpu") -> float:
    """Mean token KL(p_base || p_grown) on the task's first n held-out items, nats; dropout is off.

    Of networks, which have no p: the mean square difference of their outputs.
    """
    measure = token_kl if isinstance(task, LanguageTask) else mean_square_change
    size = _chunk(task)
    total = 0.0
    with inference(base), inference(grown):
        for first in range(0, n, size):
            count = min(size, n - first)
            total += count * measure(base, grown, _inputs(task, first, count).to(device))
    return total / n


def token_kl(base: nn.Module, grown: nn.Module, tokens: Tensor) -> float:
    """Mean KL(p_base || p_grown) of the next token over all positions of tokens [B, T], nats.

    A padded vocabulary's new tokens take probability from the old ones, and that counts.
    """
    with torch.no_grad():
        log_p = F.log_softmax(base(tokens).double(), dim=-1)
        log_q = F.log_softmax(grown(tokens).double(), dim=-1)[..., : log_p.shape[-1]]
    return mean_kl(log_p, log_q)


def mean_kl(log_p: Tensor, log_q: Tensor) -> float:
    """Mean of sum_v p_v (log p_v - log q_v) over all but the last dimension, nats."""
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def new_token_share(grown: nn.Module, base: Shape, task: Task, n: int) -> float:
    """The mean probability that a grown model gives to tokens the base's vocabulary did not have."""
    if not isinstance(task, LanguageTask) or not isinstance(base, ModelShape):
        return 0.0
    with inference(grown):
        p = F.softmax(grown(_inputs(task, 0, n)).double(), dim=-1)
    return float(p[..., base.vocab_size :].sum(-1).mean())


def mean_square_change(base: nn.Module, grown: nn.Module, x: Tensor) -> float:
    """Mean of (base(x) - grown(x))^2 over samples and outputs."""
    with torch.no_grad():
        return float((base(x).double() - grown(x).double()).square().mean())


def _chunk(task: Task) -> int:
    """Held-out items whose logits fit into memory twice in float64."""
    if not isinstance(task, LanguageTask):
        return SAMPLES
    return max(LARGEST_LOGITS // (task.source.context * task.source.vocab_size), 1)


def _inputs(task: Task, first: int, count: int) -> Tensor:
    """What a model reads of held-out items: tokens [B, T], or samples [B, n_inputs]."""
    batch = task.source.heldout_batch(first, count)  # type: ignore[attr-defined]
    return torch.from_numpy(batch.tokens)[:, :-1] if isinstance(task, LanguageTask) else torch.from_numpy(batch[0])


def escape(update: Tensors, specs: Mapping[str, Parameter], maps: Mapping[AxisName, AxisMap]) -> dict[str, float]:
    """||U - P U||^2 / ||U||^2 by axis, and "joint" with every axis' P applied; energies pooled over tensors.

    Only tensors that have the axis count, and only axes that grew; {} where no width did. 0 where every copy
    moves as its base would, 1 - n / n' for an update without structure. A padded vocabulary copies nothing and is
    left out.
    """
    spans = inherited_spans(maps)
    outside, total = defaultdict[str, float](float), defaultdict[str, float](float)
    for name, change in update.items():
        axes = specs[name].axes
        u = change.double().reshape([axis.size for axis in axes])
        for measured, along in _measured(axes, spans).items():
            outside[measured] += float((u - _projected(u, axes, spans, along)).square().sum())
            total[measured] += float(u.square().sum())
    return {name: outside[name] / energy for name, energy in total.items() if energy > 0}


def _measured(axes: tuple[Axis, ...], spans: Spans) -> dict[str, set[AxisName]]:
    """What a tensor counts for, and the axes that are projected for it: each that grew, and all of them."""
    grew: set[AxisName] = {axis.name for axis in axes if (axis.name, axis.role) in spans}
    return {**{name: {name} for name in grew}, JOINT: grew} if grew else {}


def inherited_spans(maps: Mapping[AxisName, AxisMap]) -> Spans:
    """The projector onto what copies of base weights span, by axis that grew and role: of E's columns, or C's.

    A weight grows as W' = E_out W C_in', so what it inherits lies in the span of E along `out` axes and of C
    along `in` axes.
    """
    spans: Spans = {}
    for name, grown in maps.items():
        if grown.size != grown.n and name != "vocab":
            values, consumers = grown.matrices()
            spans[name, "out"], spans[name, "in"] = projector(values), projector(consumers)
    return spans


def projector(matrix: Tensor) -> Tensor:
    """P = A (A'A)^-1 A' [n', n']: onto the span of A's n columns, which must be independent."""
    a = matrix.double()
    return a @ torch.linalg.solve(a.T @ a, a.T)


def _projected(u: Tensor, axes: tuple[Axis, ...], spans: Spans, names: set[AxisName]) -> Tensor:
    """P applied along every axis of these names."""
    for dim, axis in enumerate(axes):
        if axis.name in names:
            u = torch.tensordot(spans[axis.name, axis.role], u, ([1], [dim])).movedim(0, dim)
    return u


def condensation(weights: Tensors, specs: Mapping[str, Parameter]) -> Condensation:
    """How few directions the neurons of each layer share, mean over layers."""
    layers = [rows.double().cpu() for rows in neurons(weights, specs).values()]
    return Condensation(
        float(np.mean([cluster_share(rows) for rows in layers])),
        float(np.mean([effective_rank(rows) for rows in layers])),
    )


def neurons(weights: Tensors, specs: Mapping[str, Parameter]) -> dict[int, Tensor]:
    """By layer, the input weights [n, d] of its hidden units: a decoder's gate and up rows side by side."""
    found: dict[int, list[Tensor]] = {}
    for name, spec in specs.items():
        first = spec.axes[0]
        if len(spec.dimensions) == 2 and first.role == "out" and first.name in NEURON_AXES:
            found.setdefault(block_of(name)[1] or 0, []).append(weights[name])
    return {layer: torch.cat(parts, dim=1) for layer, parts in found.items()}


def cluster_share(rows: Tensor, threshold: float = COSINE) -> float:
    """Clusters over neurons: connected components of |cos(w_i, w_j)| >= threshold. A zero row is alone."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    directions = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    near = (directions @ directions.T).abs() >= threshold
    count, _ = connected_components(csr_matrix(near.numpy()), directed=False)
    return float(count) / len(rows)


def effective_rank(rows: Tensor) -> float:
    """exp(entropy of the normalised singular values) / min(n, d) (Roy & Vetterli 2007); 0 for a zero matrix."""
    values = torch.linalg.svdvals(rows)
    if not values.sum() > 0:
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp() / min(rows.shape))
