"""Workers on Ray: runs as tasks on this machine or on a cluster whose machines share a file system."""

import os
import socket
from contextlib import chdir
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from scalegrow.errors import InputError
from scalegrow.train.member import PATIENCE, Job
from scalegrow.train.workers import DIED, Event, Kind, outcome

LOCAL, AUTO = "local", "auto"
ANSWER = 10.0  # seconds for a cluster to answer in


class RayWorkers:
    """Tasks of so many threads, and on CUDA of a share of a GPU; `count` of them at a time, or as many as fit.

    address is that of a cluster (host:port, or auto for the one of this machine), or local to start one here. Ray
    does not retry: a task whose process died is an event, and the sweep begins it again. Raises InputError where
    there is no cluster.
    """

    def __init__(self, address: str, count: int | None, threads: int, device: str, gpu_share: float) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        self._started = not ray.is_initialized()
        try:
            _knock(address)
            if self._started:
                ray.init(address, log_to_driver=False, logging_level="ERROR", **_own(address, count, threads))
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].partition(". ")[0]
            raise InputError(f"no Ray at {address!r} ({reason}): give host:port, auto or local.") from None
        self._share = {"CPU": float(threads), **({"GPU": gpu_share} if device == "cuda" else {})}
        self._settings = (threads, device, Path.cwd())
        self._count = count
        self._running: dict[Any, str] = {}
        self._task = ray.remote(_run).options(
            num_cpus=threads, num_gpus=self._share.get("GPU", 0), max_retries=0, name="scalegrow"
        )
        if self._room() < 1:
            raise InputError(
                f"no machine of Ray's has {self._share} free for a run: give fewer --threads, or cpu."
            )

    def start(self, job: Job) -> None:
        """Hand a job to the cluster."""
        self._running[self._task.remote(job, *self._settings)] = job.member.key

    def free(self) -> int:
        """How many more fit into what the cluster has now."""
        return max(self._room() - len(self._running), 0)

    def events(self, seconds: float) -> list[Event]:
        """What ended, by its result, or by the error of a task that has none."""
        ended, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._event(task) for task in ended]

    def stop(self) -> list[Event]:
        """Ctrl-C to all tasks; they save. What has not answered in time is killed."""
        for task in self._running:
            ray.cancel(task)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)
        found = [self._event(task) for task in list(self._running)]
        if self._started:
            ray.shutdown()
        return found

    def _room(self) -> int:
        """Tasks that the machines there now hold side by side."""
        fits = sum(
            int(min(node["Resources"].get(name, 0) / share for name, share in self._share.items()))
            for node in ray.nodes()
            if node["Alive"]
        )
        return fits if self._count is None else min(fits, self._count)

    def _event(self, task: Any) -> Event:
        key = self._running.pop(task)
        try:
            return Event(key, *ray.get(task, timeout=0))
        except RayTaskError as error:  # raised before the run began, as where the package is missing
            return Event(key, "failed", str(error).splitlines()[-1])
        except RayError as error:
            return Event(key, DIED, type(error).__name__)


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens: Ray itself would try for many minutes."""
    if address not in (LOCAL, AUTO):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=ANSWER).close()


def _own(address: str, count: int | None, threads: int) -> dict[str, Any]:
    """What Ray is told where it is started here: no dashboard, and CPUs for so many workers."""
    if address != LOCAL:
        return {}
    return {"include_dashboard": False, **({} if count is None else {"num_cpus": count * threads})}


def _run(job: Job, threads: int, device: str, folder: Path) -> tuple[Kind, str]:
    """A task: the run, from the folder where the sweep was started, since paths may be relative to it."""
    with chdir(folder):
        return outcome(job, threads, device)
