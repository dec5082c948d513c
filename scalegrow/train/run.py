"""train(config, folder): every stage of a run, in a folder of its own, from wherever it was left."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalegrow import __version__
from scalegrow.atomic import lock, new_file
from scalegrow.errors import InputError
from scalegrow.runs.branches import warmup_steps
from scalegrow.runs.config import Decoder, RunConfig, Start
from scalegrow.shape import ModelShape
from scalegrow.train.distributed import Ranks
from scalegrow.train.evaluate import require_heldout
from scalegrow.train.interrupt import Interruption
from scalegrow.train.loop import Run, Watcher, train_stage
from scalegrow.train.mup import multipliers, scales
from scalegrow.train.stages import Stage, require_extension, stages
from scalegrow.train.task import Task, task_for

CONFIG, DATA = "config.json", "data.json"
TOLD = (  # of a start, to the run table
    "operator",
    "base",
    "base_params",
    "base_tokens",
    "growth_factor",
    "growth_factor_non_embedding",
    "growth_factor_width",
)
# Of a run that was begun: it may get further budgets, its folder may be moved, and it may save more often.
MAY_CHANGE = {"budgets", "start.checkpoint", "checkpoint_seconds"}
BYTES_PER_PARAMETER = 16  # weights, gradients and two moments in float32
BYTES_PER_LOGIT = 12  # logits, their gradient and the softmax


class BusyError(InputError):
    """Another process trains in the folder."""


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
    folder = Path(folder)
    require_memory(config, ranks)
    task = task_for(config, cache or folder.parent / "packed")
    require_heldout(task)
    with _claimed(folder, config, task, ranks), Interruption() as interruption:
        run = Run(config, task, folder, header(config, task, ranks), ranks, interruption, watchers)
        planned = stages(config)
        for stage in planned:
            train_stage(run, stage)
    return planned


def require_memory(config: RunConfig, ranks: Ranks) -> None:
    """Raise InputError if weights, moments and logits cannot fit into this machine's memory."""
    if ranks.device != "cpu":
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shape = config.model.shape
    width = shape.vocab_size if isinstance(shape, ModelShape) else shape.width
    step = BYTES_PER_LOGIT * config.tokens_per_step * width // ranks.count
    needed = BYTES_PER_PARAMETER * shape.n_params + step
    if needed > there:
        raise InputError(
            f"this run needs about {needed / 1e9:,.0f} GB, and the machine has {there / 1e9:,.0f}: "
            "make the model, the batch or the context smaller."
        )


def header(config: RunConfig, task: Task, ranks: Ranks) -> dict[str, Any]:
    """What a log says first: the resolved config, counts, the data, muP's numbers, versions."""
    shape = config.model.shape
    n_params = shape.n_params
    digest = config.digest()
    data = task.describe()
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
            "data": data_name(data),
            **_grown(config.start),
        },
        "config": config.to_dict(),
        "counts": counts,
        "data": data,
        "tags": list(task.groups),
        "multipliers": vars(multipliers(config)),
        "scales": {name: vars(scales(name, spec, config)) for name, spec in task.parameters().items()},
        "versions": versions(ranks),
    }


def _grown(start: Start | None) -> dict[str, Any]:
    """What the run table says of a run that started from a grown checkpoint."""
    if start is None:
        return {}
    return {name: getattr(start, name) for name in TOLD}


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
def _claimed(folder: Path, config: RunConfig, task: Task, ranks: Ranks) -> Iterator[None]:
    """Hold a folder for this run alone. Raises InputError if another process or another run holds it."""
    with ExitStack() as held:
        problem = None
        try:
            if ranks.writes:
                _take(folder, config, task, held)
        except InputError as error:
            problem = error
        if ranks.any(problem is not None):
            raise problem or InputError("rank 0 refused the run: see its message.")
        yield


@contextmanager
def hold(folder: Path, busy: InputError) -> Iterator[None]:
    """Make a folder and lock it. Raises InputError where it cannot be written, `busy` where another has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): choose another --out.") from None
    with file:
        lock(file, busy)
        yield


def _take(folder: Path, config: RunConfig, task: Task, held: ExitStack) -> None:
    """Lock the folder and see that it is empty or holds this run, on these data."""
    busy = BusyError(f"another process trains in {folder}: wait, or choose another --out.")
    held.enter_context(hold(folder, busy))
    if not (folder / CONFIG).exists() and any(folder.glob("*/log.jsonl")):
        raise InputError(f"{folder} holds a run without its {CONFIG}: restore it, or choose another --out.")
    _keep_config(folder / CONFIG, config)
    _keep_data(folder / DATA, task.describe())


def kept_config(folder: Path) -> RunConfig | None:
    """The config that a folder's run was begun with, None where it was not. Raises InputError if it is damaged."""
    there = _kept(folder / CONFIG)
    try:
        return None if there is None else RunConfig.from_dict(there)
    except InputError as error:
        raise InputError(f"{folder / CONFIG} is damaged ({str(error).rstrip('.')}): restore it.") from None


def _keep_data(path: Path, description: dict[str, object]) -> None:
    """Write what the data are, or check that they are still the same."""
    wanted = json.loads(json.dumps(description))
    there = _kept(path)
    if there is None:
        _keep(path, wanted)
    elif different := sorted(_differences(there, wanted)):
        raise InputError(
            f"{path.parent} was begun on other data (they differ in {different[0]}): restore them, or choose "
            "another --out."
        )


def _kept(path: Path) -> Any:
    """What a file of ours holds; None if it is not there."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{path} cannot be read: restore it, or choose another --out.") from None


def _keep(path: Path, data: Any) -> None:
    """Write a file of ours, whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(data, indent=1))


def _keep_config(path: Path, config: RunConfig) -> None:
    """Write the config, or check that the one there is the same but for what may change: see MAY_CHANGE."""
    wanted = json.loads(json.dumps(config.to_dict()))
    if (old := kept_config(path.parent)) is not None:
        different = _differences(json.loads(json.dumps(old.to_dict())), wanted)
        if other := sorted(different - MAY_CHANGE):
            names = ", ".join(other[:3])
            raise InputError(f"{path.parent} holds another run (it differs in {names}): choose another --out.")
        if not different:
            return
        if "budgets" in different:
            require_extension(old, config, path.parent)
    _keep(path, wanted)


def _differences(one: Any, other: Any, where: str = "") -> set[str]:
    """Dotted names of settings that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = set()
        for key in one.keys() | other.keys():
            found |= _differences(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        return found
    return set() if one == other else {where}
