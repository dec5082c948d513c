"""The planner page: what it shows is what predict says, from one file, without a network."""

import html
import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import CHROMIUM, DRIVER, browser, mapped, opened, preferring, resized, settled
from hypothesis import given
from hypothesis import strategies as st

from scalegrow.cli.app import app
from scalegrow.cli.predict import Words, as_data, asked, decision_rows
from scalegrow.cli.render import finite
from scalegrow.errors import InputError
from scalegrow.growth import Growth
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.fitted import Fit, FitStatus
from scalegrow.laws.forecast import forecast_difference
from scalegrow.laws.points import Points
from scalegrow.laws.store import read_fit
from scalegrow.page.build import Start, in_script, page, source, write_page
from scalegrow.plan.advise import advice, too_far
from scalegrow.plan.decide import Estimate, break_even_budget, decide, grown_points
from scalegrow.runs.shipped import shipped_fit
from scalegrow.shape import ModelShape
from scalegrow.units import format_count

try:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select

    SELENIUM = True
except ImportError:
    SELENIUM = False

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
    not SELENIUM or not (CHROMIUM.exists() and DRIVER.exists()),
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
    assert not re.search(
        r"https?:|\bfetch\b|XMLHttpRequest|WebSocket|sendBeacon|\bimport\b|@import|url\((?!#)", script
    )


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


@in_browser
def test_sizes_snap_to_the_shapes_of_the_ladder(fresh: Any) -> None:
    """Every decade from 1e4 to 1e12, and factors from just above 1."""
    rng = np.random.default_rng(0)
    bases, factors = 10 ** rng.uniform(4, 11.4, 600), 10 ** rng.uniform(0.002, 2, 600)
    pairs = [(base, g) for base, g in zip(bases.tolist(), factors.tolist(), strict=True) if base * g < 9e11]
    grown = """const grown = ([base, g]) => { try { return scalegrowPlan.grow(base, g) } catch { return null } };
        return arguments[0].map(grown)"""
    for (base, g), shapes in zip(pairs, fresh.execute_script(grown, pairs), strict=True):
        try:
            growth = Growth.by_factor(base, g)
        except InputError:
            assert shapes is None
            continue
        for side, shape in (("base", growth.base), ("target", growth.target)):
            assert isinstance(shape, ModelShape)
            names = {"V": "vocab_size", "tied": "tied", "h": "head_dim", "d": "d_model", "L": "n_layers"}
            names |= {"H": "n_heads", "f": "d_ff"}
            assert shapes[side] == {short: getattr(shape, name) for short, name in names.items()}, (base, g)


@in_browser
def test_numbers_are_written_as_python_writes_them(fresh: Any) -> None:
    """Halves go to the even digit, which a browser's own toFixed does not do."""
    rng = np.random.default_rng(0)
    values = [
        *(10 ** rng.uniform(-6, 9, 300)).tolist(),
        0.125,
        0.375,
        0.5,
        1.5,
        2.5,
        0.0625,
        12.5,
        43.5,
        0.145,
        1e-5,
    ]
    values += [-value for value in values[-12:]]
    for digits in (0, 1, 2, 3):
        shown = fresh.execute_script(
            "return arguments[0].map((x) => scalegrowPlan.fixed(x, arguments[1]))", values, digits
        )
        assert shown == [f"{value:.{digits}f}" for value in values]
    for digits in (2, 3, 6):
        shown = fresh.execute_script(
            "return arguments[0].map((x) => scalegrowPlan.general(x, arguments[1]))", values, digits
        )
        assert shown == [f"{value:.{digits}g}" for value in values]
    sizes = [value for value in values if value > 1]
    assert fresh.execute_script("return arguments[0].map((x) => scalegrowPlan.count(x))", sizes) == [
        format_count(size) for size in sizes
    ]


def press(driver: Any, name: str, *keys: str) -> None:
    """Keys to a control, and the answer to them."""
    found = driver.find_element("id", name)
    for key in keys:
        found.send_keys(key)
    settled(driver)


def typed(driver: Any, name: str, text: str) -> None:
    """A control's text replaced."""
    found = driver.find_element("id", name)
    found.send_keys(Keys.CONTROL, "a")
    found.send_keys(text or Keys.DELETE)


def chosen(driver: Any, name: str, value: str) -> None:
    """A choice of a list, and the answer to it."""
    Select(driver.find_element("id", name)).select_by_value(value)
    driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    settled(driver)


