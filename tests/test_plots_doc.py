"""docs/plots.md: its commands run, every kind has a small picture, and its Python example works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import analysis

from scalegrow.cli import _run
from scalegrow.cli.plot_app import plot

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "plots.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S)
    for line in block.splitlines()
    if line.strip()
]
KINDS = [str(command.name or command.callback.__name__) for command in plot.registered_commands]  # type: ignore[union-attr]
LARGEST = 100_000  # bytes of a picture


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_draws_its_file(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a specification, which takes the least time; formats are tested with the kinds."""
    words = shlex.split(command)
    assert words[:2] == ["scalegrow", "plot"]
    out = Path(words[words.index("-o") + 1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [word if word != str(out) else f"{out.stem}.json" for word in words])
    assert _run() == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{out.stem}.json"]


def test_every_kind_has_a_command_and_a_small_picture() -> None:
    assert {shlex.split(command)[2] for command in COMMANDS} == {*KINDS}
    assert {path.stem for path in (DOCS / "plots").iterdir()} == {*KINDS}
    for kind in KINDS:
        picture = DOCS / "plots" / f"{kind}.svg"
        assert f"(plots/{kind}.svg)" in PAGE
        assert 5_000 < picture.stat().st_size < LARGEST


@pytest.mark.parametrize("kind", ["factor", "operators", "gamma"])
def test_a_picture_is_what_its_command_draws(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the picture; coordinates may differ in the last digit from machine to machine."""
    import altair as alt

    script = analysis("build_plots_doc")
    monkeypatch.setattr(sys, "argv", sys.argv)
    chart = alt.Chart.from_json(script.spec_of(script.commands()[kind], tmp_path))
    chart.save(str(tmp_path / "chart.svg"))
    drawn, kept = (path.read_text() for path in (tmp_path / "chart.svg", DOCS / "plots" / f"{kind}.svg"))
    texts = [re.findall(r">([^<>]+)</text>", svg) for svg in (drawn, kept)]
    assert texts[0] == texts[1], "draw it again: python analyses/build_plots_doc.py"


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    subprocess.run([sys.executable, "-W", "error", "-c", example], check=True, capture_output=True, cwd=tmp_path)
