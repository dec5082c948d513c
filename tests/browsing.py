"""A headless Chromium that opens a page from a file, without a network; what the tests of the page ask of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 30.0  # of waiting for the page on a busy machine


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A driver of Debian's Chromium; selenium looks for none itself."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def resized(driver: Any, width: int, height: int = 900) -> None:
    """A window of exactly this many CSS pixels: Chromium's own windows are never as narrow as a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def preferring(driver: Any, scheme: str) -> None:
    """A reader who set light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def settled(driver: Any, state: str = "ready") -> None:
    """Wait until the page has answered, and refused or not."""
    _says(driver, "state", state)


def mapped(driver: Any) -> None:
    """Wait until the page has drawn all of its map, the line's interval too."""
    _says(driver, "map", "whole")


def _says(driver: Any, fact: str, wanted: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while driver.execute_script("return document.body.dataset[arguments[0]]", fact) != wanted:
        assert time.monotonic() < until, driver.get_log("browser")
        time.sleep(0.02)


def opened(driver: Any, path: Path) -> None:
    """The page from its file."""
    driver.get(path.as_uri())
    settled(driver)