def shown_table(driver: Any) -> dict[str, list[str]]:
    """The texts of each row."""
    read = """const rows = [...document.querySelectorAll('#table tbody tr')];
        return rows.map((row) => [row.id, [...row.cells].map((cell) => cell.textContent)])"""
    return dict(driver.execute_script(read))


def shown_command(driver: Any) -> Words:
    """The command that the page says gives the same numbers."""
    parts = shlex.split(driver.find_element("id", "command").text)
    assert parts[:2] == ["scalegrow", "predict"]
    options = dict(zip(parts[2::2], parts[3::2], strict=True))
    names = ("--base", "--factor", "--budget", "--operator", "--base-budget", "--base-cost")
    base, factor, budget, operator, base_budget, base_cost = (options[name] for name in names)
    return Words(base, float(factor), None, budget, operator, base_budget, base_cost)


def read_digits(text: str) -> list[float]:
    return [float(part) for part in text.split(" to ")]


@in_browser
def test_what_the_screen_shows_equals_predict_after_every_key(fresh: Any, warmstart: Fit) -> None:
    press(fresh, "digits", Keys.SPACE)
    moves = [
        ("base", Keys.ARROW_RIGHT),
        ("factor", Keys.ARROW_RIGHT),
        ("factor", Keys.PAGE_UP),
        ("tpp", Keys.ARROW_LEFT),
        ("operator", Keys.ARROW_DOWN),
        ("cost", Keys.ARROW_DOWN),
        ("base-tpp", Keys.ARROW_LEFT),
        ("cost", Keys.ARROW_DOWN),
        ("targets", Keys.ARROW_UP),
        ("base", Keys.HOME),
        ("tpp", Keys.END),
    ]
    seen = set()
    for name, key in moves:
        press(fresh, name, key)
        words = shown_command(fresh)
        seen.add(words)
        expected = predicted(warmstart, "warmstart", words)
        for field, cells in shown_table(fresh).items():
            shown = [
                number for cell in cells[1:] if cell and cell[0] in "-0123456789i" for number in read_digits(cell)
            ]
            wanted = numbers(expected[field])
            assert len(shown) == len(wanted)
            assert all(same(a, b) for a, b in zip(shown, wanted, strict=True)), (words, field, shown, wanted)
        assert fresh.find_element("id", "advice").text == expected["advice"]
        ratios = {
            label: ratio for label, ratio in expected["extrapolation"]["times_outside"].items() if ratio != 1
        }
        range_text = fresh.find_element("id", "range").text
        assert ("EXTRAPOLATES" in range_text) == bool(ratios)
        assert all(label in range_text for label in ratios)
    assert len(seen) == len(moves)


@in_browser
@pytest.mark.parametrize("asked_about", [QUESTIONS[0], QUESTIONS[4], QUESTIONS[8]])
def test_the_table_reads_as_predict_s_own(fresh: Any, warmstart: Fit, asked_about: tuple[Any, ...]) -> None:
    """Typed numbers; rounded as predict rounds them, with its remarks."""
    words = page_words(asked_about)
    for name, value in {"base": asked_about[0], "factor": asked_about[1], "tpp": asked_about[2]}.items():
        typed(fresh, f"{name}-number", str(value))
    for name in ("operator", "cost"):
        chosen(fresh, name, words[name])
    _, question = asked(warmstart, command_words(asked_about))
    decision = decide(warmstart, question, LEVEL)
    rows = decision_rows(decision, warmstart.domain)
    assert [cells[1:] for cells in shown_table(fresh).values()] == [list(cells[1:]) for cells in rows]
    assert (
        fresh.find_element("id", "range").text
        == f"This question {extrapolation_sentence(decision.extrapolation)}."
    )


@in_browser
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("base-number", "much", "no number above 0"),
        ("base-number", "1k", "off the ladder"),
        ("base-number", "1,5B", "no number above 0"),
        ("factor-number", "0x10", "no number above 0"),
        ("base-tpp-number", "1e300", "more than 1e+18 tokens"),
        ("factor-number", "1", "does not grow"),
        ("tpp-number", "-3", "no number above 0"),
        ("tpp-number", "", "no number above 0"),
    ],
)
def test_bad_input_is_one_line_and_the_next_good_one_answers(
    fresh: Any, name: str, text: str, message: str
) -> None:
    before = fresh.find_element("id", name).get_attribute("value")
    typed(fresh, name, text)
    settled(fresh, "refused")
    refusal = fresh.find_element("id", "refusal")
    assert refusal.is_displayed()
    assert message in refusal.text
    assert not fresh.find_element("id", "copy").is_enabled(), "the table is of the question before"
    typed(fresh, name, before)
    settled(fresh)
    assert not refusal.is_displayed()
    assert fresh.find_element("id", "copy").is_enabled()


