"""scalegrow select on a real checkpoint of some steps, by the shipped study and by one fitted on the spot."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from training import tiny_config

from scalegrow.train.run import train


def scalegrow(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scalegrow", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "run"
    train(tiny_config(), folder)
    return sorted(folder.glob("trunk/checkpoints/step_*"))[-1]


def test_a_probe_and_the_study_name_a_warm_start(base: Path) -> None:
    done = scalegrow("select", base, "--width", 2, "--operators", "tile, zero_pad, szp, net2net", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == "scalegrow-select/1"
    names = [each["candidate"] for each in told["candidates"]]
    assert sorted(names) == ["szp", "tile", "zero_pad"]  # szp is the study's szp:shrink=0.4
    assert told["take"] == names[0]
    assert told["unknown"] == ["net2net"]
    assert sum(each["p_best"] for each in told["candidates"]) == pytest.approx(1)
    assert {each["candidate"] for each in told["probe"]["measured"]} == {*names}
    assert told["times_outside"]["parameters"] < 1


def test_without_a_probe_the_study_decides_alone(base: Path) -> None:
    done = scalegrow("select", base, "--width", 1.5, "--no-probe")
    assert done.returncode == 0, done.stderr
    assert "Take " in done.stdout
    assert "tile refused: tile copies the stream whole" in " ".join(done.stdout.split())
    assert "No probe" in done.stdout


def test_a_study_is_fitted_and_kept(base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    done = scalegrow("select", "--runs", "reference_selection", "--out", mine)
    assert done.returncode == 0, done.stderr
    assert "szp:shrink=0.4" in done.stdout
    shipped, kept = (
        scalegrow("select", base, "--width", 2, "--no-probe", "--json", *study)
        for study in ((), ("--study", mine))
    )
    a, b = json.loads(shipped.stdout), json.loads(kept.stdout)
    assert [each["candidate"] for each in a["candidates"]] == [each["candidate"] for each in b["candidates"]]
    for one, other in zip(a["candidates"], b["candidates"], strict=True):
        assert one["effect"]["value"] == pytest.approx(other["effect"]["value"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a checkpoint to choose for, or --runs"),
        (("BASE", "--runs", "reference_selection"), "give a checkpoint to choose for, or --runs"),
        (("BASE", "--width", "2", "--out", "x.json"), "beside --runs"),
        (("BASE", "--layers", "9"), "grew in width alone"),
        (("BASE", "--width", "2", "--lag", "7"), "probes of 16 and 128 steps"),
        (("BASE", "--width", "2", "--operators", "net2net", "--no-probe"), "the study knows none of net2net"),
        (("BASE", "--width", "2", "--study", "none"), "gives? a path|neither a file"),
        (("BASE", "--width", "2", "--level", "2"), "level"),
        (("gone", "--width", "2"), "gone"),
        (("--runs", "reference_networks"), "no column|no run|bases|lag"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_one_line(base: Path, arguments: tuple[str, ...], message: str) -> None:
    done = scalegrow("select", *(base if each == "BASE" else each for each in arguments))
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr

    assert re.search(message, lines[0]), lines[0]
