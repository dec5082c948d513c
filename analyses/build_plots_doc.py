"""Draw the pictures of docs/plots.md: docs/plots/KIND.svg by the commands that the page prints.

python analyses/build_plots_doc.py [KIND ...]
"""

import re
import shlex
import sys
import tempfile
from pathlib import Path

import altair as alt

from scalegrow.cli import _run

DOCS = Path(__file__).parents[1] / "docs"


def commands() -> dict[str, list[str]]:
    """The words of the page's first command of every kind, from `plot` on."""
    lines = re.findall(r"^scalegrow (plot .*)$", (DOCS / "plots.md").read_text(), flags=re.M)
    found: dict[str, list[str]] = {}
    for words in map(shlex.split, lines):
        found.setdefault(words[1], words)
    return found


def spec_of(words: list[str], folder: Path) -> str:
    """The chart of a command, as Vega-Lite."""
    out = folder / "chart.json"
    given = words[: words.index("-o")] if "-o" in words else words
    sys.argv = ["scalegrow", *given, "-o", str(out)]
    if code := _run():
        raise SystemExit(code)
    return out.read_text()


def main(kinds: list[str]) -> None:
    for kind, words in commands().items():
        if kinds and kind not in kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            chart = alt.Chart.from_json(spec_of(words, Path(folder)))
        picture = DOCS / "plots" / f"{kind}.svg"
        chart.save(picture)
        print(f"docs/plots/{kind}.svg: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
