"""The planner page: what it shows is what predict says, from one file, without a network."""

import html
import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, DRIVER, browser, opened, preferring, resized, settled
from hypothesis import given
from hypothesis import strategies as st

from scalegrow.cli.app import app
from scalegrow.cli.predict import Words, as_data, asked
from scalegrow.cli.render import finite
from scalegrow.errors import InputError
from scalegrow.laws.domain import LABELS
from scalegrow.laws.fitted import Fit, FitStatus
from scalegrow.laws.store import read_fit
from scalegrow.page.build import Start, in_script, page, write_page
from scalegrow.plan.advise import advice
from scalegrow.plan.decide import decide
from scalegrow.runs.shipped import shipped_fit

try:
    import selenium
except ImportError:
    selenium = None  # type: ignore[assignment]

AGREES = 1e-6  # relative, or absolute below 1
LEVEL = 0.95
START = Start(74e6, 2, 20, 20, "szp", "sunk", 1)
FIELDS = {
    "loss_scratch": "lossScratch",
    "loss_grown": "lossGrown",
    "difference": "difference",
    "probability_growing_wins": "wins",
    "compute_saved": "computeSaved",
    "break_even_budget": "breakEvenBudget",
    "largest_useful_factor": "largestUsefulFactor",
    "best_factor": "bestFactor",
}
in_browser = pytest.mark.skipif(
    selenium is None or not (CHROMIUM.exists() and DRIVER.exists()),
    reason="needs selenium (the dev extra) and Debian's chromium and chromium-driver",
)


@pytest.fixture(scope="module")
def reference() -> Fit:
    return read_fit(shipped_fit("reference"))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, warmstart: Fit) -> Path:
    path = tmp_path_factory.mktemp("page") / "plan.html"
    write_page(page(warmstart, "warmstart", START, LEVEL), path)
    return path


@pytest.fixture
def fresh(chromium: Any, built: Path) -> Any:
    """The page, as it opens on a desk."""
    resized(chromium, 1200)
    preferring(chromium, "light")
    opened(chromium, built)
    return chromium


def predicted(fit: Fit, name: str, words: Words, level: float = LEVEL) -> dict[str, Any]:
    """What `predict --json` prints of the decision."""
    growth, question = asked(fit, words)
    decision = decide(fit, question, level)
    return finite(as_data(name, fit, growth, decision, advice(fit, decision)))


def numbers(found: dict[str, Any]) -> list[float]:
    return [found["value"], *found["interval"], *(found.get("interval_new_run") or found.get("newRun") or [])]


def same(shown: float | None, expected: float | None) -> bool:
    """Equal to AGREES; an end that no scan found is null in JSON, and an infinity or null on the page."""
    if shown is None or expected is None:
        return (shown is None or math.isinf(shown)) and expected is None
    return abs(shown - expected) <= AGREES * max(1.0, abs(expected))


# Without a browser


def data_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)
    return json.loads(found)


def test_the_page_is_the_same_each_time(warmstart: Fit) -> None:
    assert page(warmstart, "warmstart", START) == page(warmstart, "warmstart", START)


def test_the_page_carries_every_draw_as_the_fit_has_it(warmstart: Fit) -> None:
    data = data_of(page(warmstart, "warmstart", START))["fit"]
    assert data["draws"] == warmstart.draws.T.tolist()
    assert data["theta"] == warmstart.law.theta.tolist()


def test_no_word_of_a_fit_is_taken_for_markup(warmstart: Fit) -> None:
    attack = "</script><script>document.title='x'</script><!-- & \u2028"
    text = page(replace(warmstart, message=attack, provenance={"table": attack}), attack, START)
    assert text.count("</script>") == page(warmstart, "warmstart", START).count("</script>")
    assert data_of(text)["fit"]["message"] == attack
    assert html.escape(attack) in text


@given(st.text())
def test_escaped_json_reads_back(text: str) -> None:
    escaped = in_script(json.dumps(text))
    assert json.loads(escaped) == text
    assert not set("<>&") & set(escaped)


