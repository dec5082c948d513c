"""The documentation's site builds without a warning and asks nobody else for anything."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import analysis

ROOT = Path(__file__).parents[1]
# What a browser fetches by itself, unlike a link that a reader follows.
FETCHED = (
    r"""(?:<(?:script|img|iframe|source)[^>]*\ssrc|<link(?![^>]*rel="(?:canonical|author)")[^>]*\shref)"""
    r"""=["']([^"']+)"""
)
IN_STYLES = r"""(?:url\(|@import\s+)["']?((?:https?:)?//[^"')\s]+)"""
IN_SCRIPTS = r"""(?:fetch|importScripts|import|\.src\s*=)\s*\(?["'](https?://[^"']+)"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("the site's tools are not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def others(text: str, pattern: str) -> list[str]:
    return [found for found in re.findall(pattern, text) if re.match("(https?:)?//", found)]


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        assert others(page.read_text(), FETCHED) == [], page
    for style in site.rglob("*.css"):
        assert others(style.read_text(), IN_STYLES) == [], style
    for script in site.rglob("*.js"):
        assert others(script.read_text(), IN_SCRIPTS) == [], script


def test_what_would_be_fetched_is_seen() -> None:
    assert others('<script async src="https://cdn.example/x.js">', FETCHED)
    assert others('<link rel="stylesheet" href="//fonts.example/a.css">', FETCHED)
    assert others('@import "https://fonts.example/a.css"; a { background: url(//x.example/i.png) }', IN_STYLES)
    assert others('fetch("https://x.example/data.json")', IN_SCRIPTS)
    assert not others('<a href="https://arxiv.org/abs/1"><link rel="icon" href="_static/i.svg">', FETCHED)


def test_every_page_has_a_place_in_the_navigation() -> None:
    listed = re.findall(r"```{toctree}\n(.*?)```", ROOT.joinpath("docs", "index.md").read_text(), flags=re.S)
    names = {line for block in listed for line in block.splitlines() if line and not line.startswith(":")}
    assert names == {path.stem for path in ROOT.joinpath("docs").glob("*.md")} - {"index"}


def test_the_pictures_are_those_of_today_s_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = analysis("operator_pictures")
    shipped = script.PICTURES
    monkeypatch.setattr(script, "PICTURES", tmp_path)
    for name in script.WIDE:
        script.draw_width(name)
    for name in script.DEEP:
        script.draw_depth(name)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in shipped.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == shipped.joinpath(path.name).read_text(), path.name
