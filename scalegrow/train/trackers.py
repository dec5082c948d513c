"""Experiment trackers as onlookers: each needs its own package, and none changes a run."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.train.loop import Watcher
from scalegrow.train.stages import Stage


class Tracker:
    """Opens one tracker run a stage and sends every number of every record."""

    def __init__(self, start: Callable[[str, dict[str, Any]], Callable[[dict[str, float], int], None]]) -> None:
        self._open = start

    def start(self, stage: Stage, header: dict[str, Any], step: int) -> None:
        """Open."""
        self._send = self._open(f"{header['run']}-{stage.name}", header["config"])

    def record(self, stage: Stage, record: dict[str, Any]) -> None:
        """Send the numbers; a tag's loss as tags/NAME."""
        numbers = {key: float(value) for key, value in record.items() if isinstance(value, int | float)}
        numbers |= {f"tags/{name}": tag["loss"] for name, tag in record.get("tags", {}).items() if tag["share"]}
        self._send(numbers, record["step"])

    def end(self, stage: Stage, status: str) -> None:
        """Close."""
        self._send({"finished": float(status == "finished")}, -1)


def tracker(name: str, folder: Path) -> Watcher:
    """wandb, trackio or tensorboard by name. Raises InputError when unknown or its package is absent."""
    openers = {"wandb": _wandb_like, "trackio": _wandb_like, "tensorboard": _tensorboard}
    if name not in openers:
        raise InputError(f"tracker {name!r} is unknown: choose {', '.join(openers)}.")
    try:
        return openers[name](name, folder)
    except ImportError:
        raise InputError(f"tracker {name} needs its package: pip install {name}.") from None


def _wandb_like(name: str, folder: Path) -> Watcher:
    """W&B, and trackio, which has its calls."""
    module = import_module(name)

    def start(run: str, config: dict[str, Any]) -> Callable[[dict[str, float], int], None]:
        module.init(project="scalegrow", name=run, config=config)

        def send(numbers: dict[str, float], step: int) -> None:
            if step < 0:
                module.finish()
            else:
                module.log(numbers, step=step)

        return send

    return Tracker(start)


def _tensorboard(name: str, folder: Path) -> Watcher:
    writer_class = import_module("torch.utils.tensorboard").SummaryWriter

    def start(run: str, config: dict[str, Any]) -> Callable[[dict[str, float], int], None]:
        writer = writer_class(folder / "tensorboard" / run)

        def send(numbers: dict[str, float], step: int) -> None:
            if step < 0:
                writer.close()
                return
            for key, value in numbers.items():
                writer.add_scalar(key, value, step)

        return send

    return Tracker(start)
