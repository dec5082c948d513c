"""The page as one text, and on disk: template, style, scripts and data in one file that needs no network."""

import json
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from scalegrow import __version__
from scalegrow.atomic import output_file
from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import LEVEL, require_level
from scalegrow.page.embedded import constants, fit_data, ladder_data

OURS = "<!doctype html><!-- scalegrow-plan/1 -->"  # how every page of ours begins
SCRIPTS = ("numbers.js", "law.js", "ladder.js", "decide.js", "advise.js", "charts.js", "plan.js")


@dataclass(frozen=True)
class Start:
    """Where the sliders stand when the page is opened; base in parameters, targets of an amortised base."""

    base: float
    factor: float
    tpp: float
    base_tpp: float
    operator: str
    cost: str
    targets: float


def page(fit: Fit, name: str, start: Start, level: float = LEVEL) -> str:
    """The whole page. Raises InputError where the fit can carry no decision, or level is none."""
    require_level(level)
    data = {
        "version": __version__,
        "level": level,
        "start": asdict(start),
        "fit": fit_data(fit, name),
        "ladder": ladder_data(),
        "constants": constants(),
    }
    return Template(source("plan.html")).substitute(
        head=OURS,
        title=escape(f"Grow or train from scratch? {name}"),
        style=source("plan.css"),
        data=in_script(json.dumps(data, separators=(",", ":"), allow_nan=False)),
        script="\n".join(source(script) for script in SCRIPTS),
    )


def source(name: str) -> str:
    """A part of the page, as it comes with scalegrow."""
    return files("scalegrow.page").joinpath("parts", name).read_text(encoding="utf-8")


def in_script(text: str) -> str:
    """JSON that no HTML reader takes for markup: the same values, with <, > and & as escapes of JSON."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def write_page(text: str, path: Path) -> None:
    """Readers see the old page or the new one. Raises InputError where another's file is in the way."""
    with output_file(path) as partial:
        if path.is_file() and not path.read_bytes().startswith(OURS.encode()):
            raise InputError(f"{path} is there and is no page of scalegrow plan: choose another place.")
        partial.write_text(text, encoding="utf-8")
