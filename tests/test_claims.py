"""docs/claims holds what the scripts print today, from the tables that are shipped."""

import sys
from pathlib import Path

import pytest
from scripts import ANALYSES, analysis

from scalegrow.runs.shipped import TABLES

CLAIMS = Path(__file__).parents[1] / "docs" / "claims"
QUICK = (
    "reliable_factor",
    "simple_operators",
    "tuning",
    "base_cost",
    "factor_kinds",
    "warm_start_ranks",
    "warm_start_signals",
    "gamma_tokens",
    "gamma_settings",
    "gamma_condensation",
    "gamma_growth",
)  # a second each


@pytest.mark.parametrize("name", QUICK)
def test_a_claim_s_text_is_what_its_script_prints(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ANALYSES), *sys.path])
    claims = analysis("claims")
    monkeypatch.setattr(sys.modules["figures"], "FIGURES", tmp_path)
    assert claims.told(name) == (CLAIMS / f"{name}.txt").read_text()
    drawn = (CLAIMS / f"{name}.svg").read_text().count("<path")
    assert (tmp_path / f"{name}.svg").read_text().count("<path") == drawn > 10


def test_every_claim_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ANALYSES), *sys.path])
    kept = {path.stem for path in CLAIMS.glob("*.txt")}
    assert kept == {*analysis("claims").CLAIMS} == {path.stem for path in CLAIMS.glob("*.svg")}


def test_every_reference_study_is_shipped_by_name() -> None:
    tables = {path.stem for path in (ANALYSES.parent / "data" / "reference").glob("*.parquet")}
    assert {f"reference_{name}" for name in tables} <= {*TABLES}
