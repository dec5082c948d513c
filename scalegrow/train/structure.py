"""What a model's weights have become: condensation of its neurons, and attention that sinks into the first token.

Symbols: B sequences, T tokens, H heads, G kv heads, K head_dim.
"""

import math

import torch
from torch import Tensor, nn

from scalegrow.train.distributed import whole
from scalegrow.train.evaluate import inference
from scalegrow.train.measures import condensation
from scalegrow.train.model import Attention
from scalegrow.train.task import LanguageTask, Task

SEQUENCES = 8  # that attention is averaged over


def structure(task: Task, model: nn.Module) -> dict[str, float]:
    """clusters and rank of measures.condensation, and of a decoder sink, its `first_token_share`."""
    weights = {name: whole(parameter.detach()) for name, parameter in model.named_parameters()}
    found = condensation(weights, task.parameters())
    measured = {"clusters": found.clusters, "rank": found.rank}
    if isinstance(task, LanguageTask):
        n = min(SEQUENCES, task.n_heldout or SEQUENCES)
        tokens = torch.from_numpy(task.source.heldout_batch(0, n).tokens)[:, :-1]
        measured["sink"] = first_token_share(model, tokens.to(next(model.parameters()).device))
    return measured


def first_token_share(model: nn.Module, tokens_BT: Tensor) -> float:
    """The attention that later tokens pay to the first one, mean over layers, heads and tokens 1 .. T - 1.

    Attention spread evenly would pay mean of 1 / (t + 1): 0.035 at T = 128.
    """
    shares: list[float] = []

    def read(attention: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        assert isinstance(attention, Attention)
        q_BHTK, k_BGTK, _, _ = attention.projected(*inputs)
        shares.append(_share(q_BHTK, k_BGTK, attention.scale))

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [layer.register_forward_pre_hook(read) for layer in layers]
    try:
        # A model that was compiled before does not call hooks that come later.
        with inference(model), torch.compiler.set_stance("force_eager"):
            model(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return math.fsum(shares) / len(shares)


def _share(q_BHTK: Tensor, k_BGTK: Tensor, scale: float) -> float:
    """softmax(causal q k' scale)[.., t, 0], mean over all but t = 0, which has nothing else to attend to."""
    k_BHTK = k_BGTK.repeat_interleave(q_BHTK.shape[1] // k_BGTK.shape[1], dim=1)
    scores_BHTT = q_BHTK.float() @ k_BHTK.float().mT * scale
    ahead = torch.ones(scores_BHTT.shape[-2:], dtype=torch.bool, device=scores_BHTT.device).triu(1)
    weights_BHTT = scores_BHTT.masked_fill(ahead, -math.inf).softmax(-1)
    return float(weights_BHTT[..., 1:, 0].mean())
