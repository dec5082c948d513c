"""Sweeps on a local Ray: the table of any other, when a worker is killed too, and runs that save when stopped."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sweeping import swept, tiny_study

from scalegrow.cli import sweep as command
from scalegrow.cli.sweep import Machine
from scalegrow.errors import InputError
from scalegrow.runs.log import status_of
from scalegrow.runs.study import parse_study
from scalegrow.train.member import Job
from scalegrow.train.state import checkpoints
from scalegrow.train.sweep import jobs_of, share_done, table

ray = pytest.importorskip("ray")
LONG = tiny_study("16k tokens", checkpoint_seconds=0.02)
MACHINE = Machine(workers=2, threads=1, device="cpu", per_gpu=1, ray="local", retries=3)


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """One for all tests; workers that find Ray at work leave it so."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def process_in(folder: Path) -> int | None:
    """The process that holds a run's folder, by the files that are open."""
    lock = folder / ".lock"
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == lock:
                return int(link.parts[2])
        except OSError:
            continue
    return None


def kill_in_the_middle(job: Job, killed: list[int]) -> None:
    """SIGKILL to whatever trains a run, once it has a checkpoint to go on from."""
    while not killed:
        saved = checkpoints(job.folder / "trunk" / "checkpoints")
        process = process_in(job.folder) if saved and 0.2 < share_done(job) < 0.8 else None
        if process:
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads processes from /proc")
def test_a_sweep_on_ray_survives_a_killed_worker(tmp_path: Path) -> None:
    jobs = jobs_of(parse_study(LONG), tmp_path / "ray")
    killed: list[int] = []
    threading.Thread(target=kill_in_the_middle, args=(list(jobs.values())[1], killed), daemon=True).start()
    done = swept(LONG, tmp_path / "ray", command._workers(MACHINE))
    assert (len(killed), done.deaths) == (1, 1), "the kill came too late to prove anything"
    assert not done.failed
    swept(LONG, tmp_path / "here")
    assert table(tmp_path / "ray").equals(table(tmp_path / "here"))


def test_stopping_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a relative folder: the tasks work where the sweep was started."""
    monkeypatch.chdir(tmp_path)
    job = list(jobs_of(parse_study(tiny_study("100k tokens")), Path("out")).values())[1]
    workers = command._workers(MACHINE)
    workers.start(job)
    assert workers.free() == 1
    while share_done(job) < 0.02:
        time.sleep(0.01)
    assert [(event.key, event.kind) for event in workers.stop()] == [(job.member.key, "stopped")]
    assert status_of(job.folder / "trunk" / "log.jsonl") == "interrupted"
    assert checkpoints(job.folder / "trunk" / "checkpoints")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "somewhere", "ray://127.0.0.1:10001"])
def test_a_cluster_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match="no Ray at") as refusal:
        command._workers(replace(MACHINE, ray=address))
    assert len(str(refusal.value).splitlines()) == 1


def test_what_ray_cannot_give_is_refused() -> None:
    with pytest.raises(InputError, match="give fewer --threads"):
        command._workers(replace(MACHINE, threads=3))
    with pytest.raises(InputError, match="give fewer --threads"):
        command._workers(replace(MACHINE, device="cuda"))
