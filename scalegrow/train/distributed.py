"""Ranks: one process, or many under torchrun, with DDP or FSDP2.

The batch of a step is the same whatever the number of ranks: each takes its share, in order.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from scalegrow.errors import InputError
from scalegrow.train.task import Scores

Sharding = Literal["none", "ddp", "fsdp"]


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. rank 0 writes."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    sharding: Sharding = "none"

    @property
    def writes(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    def share(self, first: int, count: int) -> tuple[int, int]:
        """This rank's part of a step's items: (first, count)."""
        part = count // self.count
        return first + self.rank * part, part

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as its peers share it. Raises InputError on an unknown sharding."""
        if self.sharding == "none":
            return model
        if self.sharding == "ddp":
            return nn.parallel.DistributedDataParallel(model)
        from torch.distributed.fsdp import fully_shard

        for block in getattr(getattr(model, "model", model), "layers", ()):
            fully_shard(block)
        fully_shard(model)
        return model

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over the ranks."""
        if self.count > 1:
            dist.all_reduce(value)
            value /= self.count
        return value

    def any(self, flag: bool) -> bool:
        """Whether any rank says so: all stop together."""
        if self.count == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return bool(votes.item() > 0)

    def merge(self, parts: Iterable[tuple[int, Scores]], n: int) -> Scores:
        """The scores of items 0 .. n - 1 from everybody's chunks."""
        made = dict(parts)  # a chunk that was run twice to keep step counts
        first = next(iter(made.values()))
        fields = [getattr(first, name) for name in ("loss", "count", "surprise")]
        filled: list[Any] = []
        for name, example in zip(("loss", "count", "surprise"), fields, strict=True):
            if example is None:
                filled.append(None)
                continue
            sums, seen = np.zeros((n, example.shape[1])), np.zeros((n, 1))
            for start, scores in made.items():
                sums[start : start + len(scores.loss)] = getattr(scores, name)
                seen[start : start + len(scores.loss)] = 1
            filled.append(self._sum(sums) / self._sum(seen))
        return Scores(*filled)

    def barrier(self) -> None:
        """Wait for the others."""
        if self.count > 1:
            dist.barrier()

    def _sum(self, array: Any) -> Any:
        if self.count == 1:
            return array
        total = torch.from_numpy(array).to(self.device)
        dist.all_reduce(total)
        return total.cpu().numpy()


def start_ranks(device: str | None = None, sharding: str | None = None) -> Ranks:
    """The ranks of torchrun's environment; one process without it. Raises InputError on what is not there."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in ("cpu", "cuda"):
        raise InputError(f"device {chosen!r} is unknown: choose cpu or cuda.")
    if chosen == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here: leave --device out, or give cpu.")
    if sharding not in (None, "none", "ddp", "fsdp"):
        raise InputError(f"sharding {sharding!r} is unknown: choose ddp or fsdp.")
    if count == 1:
        if sharding in ("ddp", "fsdp"):
            raise InputError(f"--sharding {sharding} shares a run among ranks: start it with torchrun.")
        return Ranks(device=chosen)
    if chosen == "cuda":
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.startswith("cuda") else "gloo")
    return Ranks(rank, count, chosen, "ddp" if sharding in (None, "none", "ddp") else "fsdp")


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one, on the CPU; every rank must ask."""
    return gathered(tensor).detach().cpu()


def gathered(tensor: Any) -> Tensor:
    """The full tensor of a sharded one, where it is; every rank must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def fill(target: Any, full: Tensor) -> None:
    """Copy a full tensor into a whole or sharded one, in place."""
    with torch.no_grad():
        if hasattr(target, "device_mesh"):
            from torch.distributed.tensor import distribute_tensor

            full = distribute_tensor(full.to(target.device), target.device_mesh, target.placements)
        target.copy_(full)
