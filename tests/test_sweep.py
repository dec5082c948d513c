"""Sweeps: workers that die, parents that die, studies that change, and always the same table."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import typer
from sweeping import Inline, swept, tiny_study

from scalegrow.cli import sweep as command
from scalegrow.cli.sweep import Machine
from scalegrow.cli.sweep_plan import show_plan
from scalegrow.errors import InputError
from scalegrow.runs.collect import collect
from scalegrow.runs.finished import read_note, write_note
from scalegrow.runs.log import last_step, read_records, status_of
from scalegrow.runs.study import Member, parse_study
from scalegrow.train import member as member_module
from scalegrow.train.estimate import cost, measured_rate, time_left
from scalegrow.train.member import Job, execute, finished, growth_plan, seconds
from scalegrow.train.stages import stages
from scalegrow.train.state import checkpoints
from scalegrow.train.sweep import claimed, jobs_of, require_texts, share_done, table
from scalegrow.train.workers import Kind, LocalWorkers, least_crowded, visible_gpus

LONG = tiny_study("8k tokens", "16k tokens", checkpoint_seconds=0.02)
NOTE = {
    "key": "KEY",
    "arm": "scratch",
    "factor": 1.0,
    "budgets": ["9 tokens"],
    "ends": {"9_tokens": 9},
    "seconds": 1,
}
HERE = Machine(workers=1, threads=1, device="cpu", per_gpu=1, ray=None, retries=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table of the long study, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert not swept(LONG, folder).failed
    return table(folder)


@pytest.fixture
def copied(short: Path, tmp_path: Path) -> Path:
    """A copy of the short study's folder, to be changed."""
    return Path(shutil.copytree(short, tmp_path / "out"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of the short study."""
    folder = tmp_path_factory.mktemp("short")
    assert not swept(tiny_study(), folder).failed
    return folder


def test_the_table_has_an_annealed_row_for_every_run_and_budget(whole: pl.DataFrame) -> None:
    annealed = whole.filter("annealed")
    assert annealed.group_by("folder", "tokens").len()["len"].to_list() == [1] * annealed.height
    arms = {row["arm"]: row for row in annealed.sort("n_params").iter_rows(named=True)}
    assert set(arms) == {"scratch", "szp", "zero_pad"}
    assert annealed.height == 1 + 3 * 2, "the base to its one budget, the others to two"
    assert arms["zero_pad"]["zero_step_kl"] == pytest.approx(0, abs=1e-8)
    assert arms["szp"]["zero_step_kl"] > 1e-6
    assert arms["scratch"]["zero_step_kl"] is None
    assert arms["szp"]["base_tokens"] == 1664, "where the base's cool-down would have begun"


def test_a_finished_sweep_begins_nothing_again(short: Path) -> None:
    workers = Inline()
    before = {path: path.stat().st_mtime_ns for path in short.rglob("*")}
    done = swept(tiny_study(), short, workers)
    assert workers.began == []
    assert len(done.finished) == 4
    assert {path: path.stat().st_mtime_ns for path in short.rglob("*")} == before


class Killer(threading.Thread):
    """SIGKILL to workers in the middle of their runs, so many times, at moments that a seed draws."""

    def __init__(self, workers: LocalWorkers, jobs: dict[str, Job], times: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.workers, self.jobs, self.times = workers, jobs, times
        self.draw = random.Random(seed)
        self.killed: list[tuple[str, int]] = []

    def run(self) -> None:
        moment = self.draw.uniform(0.1, 0.6)
        while self.times > len(self.killed):
            for key, process in self.workers.processes().items():
                share = share_done(self.jobs[key])
                saved = checkpoints(self.jobs[key].folder / "trunk" / "checkpoints")
                if moment < share < 0.9 and saved and process not in {pid for _, pid in self.killed}:
                    os.kill(process, signal.SIGKILL)
                    self.killed.append((key, process))
                    moment = self.draw.uniform(0.1, 0.6)
                    break
            time.sleep(0.005)


def test_workers_killed_at_random_change_nothing(whole: pl.DataFrame, tmp_path: Path) -> None:
    """Two at a time, three of them killed in the middle of a run: the table is that of the undisturbed sweep."""
    jobs = jobs_of(parse_study(LONG), tmp_path)
    workers = LocalWorkers(2)
    killer = Killer(workers, jobs, times=3, seed=7)
    killer.start()
    done = swept(LONG, tmp_path, workers)
    assert len(killer.killed) == 3, "the kills came too late to prove anything"
    assert done.deaths == len(killer.killed)
    assert not done.failed
    assert table(tmp_path).equals(whole)


def test_another_seed_would_give_another_table(short: Path, tmp_path: Path) -> None:
    """Negative control for `equals`: the same study, another order of the data."""
    other = tiny_study(more="seeds = [1]\n")
    swept(other, tmp_path)
    columns = ["n_params", "tokens", "annealed", "arm"]
    one, two = (table.sort(columns) for table in (table(short), table(tmp_path)))
    assert one.select(columns).equals(two.select(columns))
    assert not (one["loss"] == two["loss"]).any()


def sweeping(file: Path, out: Path) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    arguments = [sys.executable, "-m", "scalegrow", "sweep", str(file), "--out", str(out), "--workers", "1"]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_a_grown_run(jobs: dict[str, Job], process: subprocess.Popen[str], beyond: float) -> None:
    """Until one of them is in the middle, further than before."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if any(beyond < share_done(job) < 0.9 for job in jobs.values() if job.member.origin):
            return
        time.sleep(0.005)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def lives(process: int) -> bool:
    """Whether it runs; one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
def test_ctrl_c_saves_and_a_killed_sweep_leaves_no_orphans(whole: pl.DataFrame, tmp_path: Path) -> None:
    """Interrupted, then killed outright, then left alone: the same command ends in the undisturbed table."""
    file, out = tmp_path / "study.toml", tmp_path / "out"
    file.write_text(LONG.replace("checkpoint_seconds = 0.02", "checkpoint_seconds = 3600.0"))
    jobs = jobs_of(parse_study(LONG), out)
    with sweeping(file, out) as process:
        wait_for_a_grown_run(jobs, process, beyond=0.1)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate()[1]
    assert process.returncode == 130, stderr
    assert "saved in" in stderr.splitlines()[-1]
    assert any(map(finished, jobs.values())) == (out / "table.parquet").exists()
    assert "Traceback" not in stderr
    halfway = [job for job in jobs.values() if job.member.origin and not finished(job) and job.folder.exists()]
    assert any(status_of(job.folder / "trunk" / "log.jsonl") == "interrupted" for job in halfway)
    reached = max(share_done(job) for job in halfway)
    with sweeping(file, out) as process:
        wait_for_a_grown_run(jobs, process, beyond=reached)
        workers = children_of(process.pid)
        assert workers
        process.kill()
    assert not all(finished(job) for job in jobs.values()), "the kill came too late to prove anything"
    done = sweeping(file, out)
    assert done.communicate()[0].startswith("4 of 4 runs are finished")
    assert not any(lives(worker) for worker in workers)
    assert pl.read_parquet(out / "table.parquet").equals(whole)


def test_a_worker_waits_for_one_that_is_still_saving(tmp_path: Path) -> None:
    job = next(iter(jobs_of(parse_study(tiny_study()), tmp_path).values()))
    job.folder.mkdir(parents=True)
    lock = (job.folder / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.3, lock.close).start()
    execute(job)
    assert finished(job)
    with (job.folder / ".lock").open("w") as lock, pytest.MonkeyPatch.context() as patched:
        fcntl.flock(lock, fcntl.LOCK_EX)
        patched.setattr(member_module, "PATIENCE", 0.1)
        with pytest.raises(InputError, match="another process trains"):
            execute(job)


def test_a_worker_that_died_without_work_is_replaced(tmp_path: Path) -> None:
    """A job that fails at once leaves its process idle; killed there, it takes the next job to the grave."""
    job = next(iter(jobs_of(parse_study(tiny_study()), tmp_path).values()))
    (tmp_path / "runs").write_text("in the way")
    workers = LocalWorkers(1)
    workers.start(job)
    (process,) = workers.processes().values()
    (event,) = workers.events(60.0)
    assert (event.kind, workers.free()) == ("failed", 1)
    assert "cannot be written" in event.message
    os.kill(process, signal.SIGKILL)
    while lives(process):
        time.sleep(0.01)
    workers.start(job)
    (event,) = workers.events(60.0)
    assert (event.kind, event.message) == ("died", "SIGKILL")
    assert workers.stop() == []


@pytest.mark.parametrize("retries", [0, 2])
def test_a_run_whose_workers_die_is_given_up_after_its_tries(tmp_path: Path, retries: int) -> None:
    workers = Inline(lambda job: ("died", "SIGKILL"))
    lines: list[str] = []
    done = swept(tiny_study(), tmp_path, workers, retries=retries, tell=lines.append)
    assert len(workers.began) == 2 * (retries + 1), "the base and the run from scratch; nothing grown"
    assert done.deaths == len(workers.began)
    assert set(done.failed.values()) == {"its workers died, the last of SIGKILL"}
    assert len(done.waiting) == 2
    assert sum("tried again" in line for line in lines) == 2 * retries


def test_a_failed_run_is_not_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    def run(job: Job) -> tuple[Kind, str]:
        return ("failed", "no luck") if job.member.origin else ("finished", "")

    workers = Inline(run)
    done = swept(tiny_study(), tmp_path, workers)
    assert len(workers.began) == 4
    assert (len(done.finished), set(done.failed.values()), done.deaths) == (2, {"no luck"}, 0)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Inline:
    """The command's workers, in this process."""
    workers = Inline()
    monkeypatch.setattr(command, "_workers", lambda machine: workers)
    return workers


def test_a_diverging_run_fails_and_its_children_are_not_begun(
    tmp_path: Path, inline: Inline, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(tiny_study(more="settings.optimiser.clip = 0.0\nvary.optimiser.lr = [0.01, 1e38]\n"))
    for began in (6, 2):
        inline.began.clear()
        with pytest.raises(typer.Exit) as exit_:
            command.run(file, tmp_path / "out", tmp_path / "mine.csv", HERE, dry=False, as_json=True)
        assert exit_.value.exit_code == 4
        told = json.loads(capsys.readouterr().out)
        assert told["schema"] == "scalegrow-sweep/1"
        assert (told["runs"], len(told["finished"]), len(told["failed"]), len(told["not_begun"])) == (8, 4, 2, 2)
        assert all("diverged" in why for why in told["failed"].values())
        assert len(inline.began) == began, "what failed fails again, and costs nothing"
    rows = pl.read_csv(tmp_path / "mine.csv")
    assert {*rows["folder"]} == {*told["finished"]}
    assert {*rows["lr"]} == {0.01}


def test_a_half_written_run_is_not_in_the_table(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(short, folder)
    jobs = jobs_of(parse_study(tiny_study()), folder)
    half, going_on = list(jobs.values())[-2:]
    (half.folder / "finished.json").unlink()
    note = read_note(going_on.folder)
    write_note(going_on.folder, note | {"ends": {"trunk": note["ends"]["trunk"]}})
    rows = table(folder)
    assert {*rows["folder"]} == {job.folder.name for job in jobs.values()} - {half.folder.name}
    assert {*rows.filter(folder=going_on.folder.name)["stage"]} == {"trunk"}
    for job in jobs.values():
        (job.folder / "finished.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"no run below .* is finished"):
        table(folder)


def test_a_finished_run_that_lost_its_log_is_named(copied: Path) -> None:
    lost = next(iter(jobs_of(parse_study(tiny_study()), copied).values())).folder
    (lost / "2048_tokens" / "log.jsonl").unlink()
    with pytest.raises(InputError, match=rf"{lost.name} was finished and its log has no loss at the end of 2048"):
        table(copied)


def test_a_note_of_another_study_that_is_damaged_is_named(copied: Path) -> None:
    lost = next(iter(jobs_of(parse_study(tiny_study()), copied).values())).folder
    (lost / "finished.json").write_text("{")
    with pytest.raises(InputError, match=rf"{lost.name}/finished.json cannot be read"):
        table(copied)


def test_a_log_whose_last_step_is_none_tells_no_share(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": null}\n')
    assert last_step(tmp_path / "log.jsonl") == 0


def test_a_run_s_folder_may_be_a_link(short: Path, tmp_path: Path) -> None:
    """Moved to another disk, it counts as before."""
    folder = tmp_path / "out"
    shutil.copytree(short, folder)
    moved = next(iter(jobs_of(parse_study(tiny_study()), folder).values())).folder
    shutil.move(moved, tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    assert table(folder).equals(table(short))


def test_what_is_gone_or_damaged_is_named_with_the_way_on(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(short, folder)
    jobs = list(jobs_of(parse_study(tiny_study()), folder).values())
    base, (gone, damaged) = jobs[0].folder, [job.folder for job in jobs if job.member.origin]
    shutil.rmtree(base / "trunk" / "checkpoints")
    shutil.rmtree(gone)
    (damaged / "finished.json").unlink()
    (damaged / "start" / "step_00000000" / "state.json").write_text("x")
    failed = swept(tiny_study(), folder).failed
    assert {why for why in failed.values() if f"is gone: remove {base} to train the base again" in why}
    assert {why for why in failed.values() if f"Remove {damaged} to grow and train the run again" in why}


def test_one_text_is_written_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("text " * 9)
    study = parse_study(tiny_study(more='data = ["a.txt", "./a.txt"]\n'))
    study = replace(study, baseline=replace(study.baseline, tokenizer="bytes"))
    with pytest.raises(InputError, match=r"'a.txt' and './a.txt' are the same text"):
        require_texts(jobs_of(study, tmp_path).values())


def test_a_run_took_the_seconds_of_its_stages_each_once(short: Path) -> None:
    """A branch's clock goes on from its trunk's: what it inherited is counted there."""
    job = next(iter(jobs_of(parse_study(tiny_study()), short).values()))
    logs = {stage.name: read_records(job.folder / stage.name / "log.jsonl") for stage in stages(job.member.config)}
    last = {name: max(record.get("seconds", 0.0) for record in records) for name, records in logs.items()}
    assert last["2048_tokens"] > last["trunk"] > 0
    assert seconds(job.member.config, job.folder) == pytest.approx(last["2048_tokens"]), "one branch, at the end"


def test_another_study_in_the_folder_keeps_what_is_there(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(short, folder)
    other = tiny_study().split("[[runs]]")[0] + "[[runs]]\nsizes = ['16k']\n"
    assert not swept(other, folder).failed
    assert {*table(folder)["folder"]} > {*table(short)["folder"]}


def test_runs_of_a_folder_tell_their_arm_to_whoever_collects_them(short: Path) -> None:
    """What a study asked is in the run's note: `collect` and `fit FOLDER` know it too."""
    rows = collect(short / "runs").filter("annealed")
    asked = {(row["arm"], row["factor"], row["base_budget"]) for row in rows.iter_rows(named=True)}
    told = table(short).filter("annealed")
    assert asked == {*told.select("arm", "factor", "base_budget").iter_rows()}
    assert {arm for arm, *_ in asked} > {"scratch"}
    assert all((base is None) == (arm == "scratch") for arm, _, base in asked)


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(InputError, match="another sweep runs in"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_a_study_that_grows_uses_what_is_there(short: Path, tmp_path: Path) -> None:
    """Further budgets train on, further runs are added, and the folder may have moved meanwhile."""
    folder = tmp_path / "moved"
    shutil.copytree(short, folder)
    before = {path: path.read_bytes() for path in folder.rglob("2048_tokens/log.jsonl")}
    longer = tiny_study("2048 tokens", "4096 tokens", more="[[runs]]\nsizes = ['16k']\n")
    workers = Inline()
    assert not swept(longer, folder, workers).failed
    assert len(workers.began) == 4, "the base has what it needs; three are trained on, one is new"
    assert {path: path.read_bytes() for path in before} == before
    swept(longer, tmp_path / "fresh")
    keys = ["folder", "tokens"]
    found, wanted = (table(place).filter("annealed").sort(keys) for place in (folder, tmp_path / "fresh"))
    assert found.equals(wanted)


def test_a_study_that_drops_a_budget_keeps_the_trunk(short: Path, tmp_path: Path) -> None:
    """Another budget instead of the one that was trained: both are in the folder, and the run is finished."""
    folder = tmp_path / "moved"
    shutil.copytree(short, folder)
    other = tiny_study("4096 tokens")
    done = swept(other, folder)
    assert not done.failed
    assert {*table(folder).filter(pl.col("n_params") > 12e3, "annealed")["tokens"]} == {2048, 4096}


def test_a_budget_that_the_trunk_has_passed_is_refused(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(short, folder)
    with pytest.raises(InputError, match="where no checkpoint was kept"):
        jobs_of(parse_study(tiny_study("1024 tokens", "2048 tokens")), folder)


def test_a_folder_may_be_given_by_another_path(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative or absolute: a grown run that was begun goes on, its start at the new path."""
    shutil.copytree(short, tmp_path / "out")
    jobs = jobs_of(parse_study(tiny_study()), tmp_path / "out")
    for job in jobs.values():
        (job.folder / "finished.json").unlink()
    monkeypatch.chdir(tmp_path)
    done = swept(tiny_study(), Path("out"))
    assert (len(done.finished), done.failed) == (4, {})
    grown = next(job for job in jobs.values() if job.member.origin)
    kept = json.loads((grown.folder / "config.json").read_text())
    assert kept["start"]["checkpoint"].startswith("out/runs/")


def test_a_full_disk_is_told_and_the_sweep_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalegrow.train import state

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(state, "save_file", full)
        done = swept(tiny_study(), tmp_path)
    assert len(done.failed) == len(done.waiting) == 2
    assert all("No space left on device" in why for why in done.failed.values())
    assert len(swept(tiny_study(), tmp_path).finished) == 4


UNFIT = {
    "operators": (
        'sizes = ["14k"]\nfactors = [1, 1.3]\noperators = ["szp"',
        'sizes = ["30k"]\nfactors = [2]\noperators = ["net2net"',
        r"30k-net2net-x2-s0-\w+: net2net copies the stream whole",
    ),
    "candidates": ("szp", "szp:shrunk=1", "szp:shrunk=1 has no setting 'shrunk': did you mean shrink"),
    "bases without a trunk": ("log_every", 'schedule.kind = "cosine"\nlog_every', "a cosine base has no trunk"),
    "bases never annealed": (
        "log_every",
        'schedule.kind = "constant"\nlog_every',
        "a constant rate leaves no base",
    ),
}


@pytest.mark.parametrize("problem", UNFIT)
def test_runs_that_could_not_be_grown_are_named_before_anything_starts(problem: str) -> None:
    old, new, message = UNFIT[problem]
    with pytest.raises(InputError, match=message):
        jobs_of(parse_study(tiny_study().replace(old, new)), Path("nowhere"))


REFUSED = {
    "is not there: give": ("data = 'nothing.txt'\ntokenizer = 'bytes'\n", {}),
    "reader.txt/out/table.parquet cannot be written": ("", {"out": Path("reader.txt/out")}),
    "reader.txt/mine.csv cannot be written": ("", {"table": Path("reader.txt/mine.csv")}),
    "folder.csv is a folder": ("", {"table": Path("folder.csv")}),
    "has no known ending": ("", {"table": Path("table.xlsx")}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: Inline, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reader.txt").write_text("in the way")
    Path("folder.csv").mkdir()
    dials, places = REFUSED[message]
    Path("study.toml").write_text(tiny_study().replace("[baseline]\n", f"[baseline]\n{dials}"))
    chosen = {"out": Path("out"), "table": None, **places}
    with pytest.raises(InputError, match=message) as refusal:
        command.run(Path("study.toml"), chosen["out"], chosen["table"], HERE, dry=False, as_json=False)
    assert len(str(refusal.value).splitlines()) == 1
    assert inline.began == []
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "--workers 0 does no work"),
        ({"threads": 0}, "--threads 0 on"),
        ({"threads": 10**6}, "--threads 1000000 on"),
        ({"per_gpu": 0}, "--per-gpu 0 uses no GPU"),
        ({"retries": -1}, "--retries -1 is below none"),
        ({"device": "tpu"}, "choose cpu or cuda"),
    ],
)
def test_machines_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(HERE, **change)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match="no CUDA device here"):
        command._workers(replace(HERE, device="cuda"))


def test_the_plan_tells_sizes_and_arms_and_as_json_every_run(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(parse_study(tiny_study("2048 tokens", "4096 tokens", more="seeds = [0, 1]\n")), short)
    show_plan(jobs, short, 2, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert "14k: trunk of 3.33k, budgets 2048 tokens, 4096 tokens" in {line.strip() for line in lines}
    szp = next(line.split() for line in lines if "szp x1.3" in line)
    assert "Each line holds runs that differ in: seed 0, 1" in lines
    assert szp[2:7] == ["10.8k", "at", "2048", "tokens", "2"], "two seeds in one line"
    show_plan(jobs, short, 2, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "scalegrow-sweep-plan/1"
    assert [run["name"] for run in told["runs"]] == [job.member.name for job in jobs.values()]
    assert [run["key"] for run in told["runs"] if run["finished"]] == [next(iter(jobs))], "one base, seed 0"
    for run, job in zip(told["runs"], jobs.values(), strict=True):
        config = job.member.config
        whole = sum(stage.end - stage.start for stage in stages(config)) * config.tokens_per_step
        assert (run["tokens"], run["flops"]) == (whole, 6 * run["n_params"] * whole)


def test_the_estimate_of_the_disk_is_near_the_truth(short: Path) -> None:
    jobs = jobs_of(parse_study(tiny_study()), short)
    for job in jobs.values():
        there = sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file())
        assert cost(job.member).disk == pytest.approx(there, rel=0.35)


def test_without_ray_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "scalegrow.train.ray_workers", raising=False)
    with pytest.raises(InputError, match=r"pip install 'scalegrow\[ray\]'"):
        command._workers(replace(HERE, ray="local"))


def test_workers_fill_the_machine() -> None:
    cores = os.cpu_count() or 1
    assert replace(HERE, workers=None).count(0) == cores
    assert replace(HERE, workers=None, threads=cores).count(0) == 1
    assert replace(HERE, workers=None, device="cuda", per_gpu=3).count(2) == 6
    assert replace(HERE, workers=5, device="cuda", per_gpu=3).count(2) == 5


def test_workers_share_gpus_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes to the GPU with the fewest, under the names that this process knows them by."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus(2) == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,7")
    gpus = visible_gpus(3)
    assert gpus == ("GPU-a", "GPU-b", "7")
    taken: list[str | None] = []
    for _ in range(7):
        taken.append(least_crowded(gpus, taken))
    assert taken == [*gpus, *gpus, "GPU-a"]
    taken.remove("GPU-b")
    assert least_crowded(gpus, taken) == "GPU-b", "where one died there is room"
    assert least_crowded((), [None, None]) is None


def test_the_time_left_is_an_even_share_or_the_longest_chain() -> None:
    jobs = jobs_of(parse_study(tiny_study()), Path("nowhere"))
    members = [job.member for job in jobs.values()]
    base, scratch, one, other = (member.key for member in members)
    left = {base: 30.0, scratch: 40.0, one: 50.0, other: 60.0}
    assert time_left(members, left, workers=1) == 180
    assert time_left(members, left, workers=2) == 90
    assert time_left(members, left, workers=3) == 90, "no more workers make a base and its child quicker"
    assert time_left(members, {one: 50.0}, workers=3) == 50, "a base that is finished takes no time"
    assert time_left(members, {}, workers=2) == 0


def test_a_rate_is_first_what_was_expected_and_then_what_is_measured() -> None:
    assert measured_rate(0.0, 0.0, expected=2.0) == 2
    assert measured_rate(60.0, 60.0, expected=3.0) == 2
    assert measured_rate(5e6, 1e6, expected=1.0) == pytest.approx(5, rel=1e-3)
    assert measured_rate(-5.0, 0.0, expected=2.0) == 2, "a resumed run may fall back behind its log"


def test_progress_knows_what_is_done_and_what_cannot_begin(short: Path) -> None:
    from scalegrow.cli.sweep_progress import Watch
    from scalegrow.train.sweep import Outcome

    jobs = jobs_of(parse_study(tiny_study()), short)
    base, scratch, one, other = jobs
    watch = Watch(jobs)
    nothing = Outcome(waiting={*jobs})
    assert watch._state(nothing, {})[0] == 0
    half = Outcome(finished={base, scratch}, waiting={other})
    share, line = watch._state(half, {one: 0.5})
    assert line.startswith("2 of 4 runs, 1 at work, ")
    assert share == pytest.approx(
        (sum(watch._work.values()) - watch._work[other] - 0.5 * watch._work[one]) / sum(watch._work.values())
    )
    assert Outcome(failed={base: ""}, waiting={scratch, one, other}).open(jobs) == {scratch}
    assert watch._state(Outcome(finished={*jobs}), {})[1].endswith("100%, 0 s left")


@pytest.mark.parametrize("twin", ["szp:shrink=0.4", "szp:seed=0", "szp:moments=reset"])
def test_one_growth_written_two_ways_is_refused(twin: str, tmp_path: Path) -> None:
    """szp shrinks by 0.4 and resets moments unless told: both would train one run and count it twice."""
    text = (
        '[baseline]\nn_layers = 1\nhead_dim = 8\ncontext = 16\nbudgets = ["2048 tokens"]\n'
        '[[runs]]\nsizes = ["14k"]\nfactors = [1.3]\nbase_budgets = ["2048 tokens"]\noperators = ["szp", "%s"]\n'
    )
    with pytest.raises(InputError, match="are the same growth: write it one way"):
        jobs_of(parse_study(text % twin), tmp_path)
    assert len(jobs_of(parse_study(text % "szp:shrink=0.8"), tmp_path)) == 3


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[" * 100_000, '{"key": "KEY"}'),
        *(
            json.dumps(NOTE | wrong)
            for wrong in ({"budgets": ["foo"]}, {"budgets": [5]}, {"ends": {"trunk": "9"}})
        ),
        *(json.dumps(NOTE | wrong) for wrong in ({"seconds": "1"}, {"zero_step_kl": "0"}, {"budgets": 5})),
    ],
)
def test_a_damaged_note_means_not_finished(text: str, tmp_path: Path) -> None:
    tmp_path.joinpath("finished.json").write_text(text)
    assert read_note(tmp_path) == {}


def test_a_note_is_read_as_written(tmp_path: Path) -> None:
    write_note(tmp_path, NOTE)
    assert read_note(tmp_path) == NOTE


def grown_with(**settings: str) -> Member:
    """A grown member of a study whose runs differ from their bases in these lines."""
    lines = "\n".join(f"{name.replace('__', '.')} = {value}" for name, value in settings.items())
    study = parse_study(tiny_study() + f"{lines}\nbase_settings.init.gamma = 0.5\n")
    return next(member for member in study.members() if member.origin)


def test_a_grown_run_s_gamma_is_its_new_block_s() -> None:
    assert growth_plan(grown_with(settings__init__gamma="1.0")).arguments.gamma == 1.0
    assert growth_plan(grown_with(settings__init__gamma="0.5")).arguments.gamma is None


def test_an_init_that_growing_cannot_follow_is_refused() -> None:
    with pytest.raises(InputError, match="in gamma alone"):
        growth_plan(grown_with(settings__init__depth_scaled="true", base_settings__init__depth_scaled="false"))
