"""Held-out loss with its standard error, by tag, and above the exact entropy where that is known.

Symbols: n sequences, L nats per token. Errors are over sequences: tokens of one sequence are not independent.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributed.fsdp import FSDPModule

from scalegrow.errors import InputError
from scalegrow.train.distributed import Ranks
from scalegrow.train.task import Scores, Task

Floats = NDArray[np.float64]


def evaluate(
    task: Task, model: nn.Module, n: int, batch: int, device: str | torch.device, ranks: Ranks
) -> dict[str, Any]:
    """The held-out record of a model on the first n items of the fixed set.

    heldout_loss and heldout_se (nats per token); entropy, excess = loss - entropy and excess_se where the truth
    is known (paired by sequence, so far less noisy than the loss); bits_per_byte; tags: {name: {loss, excess}}.
    """
    require_heldout(task)
    n = n if task.n_heldout is None else min(n, task.n_heldout)
    scores = ranks.merge(_chunks(task, model, n, batch, device, ranks), n)
    loss, loss_se = ratio(scores.loss[:, 0], scores.count[:, 0])
    found: dict[str, Any] = {"heldout_loss": loss, "heldout_se": loss_se, "heldout_sequences": n}
    if scores.surprise is not None:
        excess, excess_se = ratio(scores.loss[:, 0] - scores.surprise[:, 0], scores.count[:, 0])
        found |= {"entropy": loss - excess, "excess": excess, "excess_se": excess_se}
    if task.bytes_per_token:
        found["bits_per_byte"] = loss / math.log(2) / task.bytes_per_token
    if task.groups:
        found["tags"] = {name: _tag(scores, index) for index, name in enumerate(task.groups, start=1)}
    return found


def require_heldout(task: Task) -> None:
    """Raise InputError where held-out items are too few for a standard error."""
    if task.n_heldout is not None and task.n_heldout < 2:
        raise InputError("too few held-out sequences: raise data.validation_fraction, or shorten the context.")


def ratio(sums: Floats, counts: Floats) -> tuple[float, float]:
    """sum / count over sequences, and its standard error: std of (sum - ratio count) / (mean count sqrt n)."""
    n, total = len(sums), counts.sum()
    if total == 0:
        return math.nan, math.nan
    mean = sums.sum() / total
    residuals = sums - mean * counts
    error = math.sqrt((residuals @ residuals) / (n - 1) / n) / (total / n)
    return float(mean), error


def _tag(scores: Scores, index: int) -> dict[str, float]:
    loss, se = ratio(scores.loss[:, index], scores.count[:, index])
    found = {"loss": loss, "se": se, "share": float(scores.count[:, index].sum() / scores.count[:, 0].sum())}
    if scores.surprise is not None:
        excess, _ = ratio(scores.loss[:, index] - scores.surprise[:, index], scores.count[:, index])
        found["excess"] = excess
    return found


def _chunks(
    task: Task, model: nn.Module, n: int, batch: int, device: str | torch.device, ranks: Ranks
) -> Iterator[tuple[int, Scores]]:
    """Scores of this rank's share of the chunks. Every rank runs as many, or sharded layers would wait forever."""
    starts = list(range(0, n, batch))
    rounds = math.ceil(len(starts) / ranks.count)
    with inference(model):
        for index in range(rounds):
            start = starts[min(index * ranks.count + ranks.rank, len(starts) - 1)]
            yield start, task.score(model, start, min(batch, n - start), device)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients; training mode is restored, and what FSDP2 gathered is sharded again."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        if isinstance(model, FSDPModule):
            model.reshard()
