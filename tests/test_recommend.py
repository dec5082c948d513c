"""The warm start and gamma that `scalegrow predict` names: those of the studies, and how far off they lie."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalegrow.cli import _run
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.predict import load_fit
from scalegrow.cli.recommend import GAMMA, STUDY
from scalegrow.cli.select import load_selection
from scalegrow.errors import InputError
from scalegrow.plan.advise import TOO_FAR
from scalegrow.plan.gamma import choose_gamma
from scalegrow.plan.select import Setting, choose

Predict = Callable[..., str]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    """What `scalegrow predict` prints to 20 tokens per parameter, its lines joined."""

    def run(base: str, factor: str, *more: str) -> str:
        question = ("--base", base, "--factor", factor, "--budget", "20tpp")
        monkeypatch.setattr(sys, "argv", ["scalegrow", "predict", *question, *more])
        assert _run() == 0
        return " ".join(capsys.readouterr().out.split())

    return run


@pytest.fixture
def data(predict: Predict) -> dict[str, Any]:
    return dict(json.loads(predict("50M", "2", "--json")))


def test_the_warm_start_is_the_study_s_of_both_regimes(data: dict[str, Any]) -> None:
    effects = load_selection(STUDY).effects
    for stochastic, regime in enumerate(("deterministic", "stochastic")):
        told = data["warm_start"][regime]
        names = [each["candidate"] for each in told]
        setting = Setting(bool(stochastic), 20, 20, data["question"]["growth_factor"])
        theirs = choose(effects.of([name for name in effects.candidates if name in names]), setting)
        assert sum(each["p_best"] for each in told) == pytest.approx(1)
        assert [each["regret"] for each in told] == sorted(theirs.regret)
        assert names[0] == theirs.candidates[theirs.best]


def test_only_what_the_widths_allow_is_in_the_pool(predict: Predict) -> None:
    """512 wide to 704 leaves no whole copies; 16 to 32 takes any."""
    uneven, whole = (json.loads(predict(base, g, "--json")) for base, g in (("50M", "2"), ("15k", "4")))
    pools = [{each["candidate"] for each in told["warm_start"]["stochastic"]} for told in (uneven, whole)]
    assert pools[0] == {"szp:shrink=0.4", "zero_pad", "structured_non_clone"}
    everywhere = {"tile", "perturbative_copy", "asymmetric_reset"}  # others ran in one regime alone
    assert pools[1] == pools[0] | everywhere < set(load_selection(STUDY).effects.candidates)


def test_gamma_is_the_law_s_at_the_nearest_size_it_measured(data: dict[str, Any]) -> None:
    law = load_gamma(GAMMA)
    at = data["gamma"]["at"]
    assert at["n_params"] == law.domain["N"][1] < data["question"]["target_params"]
    there = choose_gamma(law, at["n_params"], at["tokens_per_param"])
    assert data["gamma"]["best"]["value"] == there.best.value
    assert data["gamma"]["times_outside"]["parameters"] > TOO_FAR


def test_far_from_what_was_measured_it_is_no_advice(predict: Predict) -> None:
    assert predict("50M", "2").count("so far off it is no advice") == 2
    assert "no advice" not in predict("15k", "4")


def test_it_does_not_matter_what_lies_in_the_folder(
    predict: Predict, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a file that is asked for by its path is the one that is read."""
    monkeypatch.chdir(tmp_path)
    for name in (STUDY, GAMMA):
        (tmp_path / name).mkdir()
    (tmp_path / "warmstart").write_text("not a fit")
    assert json.loads(predict("50M", "2", "--json")) == data
    with pytest.raises(InputError, match="warmstart"):
        load_fit("./warmstart")


def test_layers_that_no_run_of_the_study_was_given_are_told(predict: Predict, data: dict[str, Any]) -> None:
    assert not load_selection(STUDY).deeper
    assert data["warm_start"]["layers_added"] == 2
    assert "in width alone (this target adds 2 layers)" in predict("50M", "2")
    assert "in width alone (this target adds 1 layer)" in predict("15k", "4")
