"""What several test files start from."""

import os

# Before torch is imported: many short runs, often beside other work, each on one thread, as their children.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from commands import Scalegrow, scalegrow_in

from scalegrow.laws.fitted import Fit
from scalegrow.laws.store import read_fit
from scalegrow.runs.shipped import shipped_fit


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scalegrow:
    """The command line in this process: what it prints and how it ends, without a new one's imports."""
    return scalegrow_in(monkeypatch, capsys)


@pytest.fixture(scope="session")
def warmstart() -> Fit:
    """The default fit of `scalegrow predict`."""
    return read_fit(shipped_fit("warmstart"))


@pytest.fixture(scope="session")
def chinchilla() -> Fit:
    """The default fit of `scalegrow allocate`."""
    return read_fit(shipped_fit("chinchilla"))