@in_browser
def test_a_base_that_eats_the_budget_is_refused_as_predict_does(fresh: Any) -> None:
    words = page_words(("60M", 1.2, 1, "szp", 20, "paid"))
    refused = "try { scalegrowPlan.answer(arguments[0]) } catch (error) { return error.message }"
    assert "more than the whole budget" in fresh.execute_script(refused, words)


def requests_of(driver: Any) -> set[str]:
    """Every address that the browser asked for since the log was last read."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return {
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    }


@in_browser
def test_nothing_leaves_the_page(chromium: Any, built: Path) -> None:
    chromium.get("about:blank")
    requests_of(chromium)
    opened(chromium, built)
    press(chromium, "base", Keys.ARROW_RIGHT)
    press(chromium, "copy", Keys.ENTER)
    assert requests_of(chromium) == {built.as_uri()}
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not chromium.get_log("browser")


@in_browser
def test_the_page_s_own_policy_stops_what_would_leave_it(chromium: Any, built: Path, tmp_path: Path) -> None:
    """The control of the test above: an image of another place is asked for, and refused."""
    leaking = tmp_path / "leaking.html"
    leaking.write_text(built.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
    opened(chromium, leaking)
    assert any("Content Security Policy" in entry["message"] for entry in chromium.get_log("browser"))


@in_browser
def test_every_control_is_reached_by_tab_named_and_visibly_focused(fresh: Any) -> None:
    look = """const e = document.activeElement, style = getComputedStyle(e);
        const name = e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent;
        return [e.id || e.tagName, name.trim(), style.outlineStyle, parseFloat(style.outlineWidth)]"""
    fresh.execute_script("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    reached = []
    for _ in range(14):
        ActionChains(fresh).send_keys(Keys.TAB).perform()
        reached.append(fresh.execute_script(look))
    assert [name for name, *_ in reached] == [
        *("base", "base-number", "factor", "factor-number", "tpp", "tpp-number", "base-tpp", "base-tpp-number"),
        *("operator", "cost", "DIV", "copy", "digits", "SUMMARY"),
    ]
    for _, name, outline, width in reached:
        assert name
        assert outline != "none"
        assert width >= 2


@in_browser
def test_copying_by_keyboard_gives_the_table_with_all_its_digits(fresh: Any, warmstart: Fit) -> None:
    fresh.execute_script(
        "document.oncopy = (e) => 0; navigator.clipboard.writeText = async (t) => { window.copied = t }"
    )
    press(fresh, "copy", Keys.ENTER)
    assert fresh.find_element("id", "copied").text.startswith("copied")
    command, head, *lines = fresh.execute_script("return window.copied").splitlines()
    assert command == "# " + fresh.find_element("id", "command").text
    assert head.split("\t")[:2] == ["quantity", "estimate"]
    expected = predicted(warmstart, "warmstart", shown_command(fresh))
    for line in lines:
        field, *values = line.split("\t")
        assert all(same(float(a), b) for a, b in zip(values, numbers(expected[field]), strict=True))


@in_browser
def test_advice_is_announced_and_charts_have_words(fresh: Any) -> None:
    live = fresh.execute_script("return document.getElementById('advice').closest('[aria-live]').ariaLive")
    assert live == "polite"
    for name in ("loss-chart", "difference-chart", "map-chart"):
        chart = fresh.find_element("id", name)
        assert chart.get_attribute("role") == "img"
        assert re.search(r"\d\.\d", chart.get_attribute("aria-label"))


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_a_phone_and_either_scheme(fresh: Any, scheme: str, width: int) -> None:
    preferring(fresh, scheme)
    resized(fresh, width)
    assert fresh.execute_script("return document.documentElement.scrollWidth") <= width
    paint = "const s = getComputedStyle(arguments[0]); return [s.color, s.backgroundColor]"
    _, paper = fresh.execute_script(paint, fresh.find_element("css selector", "body"))
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    for name in ("about", "advice", "sizes", "map-note", "copy"):
        ink, _ = fresh.execute_script(paint, fresh.find_element("id", name))
        assert contrast(ink, paper) >= 4.5, name  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance of rgb(r, g, b) or #rrggbb (WCAG 2.2)."""
    channels = (
        [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if colour[0] == "#" else re.findall(r"\d+", colour)[:3]
    )
    linear = [c / 12.92 if (c := int(v) / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for v in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_map_is_read_in_grey() -> None:
    """Every tenth of probability is darker than the one before, as in the chart."""
    ramp = re.findall(r"#[0-9a-f]{6}", source("charts.js").split("const RAMP = ")[1].split("]")[0])
    greys = [luminance(colour) for colour in ramp]
    assert len(greys) == 10
    assert all(darker < lighter for lighter, darker in pairwise(greys))


def whole_map(driver: Any) -> list[dict[str, Any]]:
    """The cells, once all are there, the line's interval too; until then the page says that it draws."""
    mapped(driver)
    assert driver.find_element("id", "map-progress").text == ""
    return list(driver.execute_script("return scalegrowPlan.mapCells()"))


@in_browser
@pytest.mark.parametrize("cost", ["sunk", "paid"])
def test_the_map_and_its_line_are_the_law_s(fresh: Any, warmstart: Fit, cost: str) -> None:
    """Cells against the forecast at their places, line and interval against the decision's break-even budget."""
    said = "window.said = []; const p = document.getElementById('map-progress');"
    said += "new MutationObserver(() => window.said.push(p.textContent)).observe(p, {childList: true});"
    fresh.execute_script(said)
    chosen(fresh, "cost", cost)
    _, here = asked(warmstart, Words("74M", 2, None, "20tpp", "szp", "20tpp", cost))
    cells = whole_map(fresh)
    assert any(re.fullmatch(r"Drawing: \d+% of the map\.", text) for text in fresh.execute_script("return said"))
    for cell in cells[::47]:
        N = here.N_base * cell["g"]
        there = replace(here, N=N, g=cell["g"], D=cell["tpp"] * N)
        if there.D_grown <= 0:
            assert cell["wins"] is None
            continue
        chance = forecast_difference(warmstart, grown_points(there), Points.of(N, there.D)).wins[0]
        assert same(cell["wins"], float(chance))
        ratios = warmstart.domain.extrapolation(grown_points(there))
        assert cell["far"] == too_far({name: float(ratio[0]) for name, ratio in ratios.items()})
        assert cell["outside"] == (float(warmstart.domain.distance(grown_points(there))[0]) > 0)

    def limit(g: float) -> Estimate:
        return break_even_budget(warmstart, replace(here, N=here.N_base * g, g=g, D=20 * here.N_base * g), LEVEL)

    for g in (1.5, 2.0, 5.0):
        shown = fresh.execute_script("return scalegrowPlan.breakEvenAt(arguments[0])", g)
        assert same(shown, finite(limit(g).value))
    for at in fresh.execute_script("return scalegrowPlan.limits()")[::6]:
        assert all(map(same, at["interval"], map(finite, (limit(at["g"]).low, limit(at["g"]).high))))


@in_browser
@pytest.mark.parametrize("tpp", ["1e-300", "1e9"])
def test_a_budget_far_off_the_charts_draws_no_nonsense(fresh: Any, tpp: str) -> None:
    typed(fresh, "tpp-number", tpp)
    settled(fresh)
    assert "NaN" not in fresh.find_element("tag name", "main").get_attribute("innerHTML")


@in_browser
def test_a_fit_s_name_is_quoted_in_the_command(chromium: Any, tmp_path: Path, warmstart: Fit) -> None:
    """What a reader pastes runs predict and nothing else."""
    name = "it's a $(touch pwn) `id` & fit.json"
    path = tmp_path / "plan.html"
    write_page(page(warmstart, name, START), path)
    opened(chromium, path)
    words = shlex.split(chromium.find_element("id", "command").text)
    assert words[words.index("--fit") + 1 :] == [name]


@in_browser
def test_a_click_on_the_map_asks_about_that_place(fresh: Any) -> None:
    before = shown_command(fresh)
    chart = fresh.find_element("id", "map-chart")
    ActionChains(fresh).scroll_to_element(chart).move_to_element_with_offset(chart, 60, -30).click().perform()
    settled(fresh)
    after = shown_command(fresh)
    assert after.factor != before.factor
    assert after.budget != before.budget
    assert replace(after, factor=before.factor, budget=before.budget) == before
