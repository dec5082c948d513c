"""Fits on disk: the same decision comes back, and a file is whole or absent."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.store import read_fit, to_json, write_fit


def test_round_trip_is_exact(warmstart: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    write_fit(warmstart, path)
    again = read_fit(path)
    assert json.dumps(to_json(again)) == json.dumps(to_json(warmstart))
    assert np.array_equal(again.draws, warmstart.draws)
    assert list(tmp_path.iterdir()) == [path]


DAMAGE = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "not json": lambda text: "hello",
    "a list": lambda text: "[1, 2]",
    "another schema": lambda text: text.replace("scalegrow-fit/1", "scalegrow-fit/9"),
    "no draws": lambda text: text.replace('"draws"', '"drwas"'),
    "unknown law": lambda text: text.replace('"fading-capacity"', '"astrology"'),
    "ragged draws": lambda text: text.replace("]]", ",1.0]]"),
    "unknown status": lambda text: text.replace('"CONVERGED"', '"FINE"'),
    "no domain": lambda text: re.sub(r'"domain":\{[^}]*\}', '"domain":{}', text),
    "no noise": lambda text: re.sub(r'"single":\[[^\]]*\]', '"single":[]', text),
    "no calibration": lambda text: re.sub(r'"loss":\[\[.*?\]\]', '"loss":[]', text, count=1),
    "one draw": lambda text: re.sub(r'"draws":\[(\[[^\]]*\]).*', r'"draws":[\1]}', text, flags=re.S),
    "not a number": lambda text: text.replace('"draws":[[', '"draws":[[NaN,', 1),
    "unknown variable": lambda text: text.replace('"base_tpp":[', '"base_sun":['),
    "provenance of text": lambda text: re.sub(r'"provenance":\{[^}]*\}', '"provenance":"mine"', text),
    "missing coefficient": lambda text: text.replace('"alpha":', '"alfa":'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_refused_in_one_line(warmstart: Fit, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "fit.json"
    write_fit(warmstart, path)
    path.write_text(DAMAGE[damage](path.read_text()))
    with pytest.raises(InputError) as caught:
        read_fit(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_killed_writer_left_is_removed(warmstart: Fit, tmp_path: Path) -> None:
    """Of this very file, and of no process that lives."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, mine = int(done.stdout), os.getppid()
    left = [
        tmp_path / name
        for name in (f".fit.json.{dead}.partial", f".fit.json.{mine}.partial", f".a.{dead}.partial")
    ]
    for path in left:
        path.write_text("half")
    write_fit(warmstart, tmp_path / "fit.json")
    assert {*tmp_path.iterdir()} == {tmp_path / "fit.json", *left[1:]}


def test_unwritable_places_are_refused(warmstart: Fit, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_fit(warmstart, tmp_path / "no" / "such" / "folder.json")


def test_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    """kill -9 at any moment: the target is absent, or complete and readable."""
    target = tmp_path / "fit.json"
    program = (
        "from pathlib import Path\n"
        "from scalegrow.laws.store import read_fit, write_fit\n"
        "from scalegrow.runs.shipped import shipped_fit\n"
        "made = read_fit(shipped_fit('warmstart'))\n"
        "print('go', flush=True)\n"
        f"while True: write_fit(made, Path({str(target)!r}))\n"
    )
    for pause in (0.001, 0.02, 0.05, 0.1):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if target.exists():
            assert len(read_fit(target).draws) == 2000


def test_a_fit_of_least_squares_has_no_delta_and_is_written(tmp_path: Path) -> None:
    from scalegrow.laws import form_named
    from scalegrow.laws.fit import fit
    from scalegrow.laws.loss import LeastSquares
    from scalegrow.laws.observations import Observations
    from scalegrow.runs.shipped import load_table

    form = form_named("chinchilla")
    made = fit(form, Observations.from_table(load_table("stories_ladder"), form), loss=LeastSquares(), draws=5)
    write_fit(made, tmp_path / "fit.json")
    assert read_fit(tmp_path / "fit.json").certificate == made.certificate
    assert made.certificate.delta_over_mad == float("inf")
