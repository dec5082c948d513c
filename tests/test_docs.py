"""Every block and command of README and docs does what its page says (tests/pages.py says how)."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Scalegrow
from pages import PAGES, REASONED, ROOT, WORDS, Block, blocks_of, spans_of
from standins import BUDGETS, SETTINGS, SIZE, STANDINS, put
from sweeping import Inline
from typer.main import get_command

import scalegrow.cli.plot_app  # noqa: F401  its commands join those of the app
from scalegrow.cli import sweep as sweep_command
from scalegrow.cli.app import app

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# What no test runs. A block that joins them needs a reason above it, and a look here.
SKIPPED = {
    **{"README.md": 4, "cluster.md": 1, "contributing.md": 1, "quick-start.md": 2},
    **{"reference.md": 1, "replication.md": 1, "sweep.md": 1, "training.md": 2},
}


class Story:
    """A page, read from top to bottom by someone who does all it says, in a folder of their own."""

    def __init__(self, folder: Path, inside: Scalegrow) -> None:
        self.folder, self.inside = folder, inside
        self.printed: dict[str, str] = {}

    def read(self, block: Block, *, whole: bool) -> None:
        text = block.read(whole=whole)
        if not (whole and block.marked("small")):
            for mark in block.marked("needs"):
                put(mark.about, self.folder)
        if file := block.marked("write"):
            self.folder.joinpath(file[0].about).write_text(text)
        if shown := block.marked("shows"):
            assert stripped(text) in stripped(self.printed[shown[0].about]), block.place
        if block.kind == "sh":
            for line in text.splitlines():
                self.run(line, block)
        elif block.kind == "python":
            exec(compile(text, block.place, "exec"), {"__name__": "docs"})
        elif block.kind == "toml":
            parse_toml(text, self.folder)
        else:
            assert block.marks, f"{block.place}: say what shows this, or why nothing does (tests/pages.py)"

    def run(self, line: str, block: Block) -> None:
        words = shlex.split(line, comments=True)
        if not words:
            return
        exits = re.search(r"# exits with (\d)", line)
        code, said = self.outcome(words)
        self.printed[shlex.join(words)] = said
        assert code == int(exits[1] if exits else 0), f"{block.place}: {line}\n{said}"

    def outcome(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "scalegrow":
            ended = self.inside(*words[1:], cwd=self.folder)
            return ended.returncode, ended.stdout or ended.stderr
        starts = {"torchrun": ["-m", "torch.distributed.run", *words[1:]], "python": words[1:]}
        command = [sys.executable, *starts[words[0]]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Scalegrow) -> Story:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sweep_command, "_workers", lambda machine: Inline())
    for folder in ("data", "tests"):
        tmp_path.joinpath(folder).symlink_to(ROOT / folder)
    return Story(tmp_path, inside)


def stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def parse_toml(text: str, folder: Path) -> None:
    """A study gives its runs, a recipe its config; names that neither knows are refused."""
    from scalegrow.runs.recipe import read_recipe
    from scalegrow.runs.study import parse_study

    if "runs" in tomllib.loads(text):
        assert parse_study(text).members()
        return
    folder.joinpath("recipe.toml").write_text(text)
    read_recipe(folder / "recipe.toml").config()


def read(page: Path, story: Story, *, whole: bool) -> None:
    for block in blocks_of(page):
        if not block.skipped and (whole or not block.marked("slow")):
            story.read(block, whole=whole)


WITH_BLOCKS = [page for page in PAGES if any(not block.skipped for block in blocks_of(page))]
SHORTENED = [page for page in WITH_BLOCKS if any(block.slow for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, story: Story) -> None:
    read(page, story, whole=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SHORTENED, ids=lambda page: page.name)
def test_a_page_does_what_it_says_to_the_letter(page: Path, story: Story) -> None:
    read(page, story, whole=True)


def test_marks_are_words_with_reasons() -> None:
    for block in BLOCKS:
        for mark in block.marks:
            assert mark.word in WORDS, block.place
            assert (len(mark.reason) > 10) == (mark.word in REASONED), block.place
            assert mark.word != "needs" or mark.about in STANDINS, block.place


def test_no_block_escapes_unseen() -> None:
    """Fences that the pattern misses, and skips that nobody counted."""
    assert sum(len(re.findall(r"^\s*```", page.read_text(), flags=re.M)) for page in PAGES) == 2 * len(BLOCKS)
    assert Counter(block.page.name for block in BLOCKS if block.marked("skip")) == SKIPPED


def test_the_stand_in_makes_the_docs_steps() -> None:
    """A page's `step_00000195` is where a run of 100k would have it too."""
    from scalegrow.runs.recipe import Recipe
    from scalegrow.train.stages import stages

    shown = stages(Recipe("100k", budgets=BUDGETS).config())
    small = stages(Recipe(SIZE, budgets=BUDGETS, settings=SETTINGS).config())
    assert [(stage.name, stage.start, stage.end) for stage in shown] == [
        (stage.name, stage.start, stage.end) for stage in small
    ]


