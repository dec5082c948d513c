"""Draw the pictures of docs/plan.md: docs/page/NAME.png, of the planner page in a headless Chromium.

python analyses/build_page_pictures.py
It needs the dev extra (Pillow comes with tensorboard) and Debian's chromium and chromium-driver.
"""

import sys
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from scalegrow.cli import _run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browsing import browser, mapped, opened, preferring, resized  # noqa: E402  the tests' own browser

COLOURS, HEIGHT = 128, 1150  # of a picture: small, and all that is above the table


@dataclass(frozen=True)
class Picture:
    """A page of a base size, in a window so many CSS pixels wide, of a reader who prefers light or dark."""

    name: str
    base: str
    width: int
    scheme: str


PICTURES = (
    Picture("desk", "74M", 1040, "light"),
    Picture("phone", "74M", 390, "light"),
    Picture("dark", "1.5B", 620, "dark"),
)


def page_of(base: str, folder: Path) -> Path:
    """The page that `scalegrow plan` writes."""
    out = folder / f"{base}.html"
    sys.argv = ["scalegrow", "plan", "--base", base, "-o", str(out)]
    if code := _run():
        raise SystemExit(code)
    return out


def draw(driver: Any, picture: Picture, page: Path) -> None:
    """The top of the page, in few colours."""
    preferring(driver, picture.scheme)
    resized(driver, picture.width, HEIGHT)
    opened(driver, page)
    mapped(driver)
    drawn = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    small = drawn.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(ROOT / "docs" / "page" / f"{picture.name}.png", optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as driver:
        for picture in PICTURES:
            draw(driver, picture, page_of(picture.base, Path(folder)))


if __name__ == "__main__":
    main()
