"""Charts: the library's numbers, captions that say what they rest on, every kind in every format, refusals."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import pytest

from scalegrow.budget import BaseCost
from scalegrow.cli import _run
from scalegrow.cli import plot as commands
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.plot_app import plot
from scalegrow.cli.select import load_selection
from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import Points
from scalegrow.laws.store import read_fit, write_fit
from scalegrow.plan.decide import Decision, Question, break_even_budget, compute_saved, decide
from scalegrow.plots import factor, loss, map, saving
from scalegrow.plots.caption import Caption
from scalegrow.plots.save import FORMATS, save
from scalegrow.plots.theme import COLOURS, DASHES, SHAPES, finished, log_ticks
from scalegrow.runs.shipped import shipped_fit

ASKED = ("--base", "50M", "--factor", "2", "--budget", "20tpp")
FAR = ("--base", "7B", "--factor", "2", "--budget", "20tpp")
SMALL = {
    "map": ("--fit", "small.json"),
    "loss": ("--fit", "small.json", "--runs", "warmstart_2605_13405_digitised", "--rows", "annealed"),
    "factor": ("--fit", "small.json"),
    "saving": ("--fit", "small.json", "--base-cost", "sunk", "--base-cost", "paid"),
    "operators": (),
    "gamma": ("--budget", "10tpp"),
    "isoflop": (),
    "holdout": ("--draws", "40"),
    "residuals": (),
    "profile": ("--draws", "40"),
}
LAWS = dict.fromkeys(("map", "loss", "factor", "saving", "holdout", "residuals"), "fading-capacity") | {
    "operators": "effects on the final loss",
    "gamma": "curve in gamma",
    "isoflop": "isoflop-parabola",
    "profile": "chinchilla",
}
DATA = dict.fromkeys(("map", "loss", "factor", "saving"), "data/warmstart_2605_13405_digitised.csv") | {
    "operators": f"{load_selection('selection').effects.n_runs} runs from ",
    "gamma": f"{load_gamma('text').n_runs} runs on english_novels.txt",
    "isoflop": "chinchilla_epoch, 240 rows",
    "holdout": "warmstart_2605_13405_digitised, 54 rows",
    "residuals": "warmstart_2605_13405_digitised, 54 rows",
    "profile": "chinchilla_epoch, 240 rows",
}
Drawn = tuple[alt.TopLevelMixin, Caption]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where small.json lies: the default fit with a fifth of its draws."""
    place = tmp_path_factory.mktemp("plots")
    fit = read_fit(shipped_fit("warmstart"))
    write_fit(replace(fit, draws=fit.draws[::5]), place / "small.json")
    return place


@pytest.fixture(scope="module")
def small(folder: Path) -> Fit:
    return read_fit(folder / "small.json")


@pytest.fixture(scope="module")
def question() -> Question:
    return Question(N=100e6, g=2.0, D=2e9, D_base=1e9, operator="szp")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Callable[..., Drawn]:
    """The chart and caption of a command line, drawn once."""

    @cache
    def draw(*arguments: str) -> Drawn:
        found: list[Drawn] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["scalegrow", "plot", *arguments, "-o", "unused.json"])
            patch.setattr(commands, "draw", lambda chart, caption, out: found.append((chart, caption)))
            assert _run() == 0
        chart, caption = found[0]
        return finished(chart, caption), caption

    return draw


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code of a command in a process of its own, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "scalegrow", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return done.returncode, done.stderr