def test_what_the_training_page_logs_is_a_run_table(story: Story) -> None:
    """A log that another trainer would write, and a run from Python."""
    from scalegrow.runs.collect import collect

    for block in blocks_of(ROOT / "docs" / "training.md"):
        if block.kind == "python":
            story.read(block, whole=True)
    losses = collect(story.folder / "runs").filter("annealed").sort("n_params")
    assert losses["n_params"].to_list() == [19968, 124e6]
    assert losses["loss"][1] == 3.41


# Commands in prose, and in blocks that are not run: they exist, with their options.

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {
    name: {"--help", *(option for param in command.params for option in (*param.opts, *param.secondary_opts))}
    for name, command in COMMANDS.items()
}
EVERY_OPTION = set().union(*OPTIONS.values())
OF_OTHERS = {
    "--nproc-per-node",
    "--nnodes",
    "--rdzv-backend",
    "--rdzv-endpoint",
    "--version",
    "--install-completion",
    "--show-completion",
    "--head",
    "--address",
}


def mentioned() -> list[tuple[str, str]]:
    """(page, line) of every command that is shown and of every span of code in prose."""
    shown = [(block.place, line) for block in BLOCKS if block.kind == "sh" for line in block.text.splitlines()]
    return shown + [(page.name, span) for page in PAGES for span in spans_of(page)]


def test_commands_and_options_that_are_named_exist() -> None:
    for place, line in mentioned():
        words = line.partition(" # ")[0].split()
        options = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
        if "scalegrow" in words[:-1]:
            name = words[words.index("scalegrow") + 1]
            if name.islower() and name.isalpha():
                assert name in OPTIONS, f"{place}: {line}"
                options -= OPTIONS[name]
        assert words[0] in ("pip", "pytest", "ruff", "sphinx-build") or options <= EVERY_OPTION | OF_OTHERS, (
            f"{place}: {line}"
        )


def test_scripts_that_are_named_exist() -> None:
    for place, line in mentioned():
        for script in re.findall(r"\b(?:analyses|benchmarks|tests)/\w+\.py", line):
            assert ROOT.joinpath(script).exists(), f"{place}: {script}"


def test_a_story_notices_what_is_wrong(story: Story) -> None:
    """A command that fails, one that prints something else, and code that raises."""
    page = ROOT / "README.md"
    for kind, text in (("sh", "scalegrow predict --base 50M"), ("sh", "scalegrow laws # exits with 3")):
        with pytest.raises(AssertionError, match="README"):
            story.read(Block(page, 1, kind, text, ()), whole=False)
    with pytest.raises(AssertionError, match="say what shows this"):
        story.read(Block(page, 1, "text", "loss 1.0", ()), whole=False)
    with pytest.raises(ZeroDivisionError):
        story.read(Block(page, 1, "python", "1 / 0", ()), whole=False)
