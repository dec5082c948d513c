"""Worker processes on this machine: each trains one run at a time, and dies with the one that started it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal, Protocol

from scalegrow.errors import InputError
from scalegrow.train.member import PATIENCE, Job, execute

QUIT = None
VISIBLE = "CUDA_VISIBLE_DEVICES"
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
    """So many processes of so many threads, sharing out the GPUs where there are any.

    Every process has its own PyTorch: two of one thread train small models faster than one of two. On a GPU,
    several share it, so that runs too small to fill it run side by side. gpus are as CUDA_VISIBLE_DEVICES names
    them.
    """

    def __init__(self, count: int, threads: int = 1, device: str = "cpu", gpus: tuple[str, ...] = ()) -> None:
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
        with suppress(OSError):  # one that died idle: its death is the job's next event
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
        until, found = time.monotonic() + PATIENCE, []
        for key, worker in list(self._busy.items()):
            worker.connection.poll(max(until - time.monotonic(), 0))
            found.append(self._event(key))
        for worker in self._idle:
            worker.close()
        self._idle = []
        return found

    def processes(self) -> dict[str, int]:
        """The process number behind each job at work."""
        return {key: worker.process.pid or 0 for key, worker in self._busy.copy().items()}

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
            message = _death(worker.process.exitcode)
        return Event(key, kind, message)

    def _hired(self) -> "_Worker":
        """A new process, on the GPU with the fewest."""
        gpu = least_crowded(self._gpus, [worker.gpu for worker in (*self._busy.values(), *self._idle)])
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, gpu, *self._settings), daemon=True)
        with _without_ctrl_c():
            process.start()
        there.close()
        return _Worker(process, here, gpu)


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    gpu: str | None

    def close(self) -> None:
        """End it: a process that does not leave when told so is killed."""
        with suppress(OSError):
            self.connection.send(QUIT)
        self.connection.close()
        self.process.join(5)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def visible_gpus(count: int) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process sees, so many of them."""
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named or map(str, range(count)))[:count]


def least_crowded(gpus: tuple[str, ...], taken: Iterable[str | None]) -> str | None:
    """The GPU with the fewest workers, of equals the first; None where there is no GPU."""
    return min(gpus, key=[*taken].count, default=None)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is started here never sees Ctrl-C, which reaches all of a terminal; it is asked to stop by SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _death(code: int | None) -> str:
    """SIGKILL, or exit code 1."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _work(connection: Connection, gpu: str | None, threads: int, device: str) -> None:
    """A worker's life: jobs until told to quit."""
    os.setsid()  # a terminal that closes hangs up on its whole session: this one is asked to save first
    threading.Thread(target=_follow_parent, daemon=True).start()
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while (job := connection.recv()) is not QUIT:
            connection.send(outcome(job, threads, device))


def outcome(job: Job, threads: int, device: str) -> tuple[Kind, str]:
    """Train a job: what became of it, in words."""
    try:
        execute(job, threads, device)
    except KeyboardInterrupt:
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
