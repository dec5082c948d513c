"""What is released: the wheel, its metadata, the citation, and a command that needs no torch."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import scalegrow

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
PREDICT = ("predict", "--base", "50M", "--factor", "2", "--budget", "20tpp")


def said(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    said(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {path.relative_to(ROOT / "data") for path in ROOT.joinpath("data").rglob("*") if path.is_file()}
    assert {f"scalegrow/_data/{path}" for path in data} <= names
    assert {"scalegrow/py.typed", "scalegrow/__main__.py", "scalegrow/cli/app.py"} <= names
    assert {name.split("/")[0] for name in names} == {"scalegrow", f"scalegrow-{PROJECT['version']}.dist-info"}


def test_the_citation_is_of_this_version() -> None:
    """Citation File Format 1.2.0: the required keys, and what must agree with the package."""
    citation = yaml.safe_load(ROOT.joinpath("CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["authors"]
    assert citation["title"].startswith(PROJECT["name"])
    assert citation["version"] == PROJECT["version"] == scalegrow.__version__
    assert citation["license"] == PROJECT["license"]


WITHOUT_TORCH = """
import pkgutil, sys
sys.modules["torch"] = None
import scalegrow
for module in pkgutil.walk_packages(scalegrow.__path__, "scalegrow."):
    if not module.name.startswith(("scalegrow.train.", "scalegrow.__main__")):
        __import__(module.name)
        print(module.name)
"""


def test_every_module_but_the_trainer_s_imports_without_torch() -> None:
    imported = said(sys.executable, "-c", WITHOUT_TORCH).split()
    assert {"scalegrow.laws.fit", "scalegrow.plan.decide", "scalegrow.cli.train"} <= set(imported)


def test_a_shell_completes_commands() -> None:
    asked = {"_SCALEGROW_COMPLETE": "complete_bash", "COMP_WORDS": "scalegrow pre", "COMP_CWORD": "1"}
    command = "import sys; sys.argv = ['scalegrow']; from scalegrow.cli import main; main()"
    assert said(sys.executable, "-c", command, **asked).split() == ["predict"]


@pytest.mark.slow
def test_the_wheel_predicts_in_a_fresh_environment_without_torch(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    said(programs / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    version = said(programs / "scalegrow", "--version", cwd=tmp_path, PYTHONPATH="")
    assert version.strip() == PROJECT["version"]
    by_name = said(programs / "scalegrow", *PREDICT, cwd=tmp_path, PYTHONPATH="")
    assert by_name == said(programs / "python", "-m", "scalegrow", *PREDICT, cwd=tmp_path, PYTHONPATH="")
    assert "probability growing wins" in by_name
    assert "torch" not in said(programs / "pip", "list")
    train = [programs / "scalegrow", "train", "--size", "20k", "--budget", "1tpp"]
    alone = os.environ | {"PYTHONPATH": ""}
    refused = subprocess.run(train, capture_output=True, text=True, cwd=tmp_path, env=alone, check=False)
    assert refused.returncode == 2
    assert "PyTorch" in refused.stderr
