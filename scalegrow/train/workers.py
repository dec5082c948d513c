"""Worker processes on this machine: each trains one run at a time, and dies with the one that started it."""

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal, Protocol

from scalegrow.errors import InputError
from scalegrow.train.interrupt import InterruptedRun
from scalegrow.train.member import Job, execute

PATIENCE = 120.0  # seconds to save in, once asked to stop
QUIT = None
Kind = Literal["finished", "failed", "stopped", "died"]
DIED: Kind = "died"


@dataclass(frozen=True)
class Event:
    """What became of a job: finished, failed for a reason that another try would not mend, stopped, or died."""

    key: str
    kind: Kind
    message: str = ""


class Workers(Protocol):
    """Where jobs run."""

    def start(self, job: Job) -> None:
        """Begin a job; only while `free` says there is room."""

    def free(self) -> int:
        """How many more jobs could begin now."""

    def events(self, seconds: float) -> list[Event]:
        """What ended, waiting so long for the first."""

    def stop(self) -> list[Event]:
        """Ask all to save and stop; what became of them."""


class LocalWorkers:
    """So many processes of so many threads, sharing out the GPUs where device is cuda.

    Every process has its own PyTorch: two of one thread train small models faster than one of two. On a GPU,
    several share it, so that runs too small to fill it run side by side.
    """

    def __init__(self, count: int, threads: int = 1, device: str = "cpu", gpus: int = 0) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._settings = (threads, device)
        self._gpus = gpus
        self._idle: list[_Worker] = []
        self._busy: dict[str, _Worker] = {}
        self._count = count

    def start(self, job: Job) -> None:
        """Give a job to an idle process, or to a new one on the GPU with the fewest."""
        worker = self._idle.pop() if self._idle else self._hired()
        self._busy[job.member.key] = worker
        worker.connection.send(job)

    def free(self) -> int:
        """Processes without a job, born or not."""
        return self._count - len(self._busy)

    def events(self, seconds: float) -> list[Event]:
        """What ended: a message from a process, or its death."""
        waited = [each for worker in self._busy.values() for each in (worker.connection, worker.process.sentinel)]
        ready = set(wait(waited, seconds))
        ended = [key for key, worker in self._busy.items() if {worker.connection, worker.process.sentinel} & ready]
        return [self._event(key) for key in ended]

    def stop(self) -> list[Event]:
        """SIGTERM to all that train; they save. SIGKILL to what has not answered in time."""
        for worker in self._busy.values():
            worker.process.terminate()
        found = []
        for key, worker in list(self._busy.items()):
            worker.connection.poll(PATIENCE)
            found.append(self._event(key))
        for worker in self._idle:
            worker.close()
        self._idle = []
        return found

    def _event(self, key: str) -> Event:
        worker = self._busy.pop(key)
        try:
            kind, message = worker.connection.recv() if worker.connection.poll() else (DIED, "")
        except (EOFError, OSError):
            kind, message = DIED, ""
        if kind in ("finished", "failed"):
            self._idle.append(worker)
        else:
            worker.close()
        if kind == DIED:
            code = worker.process.exitcode
            message = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return Event(key, kind, message)

    def _hired(self) -> "_Worker":
        """A new process, on the GPU with the fewest."""
        crowd = [worker.gpu for worker in (*self._busy.values(), *self._idle)]
        gpu = min(range(self._gpus), key=crowd.count) if self._gpus else None
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, gpu, *self._settings), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here, gpu)


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    gpu: int | None

    def close(self) -> None:
        """End it: a process that does not leave when told so is killed."""
        with suppress(OSError):
            self.connection.send(QUIT)
        self.connection.close()
        self.process.join(5)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _work(connection: Connection, gpu: int | None, threads: int, device: str) -> None:
    """A worker's life: jobs until told to quit."""
    os.setsid()  # Ctrl-C reaches a whole group of processes; these are asked to stop by their parent
    threading.Thread(target=_follow_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    try:
        while (job := connection.recv()) is not QUIT:
            connection.send(outcome(job, threads, device))
    except EOFError:
        return  # the parent is gone


def outcome(job: Job, threads: int, device: str) -> tuple[Kind, str]:
    """Train a job: what became of it, in words."""
    try:
        execute(job, threads, device)
    except InterruptedRun:
        return "stopped", ""
    except InputError as error:
        return "failed", str(error)
    except Exception as error:  # whatever it is, another try would end the same way
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "finished", ""


def _follow_parent() -> None:
    """Save and leave when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(PATIENCE)
    os._exit(1)