class Addresses(HTMLParser):
    """What a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = ("src", "href", "srcset", "action", "data", "poster")
        self.found += [value for name, value in attrs if name in loading]


def test_the_page_loads_nothing(built: Path) -> None:
    text = built.read_text()
    addresses = Addresses()
    addresses.feed(text)
    assert not addresses.found
    assert "default-src 'none'" in text
    script = text.split('id="data">')[1].split("</script>")[1]
    assert not re.search(r"https?:|\bfetch\b|XMLHttpRequest|WebSocket|sendBeacon|\bimport\b|@import|url\((?!#)", script)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fit", "chinchilla"), "knows no grown runs"),
        (("--fit", "nothing"), "neither a file nor a shipped fit"),
        (("--operator", "stack"), "not in this fit"),
        (("--base", "1k"), "off the ladder"),
        (("--factor", "200"), "off the page's sliders"),
        (("--budget", "5000tpp"), "off the page's sliders"),
        (("--level", "2"), "no interval level"),
        (("--factor", "2", "--target", "100M", "--base", "50M"), "one of the two"),
        (("--budget", "0.5tpp", "--base-cost", "paid", "--base-budget", "20tpp"), "larger --budget"),
    ],
)
def test_what_no_page_can_be_made_of_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        app(["plan", "-o", str(tmp_path / "plan.html"), *arguments], standalone_mode=False)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_fit_that_cannot_carry_a_decision_gets_no_page(warmstart: Fit) -> None:
    with pytest.raises(InputError, match="NOT_IDENTIFIED"):
        page(replace(warmstart, status=FitStatus.NOT_IDENTIFIED), "mine", START)


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "runs.csv"
    there.write_text("n_params,tokens\n")
    with pytest.raises(InputError, match="is no page"):
        write_page("anything", there)
    assert there.read_text() == "n_params,tokens\n"
    for _ in range(2):
        app(["plan", "-o", str(tmp_path / "plan.html"), "--fit", "reference"], standalone_mode=False)
    assert "needs no network" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.html", "runs.csv"]


def test_the_page_opens_amid_the_fitted_sizes(tmp_path: Path, reference: Fit) -> None:
    app(["plan", "-o", str(tmp_path / "plan.html"), "--fit", "reference"], standalone_mode=False)
    start = data_of((tmp_path / "plan.html").read_text())["start"]
    low, high = reference.domain["N"]
    assert low < start["base"] * start["factor"] < high


# In a browser

QUESTIONS = [
    ("74M", 2, 20, "szp", 20, "sunk"),
    ("50M", 2, 20, "net2net", 20, "sunk"),
    ("41000000", 3.7, 12.5, "szp", 20, "sunk"),
    ("12M", 19, 28, "net2net", 20, "sunk"),
    ("100M", 1.3, 15, "szp", 20, "paid"),
    ("60M", 4, 24, "net2net", 20, "paid"),
    ("60M", 4, 24, "szp", 20, "amortised:3"),
    ("80M", 2.5, 11, "net2net", 20, "amortised:7"),
    ("7B", 2, 20, "szp", 20, "sunk"),
    ("3M", 8, 300, "net2net", 5, "sunk"),
    ("500k", 50, 2, "szp", 80, "sunk"),
    ("1.3B", 1.07, 1000, "net2net", 200, "paid"),
    ("20M", 90, 0.6, "szp", 20, "amortised:2.5"),
    ("250M", 5.5, 40, "szp", 33, "paid"),
]
SMALL_QUESTIONS = [
    ("17k", 2, 20, "szp", 20, "sunk"),
    ("12345", 6.6, 35, "szp", 8, "paid"),
    ("40k", 1.5, 5, "szp", 32, "amortised:4"),
    ("1M", 3, 400, "szp", 2, "sunk"),
]


def command_words(asked_about: tuple[Any, ...]) -> Words:
    base, factor, tpp, operator, base_tpp, cost = asked_about
    return Words(base, factor, None, f"{tpp}tpp", operator, f"{base_tpp}tpp", cost)


def page_words(asked_about: tuple[Any, ...]) -> dict[str, Any]:
    base, factor, tpp, operator, base_tpp, cost = asked_about
    mode, _, targets = cost.partition(":")
    units = {"k": 1e3, "M": 1e6, "B": 1e9}
    size = float(base[:-1]) * units[base[-1]] if base[-1] in units else float(base)
    named = {"base": size, "factor": factor, "tpp": tpp, "base_tpp": base_tpp, "operator": operator}
    return {**named, "cost": mode, "targets": float(targets or 1)}


def answered(driver: Any, words: dict[str, Any]) -> dict[str, Any]:
    return driver.execute_script("return scalegrowPlan.answer(arguments[0])", words)


def assert_agrees(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    decision = answer["decision"]
    for field, name in FIELDS.items():
        shown, wanted = numbers(decision[name]), numbers(expected[field])
        assert len(shown) == len(wanted)
        assert all(same(a, b) for a, b in zip(shown, wanted, strict=True)), (field, shown, wanted)
    assert same(decision["winsMean"], expected["probability_mean_lower"])
    assert same(decision["distance"], expected["extrapolation"]["distance"])
    ratios = {LABELS[name]: ratio for name, ratio in decision["extrapolation"].items()}
    assert ratios == pytest.approx(expected["extrapolation"]["times_outside"], rel=AGREES)
    asked_about = decision["question"]
    for name, field in {"N": "target_params", "D": "tokens", "base": "base_tokens", "g": "growth_factor"}.items():
        assert asked_about[name] == pytest.approx(expected["question"][field], rel=1e-12)
    assert answer["advice"] == expected["advice"]


@in_browser
@pytest.mark.parametrize("asked_about", QUESTIONS, ids=lambda q: " ".join(map(str, q)))
def test_the_page_answers_as_predict_does(fresh: Any, warmstart: Fit, asked_about: tuple[Any, ...]) -> None:
    expected = predicted(warmstart, "warmstart", command_words(asked_about))
    assert_agrees(answered(fresh, page_words(asked_about)), expected)


@in_browser
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_a_page_of_another_law_and_level_answers_as_predict_does(
    chromium: Any, reference: Fit, tmp_path: Path, level: float
) -> None:
    """The reference fit discounts the base in tokens, where the default fit does as a power."""
    start = replace(START, base=17e3)
    write_page(page(reference, "reference", start, level), tmp_path / "plan.html")
    opened(chromium, tmp_path / "plan.html")
    for asked_about in SMALL_QUESTIONS:
        expected = predicted(reference, "reference", command_words(asked_about), level)
        assert_agrees(answered(chromium, page_words(asked_about)), expected)
