"""A chart as a file, in the format that its suffix names; whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from scalegrow.atomic import output_file
from scalegrow.errors import InputError

if TYPE_CHECKING:
    import altair as alt

Format = Literal["html", "png", "svg", "pdf", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
NEEDS_PLOTS = "charts need altair and vl-convert: pip install 'scalegrow[plots]', or '.[plots]' here."
OPTIONS: dict[str, dict[str, Any]] = {"html": {"inline": True}, "png": {"scale_factor": 2.0}}
MENU = {"actions": {"export": True, "source": True, "compiled": False, "editor": False}}  # of an HTML page


def require_drawable(out: Path) -> Format:
    """The format of a file name. Raises InputError on another suffix, a missing folder or a missing extra."""
    kind = next((name for name in FORMATS if out.suffix.lower() == f".{name}"), None)
    if kind is None:
        raise InputError(f"{out} has no suffix of a chart: write {', '.join(f'.{name}' for name in FORMATS)}.")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is no folder: make it first.")
    try:
        import altair
        import vl_convert  # noqa: F401  draws everything but JSON
    except ImportError:
        raise InputError(NEEDS_PLOTS) from None
    del altair
    return kind


def save(chart: "alt.TopLevelMixin", out: Path) -> None:
    """Write it. An HTML page holds all of its scripts, and asks the network for nothing. Raises InputError."""
    kind = require_drawable(out)
    drawn = chart.properties(usermeta={"embedOptions": MENU})
    with output_file(out) as partial:
        drawn.save(str(partial), format=kind, **OPTIONS.get(kind, {}))
