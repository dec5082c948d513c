"""The house keeps its rules: what commands load, what docs say, what is dead."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import analysis

ROOT = Path(__file__).parents[1]
README = ROOT.joinpath("README.md").read_text()
HEAVY = ("torch", "altair", "statsmodels", "scipy")


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules in memory after a command."""
    program = (
        "import sys, json\n"
        f"sys.argv = ['scalegrow', *{list(arguments)!r}]\n"
        "from scalegrow.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_predict_loads_nothing_heavy() -> None:
    loaded = loaded_by("predict", "--base", "50M", "--factor", "2", "--budget", "20tpp")
    assert not loaded & set(HEAVY)


def test_help_loads_typer_alone() -> None:
    loaded = loaded_by("--help")
    assert not loaded & {*HEAVY, "numpy", "polars", "pydantic"}


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout


def test_readme_shows_what_predict_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scalegrow", "predict", "--base", "50M", "--factor", "2", "--budget", "20tpp"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = README.split("```text\n", 1)[1].split("```", 1)[0]
    assert [line.rstrip() for line in done.stdout.splitlines()] == shown.splitlines()


def test_readme_set_up_commands_are_what_ci_runs() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("scalegrow predict --base 50M --factor 2 --budget 20tpp")
    assert commands[1].endswith("pytest")


def test_run_table_doc_lists_every_column() -> None:
    from scalegrow.runs.table import COLUMNS

    text = ROOT.joinpath("docs", "run-table.md").read_text()
    for name, column in COLUMNS.items():
        assert f"| {name} | " in text
        assert column.meaning in text


def test_command_line_doc_is_the_help_itself() -> None:
    assert ROOT.joinpath("docs", "cli.md").read_text() == analysis("build_cli_docs").page()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    if ".venv" in path.parts:
        return
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or path.parent.joinpath(target).exists(), target


def test_the_recipe_of_the_training_page_is_one(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```toml\n(.*?)```", ROOT.joinpath("docs", "training.md").read_text(), flags=re.S)
    tmp_path.joinpath("recipe.toml").write_text(recipe)
    from scalegrow.runs.recipe import read_recipe

    config = read_recipe(tmp_path / "recipe.toml").config()
    assert config.optimiser.lr == 0.02
    assert config.to_dict()["model"]["shape"]["qk_norm"] is True


def test_the_training_page_lists_every_setting() -> None:
    """Every field of RunConfig is in the table of settings."""
    from scalegrow.runs.fields import flatten
    from scalegrow.runs.recipe import Recipe

    page = ROOT.joinpath("docs", "training.md").read_text()
    for name in flatten(Recipe("100k").config().to_dict()):
        if name != "budgets":
            assert re.search(rf"\b{name.split('.')[-1].partition('_multiplier')[0]}", page), name