def predicted(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `predict --json` says of the small fit."""
    command = [sys.executable, "-m", "scalegrow", "predict", *arguments, "--fit", "small.json", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout)


def data_of(chart: alt.TopLevelMixin) -> list[pl.DataFrame]:
    """Every frame that a chart holds."""
    return [pl.DataFrame(rows) for rows in chart.to_dict()["datasets"].values()]


def rows_with(chart: alt.TopLevelMixin, *columns: str) -> pl.DataFrame:
    """The one frame that holds exactly these columns."""
    (found,) = [frame for frame in data_of(chart) if set(frame.columns) == set(columns)]
    return found


def test_every_kind_is_a_command() -> None:
    assert {command.name or command.callback.__name__ for command in plot.registered_commands} == {*SMALL}  # type: ignore[union-attr]


OUTSIDE = re.compile(r"""<(script|link|img|iframe)[^>]*(src|href)\s*=\s*["']?(https?:)?//""")


def test_a_page_that_asks_the_network_would_be_seen(drawn: Callable[..., Drawn], tmp_path: Path) -> None:
    drawn("gamma", *SMALL["gamma"])[0].save(str(tmp_path / "linked.html"))  # altair's own default
    assert OUTSIDE.search((tmp_path / "linked.html").read_text())


MAGIC = {"png": b"\x89PNG\r\n", "pdf": b"%PDF-", "svg": b"<svg", "html": b"<!DOCTYPE html>", "json": b"{"}


@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_in_every_format(kind: str, drawn: Callable[..., Drawn], tmp_path: Path) -> None:
    chart, _ = drawn(kind, *SMALL[kind])
    for suffix in FORMATS:
        save(chart, tmp_path / f"chart.{suffix}")
        written = (tmp_path / f"chart.{suffix}").read_bytes()
        assert written.lstrip().startswith(MAGIC[suffix])
        assert len(written) > 5_000
    page = (tmp_path / "chart.html").read_text()
    assert not OUTSIDE.search(page)
    alt.Chart.from_json((tmp_path / "chart.json").read_text(), validate=True)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", SMALL)
def test_captions_name_law_data_and_extrapolation(kind: str, drawn: Callable[..., Drawn]) -> None:
    chart, caption = drawn(kind, *SMALL[kind])
    assert LAWS[kind] in caption.law
    assert caption.data.startswith(DATA[kind])
    assert "fitted range" in caption.range or "EXTRAPOLATES" in caption.range
    title = chart.to_dict()["title"]
    assert title["text"] == caption.title
    shown = " ".join(title["subtitle"])
    for part in (caption.law, caption.data, caption.range):
        assert part in shown


@pytest.mark.parametrize("kind", ["map", "loss", "factor", "saving"])
def test_a_question_far_off_is_said_to_extrapolate(kind: str, drawn: Callable[..., Drawn]) -> None:
    _, inside = drawn(kind, *SMALL[kind])
    _, outside = drawn(kind, *SMALL[kind], *FAR)
    assert inside.range == "This question lies inside the fitted range."
    assert outside.range.startswith("This question EXTRAPOLATES: parameters 48.")


def test_other_kinds_extrapolate_too(drawn: Callable[..., Drawn]) -> None:
    assert "EXTRAPOLATES: parameters" in drawn("operators", *ASKED)[1].range
    assert "EXTRAPOLATES: parameters" in drawn("gamma", "--size", "1M", "--budget", "10tpp")[1].range
    assert "EXTRAPOLATES: parameters" in drawn("loss", "--fit", "chinchilla", "--size", "1T")[1].range


def test_the_map_s_point_and_line_are_predict_s(folder: Path, drawn: Callable[..., Drawn]) -> None:
    told = predicted(folder, *ASKED)
    chart, _ = drawn("map", *SMALL["map"], *ASKED)
    point = rows_with(chart, "g", "tpp", "probability", "low", "high").row(0, named=True)
    chance = told["probability_growing_wins"]
    assert point["probability"] == chance["value"]
    assert [point["low"], point["high"]] == chance["interval"]
    assert point["tpp"] == told["question"]["tokens_per_param"]
    line = rows_with(chart, "g", "tpp", "curve", "end")
    here = line.filter((pl.col("g") - told["question"]["growth_factor"]).abs() < 1e-9)
    by_end = dict(here.select("end", "tpp").iter_rows())
    assert by_end["tpp"] == told["break_even_budget"]["value"]
    assert "low" not in by_end or by_end["low"] == told["break_even_budget"]["interval"][0]


def test_the_factor_chart_s_g_opt_and_g_upper_are_predict_s(folder: Path, small: Fit) -> None:
    told = predicted(folder, *ASKED)
    asked = told["question"]
    base = BaseCost.parse(asked["base_cost"])
    question = Question(
        asked["target_params"], asked["growth_factor"], asked["tokens"], asked["base_tokens"], "szp", base
    )
    found = factor.factor_curves(small, decide(small, question)).found
    for row, name in zip(found.iter_rows(named=True), ("best_factor", "largest_useful_factor"), strict=True):
        expected = [told[name]["value"], *told[name]["interval"]]
        ends = [np.inf if end is None else end for end in expected]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(ends, rel=1e-12)
    shown = [row for rows in data_of(factor.chart(*_factor(small, question))) for row in rows.to_dicts()]
    (upper,) = {(row["value"], row["low"], row["high"]) for row in shown if row.get("what") == "g_upper"}
    told_upper = told["largest_useful_factor"]
    assert upper == (told_upper["value"], *told_upper["interval"]), "the axis cuts what is drawn, not what is said"


def _factor(fit: Fit, question: Question) -> tuple[factor.FactorCurves, Decision]:
    decision = decide(fit, question)
    return factor.factor_curves(fit, decision), decision


def test_a_map_s_cells_are_decisions(small: Fit, question: Question) -> None:
    found = map.decision_map(small, decide(small, question), steps=(4, 3))
    assert found.cells.height == 12
    for cell in found.cells.gather([0, 5, 11]).iter_rows(named=True):
        other = decide(small, question.grown_by(cell["g"]).on(cell["tpp"]))
        assert cell["probability"] == pytest.approx(other.probability_growing_wins.value, abs=1e-12)
        assert cell["inside"] == (other.distance == 0)
        low, high = (float(end) for end in cell["verdict"].split(":")[0].split(" to "))
        assert low <= cell["probability"] <= high
    for row in found.line.iter_rows(named=True):
        other = break_even_budget(small, question.grown_by(row["g"]), 0.95)
        assert [row["tpp"], row["low"], row["high"]] == [other.value, other.low, other.high]


def test_held_base_keeps_the_base_and_held_target_the_target(question: Question) -> None:
    kept, grown = question.grown_to(5.0), question.grown_by(5.0)
    assert (kept.N_base, kept.D_base, kept.N) == pytest.approx((50e6, 1e9, 250e6))
    assert pytest.approx(20) == kept.D / kept.N
    assert (grown.N, grown.N_base, grown.D_base) == pytest.approx((100e6, 20e6, 400e6))
    assert question.grown_to(2.0) == question.grown_by(2.0) == question


def test_where_the_base_cannot_be_paid_growing_cannot_win(small: Fit, question: Question) -> None:
    """A base of N / 2 on 20 tokens per parameter costs a quarter of 20 of the target's."""
    paid = replace(question, base_cost=BaseCost("paid"))
    cells = map.decision_map(small, decide(small, paid), steps=(6, 12)).cells
    unpaid = cells.filter(pl.col("tpp") <= 20 / pl.col("g") ** 2)
    assert unpaid.height > 0
    assert unpaid["probability"].to_list() == [0.0] * unpaid.height
    assert not unpaid["inside"].any()
    assert cells["probability"].max() > 0


def test_loss_curves_pass_through_the_decision(small: Fit, question: Question) -> None:
    decision = decide(small, question)
    curves = loss.of_question(small, decision, None).curves
    flops = 6 * question.N * question.D
    for (name,), part in curves.group_by("curve"):
        expected = decision.loss_scratch if name == "from scratch" else decision.loss_grown
        for column in ("value", "low", "high", "new_low", "new_high"):
            found = np.interp(np.log(flops), np.log(part["x"]), part[column])
            assert found == pytest.approx(getattr(expected, column), abs=2e-4), (name, column)


def test_measured_runs_stand_beside_their_own_curve_alone(small: Fit) -> None:
    table = commands.Runs("warmstart_2605_13405_digitised", "annealed", []).load("mine")
    near = Question(N=134.5e6, g=1.745, D=2.69e9, D_base=1.54e9, operator="szp")
    found = loss.of_question(small, decide(small, near), table).measured
    assert dict(found["curve"].value_counts().iter_rows()) == {"from scratch": 3, "grown by szp, g = 1.75": 3}
    nothing = loss.of_question(small, decide(small, replace(near, N=100e6)), table).measured
    assert nothing.is_empty()
    assert commands.Runs(None, None, []).load("mine") is None


def test_savings_are_those_of_the_decision(small: Fit, question: Question) -> None:
    found = saving.savings(small, decide(small, question), ("sunk", "paid"), points=3)
    for row in found.asked.iter_rows(named=True):
        other = compute_saved(small, replace(question, base_cost=BaseCost.parse(row["curve"])), 0.95)
        assert [row["value"], row["low"], row["high"]] == [other.value, other.low, other.high]
    sunk, paid = (found.asked["value"][i] for i in (0, 1))
    assert sunk > paid


def test_operators_are_ranked_as_predict_ranks_them(folder: Path, drawn: Callable[..., Drawn]) -> None:
    told = predicted(folder, *ASKED)["warm_start"]
    chart, _ = drawn("operators", *ASKED)
    ranked = pl.concat([frame for frame in data_of(chart) if "p_best" in frame.columns], how="diagonal")
    for regime in ("deterministic", "stochastic"):
        mine = ranked.filter(pl.col("regime") == regime)
        assert mine["candidate"].to_list() == [each["candidate"] for each in told[regime]]
        assert mine["p_best"].to_list() == [each["p_best"] for each in told[regime]]
        assert mine["low"].to_list() == [each["effect"]["interval"][0] for each in told[regime]]


def test_held_out_points_are_those_of_validate(drawn: Callable[..., Drawn]) -> None:
    chart, caption = drawn("holdout", *SMALL["holdout"])
    panels = {frame["panel"][0]: frame for frame in data_of(chart) if "panel" in frame.columns}
    assert {name: frame.height for name, frame in panels.items()} == {"losses": 18, "grown minus scratch": 15}
    assert panels["losses"]["N"].min() > 2.8e8  # type: ignore[operator]
    assert "N >= 287M" in " ".join(caption.notes)


def test_isoflop_parabolas_touch_their_minima(drawn: Callable[..., Drawn]) -> None:
    chart, caption = drawn("isoflop")
    parabolas = rows_with(chart, "curve", "N", "loss")
    (minima,) = [frame for frame in data_of(chart) if "n_opt" in frame.columns]
    assert minima.height >= 8
    for row in minima.iter_rows(named=True):
        part = parabolas.filter(pl.col("curve") == row["level"])
        lowest = part.row(int(part["loss"].arg_min()), named=True)  # type: ignore[arg-type]
        assert lowest["loss"] == pytest.approx(row["loss_min"], rel=1e-3)
        assert lowest["N"] == pytest.approx(row["n_opt"], rel=0.2)
    assert "N_opt ~ C^0." in " ".join(caption.notes)


def test_profiles_show_both_intervals(drawn: Callable[..., Drawn]) -> None:
    chart, _ = drawn("profile", *SMALL["profile"])
    rows = pl.concat([frame for frame in data_of(chart) if "kind" in frame.columns], how="vertical_relaxed")
    assert rows.height == 10  # five coefficients, two ways
    assert (rows["low"] < rows["best"]).all()
    assert (rows["best"] < rows["high"]).all()


def test_ticks_are_round_and_inside() -> None:
    assert log_ticks(1, 1e6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    assert log_ticks(1.3, 28) == [2, 5, 10, 20]
    for low, high in ((1.7, 19.7), (5e17, 7e18), (3, 4.4), (1e7, 1.2e8)):
        ticks = log_ticks(low, high)
        assert 2 <= len(ticks) <= 9
        assert low <= min(ticks) <= max(ticks) <= high


def test_log_axes_speak_in_people_s_units(drawn: Callable[..., Drawn], tmp_path: Path) -> None:
    def texts(kind: str) -> set[str]:
        save(drawn(kind, *SMALL[kind])[0], tmp_path / "chart.svg")
        return set(re.findall(r">([^<>]+)</text>", (tmp_path / "chart.svg").read_text()))

    assert {"1e18", "2e18"} <= texts("loss")
    assert {"100M", "1B", "10B"} <= texts("isoflop")


def luminance(colour: str) -> float:
    """Of a hex colour, 0 to 1 (Rec. 709, without gamma)."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_theme_is_readable_in_grey() -> None:
    shades = [luminance(shade) for shade in map.SHADES]
    assert all(darker < lighter - 0.07 for lighter, darker in pairwise(shades))
    assert len({json.dumps(dash) for dash in DASHES}) == len(DASHES) == len(COLOURS) == len(set(SHAPES))


def test_frames_need_no_altair() -> None:
    program = (
        "import sys\nsys.modules['altair'] = None\n"
        "from scalegrow.plots import factor, gamma, holdout, isoflop, loss, map\n"
        "from scalegrow.plots import operators, profile, residuals, saving\n"
        "from scalegrow.laws.store import read_fit\nfrom scalegrow.plan.decide import Question, decide\n"
        "from scalegrow.runs.shipped import shipped_fit\nfit = read_fit(shipped_fit('warmstart'))\n"
        "decision = decide(fit, Question(1e8, 2.0, 2e9, 1e9, 'szp'))\n"
        "map.decision_map(fit, decision, steps=(2, 2))\nfactor.factor_curves(fit, decision)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True)


REFUSED = [
    (("map", "-o", "map.xlsx"), "map.xlsx has no suffix of a chart: write .html, .png, .svg, .pdf, .json."),
    (("map", "-o", "map"), "has no suffix of a chart"),
    (("map", "-o", "nowhere/map.svg"), "nowhere is no folder"),
    (("map", "--fit", "missing.json"), "missing.json is not there"),
    (("map", "--fit", "chinchilla"), "chinchilla knows no grown runs"),
    (("map", "--held", "budget"), "'budget' cannot be held: choose target or base"),
    (("map", "--base", "50X"), "'50X' is not a size"),
    (("factor", "--factor", "2", "--target", "100M"), "one of the two"),
    (("saving", "--base-cost", "mine"), "is no base cost"),
    (("loss", "--runs", "missing.csv"), "missing.csv"),
    (("operators", "--study", "missing.json"), "missing.json"),
    (("gamma", "--law", "missing.json"), "missing.json"),
    (("gamma", "--level", "2"), "no interval level"),
    (("isoflop", "few.csv"), "no compute level of these runs has a minimum (TOO_FEW_RUNS)"),
    (("holdout", "--scheme", "none"), "no validation scheme"),
    (("holdout", "few.csv"), "1 run cannot determine 5 coefficients of chinchilla: give at least 6"),
    (("loss", "--size", "100M", "--base", "50M"), "--size asks for models from scratch"),
    (("loss", "--size", "100M", "--factor", "2"), "give one"),
    (("loss", "--fit", "chinchilla", "--base", "500B"), "chinchilla knows no grown runs"),
    (("residuals", "few.csv"), "cannot determine"),
    (("profile", "few.csv"), "cannot determine"),
]


@pytest.mark.parametrize(("arguments", "reason"), REFUSED, ids=lambda each: "-".join(each)[:40])
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    few = tmp_path / "few.csv"
    few.write_text("n_params,tokens,loss\n1e6,1e7,4.0\n2e6,1e7,3.9\n")
    monkeypatch.setattr(sys, "argv", ["scalegrow", "plot", *arguments])
    assert _run() == 2
    said = capsys.readouterr().err.strip()
    assert reason in said
    assert said.count("\n") == 0
    assert list(tmp_path.iterdir()) == [few]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("altair", "vl_convert"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            patch.setattr(sys, "argv", ["scalegrow", "plot", "map", "-o", str(tmp_path / "map.svg")])
            said: list[str] = []
            patch.setattr("scalegrow.cli._refuse", lambda message, code=2, said=said: said.append(message) or code)
            assert _run() == 2
            assert "pip install 'scalegrow[plots]'" in said[0]


def test_a_bare_command_writes_a_page_and_says_so(folder: Path) -> None:
    code, said = run(folder, "plot", "residuals")
    assert code == 0, said
    assert said.startswith("residuals.html: Residuals and influence.")
    assert (folder / "residuals.html").stat().st_size > 100_000


def test_an_older_chart_stays_whole_when_drawing_fails(
    drawn: Callable[..., Drawn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart, _ = drawn("gamma", *SMALL["gamma"])
    out = tmp_path / "chart.json"
    out.write_text("older")

    def broken(self: object, path: str, **_: object) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(alt.TopLevelMixin, "save", broken)
    from scalegrow.errors import InputError

    with pytest.raises(InputError, match="cannot be written"):
        save(chart, out)
    assert out.read_text() == "older"
    assert list(tmp_path.iterdir()) == [out]


def test_points_of_a_forecast_have_the_interval_of_each_alone(small: Fit) -> None:
    from scalegrow.laws.forecast import forecast
    from scalegrow.plots.curves import pointwise

    points = Points.of([1e8, 2e8], [2e9, 3e9])
    together, alone = pointwise(small, points, 0.95), forecast(small, points.take(np.array([1])))
    assert together.new_high[1] == alone.new_high[0]
