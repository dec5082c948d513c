"""train(config, folder): every stage of a run, in a folder of its own, from wherever it was left."""

import fcntl
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalegrow import __version__
from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.train.distributed import Ranks
from scalegrow.train.interrupt import Interruption
from scalegrow.train.loop import Run, Watcher, train_stage
from scalegrow.train.mup import multipliers, scales
from scalegrow.train.optim import warmup_steps
from scalegrow.train.stages import Stage, require_extension, stages
from scalegrow.train.task import Task, task_for

CONFIG = "config.json"


def train(
    config: RunConfig,
    folder: Path,
    ranks: Ranks | None = None,
    watchers: tuple[Watcher, ...] = (),
    cache: Path | None = None,
) -> list[Stage]:
    """Train every stage that is not finished; the stages, whose logs and checkpoints stand in folder/<stage>.

    A folder that holds another run is refused. Raises InputError, DivergedError, and InterruptedRun after
    saving.
    """
    ranks = ranks or Ranks()
    if config.batch % ranks.count:
        raise InputError(f"batch {config.batch} does not divide among {ranks.count} ranks: choose a multiple.")
    task = task_for(config, cache or folder.parent / "packed")
    with _claimed(folder, config, ranks), Interruption() as interruption:
        run = Run(config, task, folder, header(config, task, ranks), ranks, interruption, watchers)
        planned = stages(config)
        for stage in planned:
            train_stage(run, stage)
    return planned


def header(config: RunConfig, task: Task, ranks: Ranks) -> dict[str, Any]:
    """What a log says first: the resolved config, counts, the data, muP's numbers, versions."""
    shape = config.model.shape
    n_params = shape.n_params
    digest = config.digest()
    counts: dict[str, Any] = {
        "n_params": n_params,
        "n_params_non_embedding": shape.n_params_non_embedding,
        "flops_per_token": config.flops_per_token,
        "tokens_per_step": config.tokens_per_step,
        "warmup_steps": warmup_steps(config),
    }
    if isinstance(config.model, Decoder):
        counts["flops_per_token_with_attention"] = config.model.shape.flops_per_token_with_attention
    return {
        "run": digest,
        "row": {
            "run": digest,
            "operator": "scratch",
            "n_params": n_params,
            "n_params_non_embedding": shape.n_params_non_embedding,
            "growth_factor": 1.0,
            "seed": config.seed,
            "data": data_name(task.describe()),
        },
        "config": config.to_dict(),
        "counts": counts,
        "data": task.describe(),
        "tags": list(task.groups),
        "multipliers": vars(multipliers(config)),
        "scales": {name: vars(scales(spec, config)) for name, spec in task.parameters().items()},
        "versions": versions(ranks),
    }


def data_name(description: Mapping[str, object]) -> str:
    """What losses were measured on, in which tokens: they compare only where this is the same."""
    source = description["source"]
    if isinstance(source, dict):
        tokenizer = description["tokenizer"]
        assert isinstance(tokenizer, dict)
        return f"{source['name']} in {tokenizer['spec']} ({str(tokenizer['sha256'])[:8]})"
    grammar = description.get("grammar")
    return f"{source} {grammar['seed']}" if isinstance(grammar, dict) else str(source)


def versions(ranks: Ranks) -> dict[str, str]:
    """What ran: library versions, the machine's kind, and among how many it was shared."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "scalegrow": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": str(torch.get_num_threads()),
        "ranks": str(ranks.count),
        "sharding": ranks.sharding,
    }


@contextmanager
def _claimed(folder: Path, config: RunConfig, ranks: Ranks) -> Iterator[None]:
    """Hold a folder for this run alone. Raises InputError if another process or another run holds it."""
    if not ranks.writes:
        ranks.barrier()
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process trains in {folder}: wait, or choose another --out.") from None
        _keep_config(folder / CONFIG, config)
        ranks.barrier()
        yield


def _keep_config(path: Path, config: RunConfig) -> None:
    """Write the config, or check that the one there is the same."""
    wanted = json.loads(json.dumps(config.to_dict()))
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except (OSError, ValueError):
            raise InputError(f"{path} cannot be read: remove it, or choose another --out.") from None
        different = sorted(_differences(there, wanted))
        if different and different != ["budgets"]:
            names = ", ".join(different[:3])
            raise InputError(f"{path.parent} holds another run (it differs in {names}): choose another --out.")
        if not different:
            return
        require_extension(RunConfig.from_dict(there), config, path.parent)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=1))
    partial.rename(path)


def _differences(one: Any, other: Any, where: str = "") -> set[str]:
    """Dotted names of settings that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = set()
        for key in one.keys() | other.keys():
            found |= _differences(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        return found
    return set() if one == other else {where}
