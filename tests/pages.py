"""The fenced blocks of README and docs, and what the comments above them tell the tests to do.

A block runs as it stands. Where that cannot be, a comment on the line above says what is done instead:

    <!-- test: skip; REASON -->             not run at all
    <!-- test: slow; REASON -->             run under `-m slow` alone
    <!-- test: small OLD=NEW; REASON -->    run with NEW for OLD, but under `-m slow` as it stands
    <!-- test: instead OLD=NEW; REASON -->  run with NEW for OLD, always
    <!-- test: needs THING -->              THING (tests/standins.py) lies in the page's folder; if the block is
                                            small, then in quick tests alone
    <!-- test: write FILE -->               the block is the content of FILE, for the blocks that follow
    <!-- test: shows COMMAND -->            the block is in what COMMAND, run before, printed
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    "cli.md",  # compared as a whole with the help it is made of, in test_structure.py
    "plots.md",  # whose pictures are compared too: test_plots_doc.py
)
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted(ROOT.glob("docs/**/*.md")) if path.name not in ELSEWHERE),
]
WORDS = ("skip", "slow", "small", "instead", "needs", "write", "shows")
REASONED = ("skip", "slow", "small", "instead")

MARK = r"<!-- test: (.*?) -->\n"
BLOCK = re.compile(rf"((?:^{MARK})*)^```([\w{{}}-]*)\n(.*?)^```$", flags=re.S | re.M)


@dataclass(frozen=True)
class Mark:
    """What a comment asks for: a word, what it is about, and why."""

    word: str
    about: str
    reason: str

    @classmethod
    def read(cls, text: str) -> "Mark":
        asked, _, reason = text.partition("; ")
        word, _, about = asked.partition(" ")
        return cls(word, about, reason)


@dataclass(frozen=True)
class Block:
    """A fenced block, where it is, and its marks."""

    page: Path
    line: int
    kind: str
    text: str
    marks: tuple[Mark, ...]

    @property
    def place(self) -> str:
        return f"{self.page.name}, line {self.line}"

    def marked(self, word: str) -> list[Mark]:
        return [mark for mark in self.marks if mark.word == word]

    @property
    def skipped(self) -> bool:
        """Whether it is marked so, or no code: a directive of the site, such as {toctree}."""
        return bool(self.marked("skip")) or self.kind.startswith("{")

    @property
    def slow(self) -> bool:
        return bool(self.marked("slow") or self.marked("small"))

    def read(self, *, whole: bool) -> str:
        """The text as a test reads it: whole, or with what quick tests read in it."""
        text = self.text
        for mark in self.marked("instead") + ([] if whole else self.marked("small")):
            old, _, new = mark.about.partition("=")
            assert old in text, f"{self.place}: nothing to replace"
            text = text.replace(old, new)
        return text


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        marks = tuple(map(Mark.read, re.findall(MARK, match[1])))
        line = text[: match.start(3)].count("\n") + 1
        found.append(Block(page, line, match[3], match[4], marks))
    return found


def spans_of(page: Path) -> list[str]:
    """What stands between single backticks, outside of blocks; line breaks are spaces."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
