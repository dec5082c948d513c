"""The site of these pages: sphinx-build -W --keep-going -b html docs site (docs/contributing.md)."""

import re
from typing import Any

import scalegrow

project = "scalegrow"
author = "The scalegrow developers"
project_copyright = author
version = release = scalegrow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"  # system fonts, and nothing is fetched from anywhere
html_title = f"scalegrow {version}"
html_copy_source = False

myst_heading_anchors = 4  # links such as growth.md#probing-candidates

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


def as_sphinx_reads_it(app: Any, page: str, source: list[str]) -> None:
    """Markdown as a repository's readers have it: pages outside of docs/ are files, and csv has no colours."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0]).replace("```csv", "```text")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", as_sphinx_reads_it)
