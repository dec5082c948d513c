"""`scalegrow gamma` as a user meets it, what it keeps on disk, and bad input in one line."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from gammas import BUDGETS, FLAT, MILD, SIZES, law_of, study

from scalegrow.cli import _run
from scalegrow.cli.gamma import SCHEMA
from scalegrow.errors import InputError
from scalegrow.laws.document import read_document, write_document
from scalegrow.laws.gamma import NAMES
from scalegrow.laws.gamma_fit import fit_gamma
from scalegrow.runs import shipped
from scalegrow.runs.config import epsilon_gamma
from scalegrow.shape import shape_for

DOCUMENTED = Path(__file__).parents[1].joinpath("docs", "json.md").read_text()
ASK = ("--size", "60k", "--budget", "10tpp")
DRAWS = 60
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`scalegrow gamma` in a folder of its own: the exit code, what it printed and what it complained of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scalegrow.cli.gamma.fit_gamma", partial(fit_gamma, draws=DRAWS))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scalegrow", "gamma", *arguments])
        code = _run()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """A small study on disk."""
    study(MILD, 0.004, sizes=SIZES[:2], budgets=BUDGETS[:2]).write_parquet(tmp_path / "runs.parquet")
    return "runs.parquet"


@pytest.fixture
def law(tmp_path: Path) -> str:
    """A law on disk, known without doubt."""
    write_document(tmp_path / "law.json", SCHEMA, law_of(MILD).to_data())
    return "law.json"


def refused(done: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    code, out, said = done
    assert (code, out) == (2, "")
    assert said.startswith("scalegrow: ")
    assert said.count("\n") == 1
    return said


def test_a_table_with_advice(command: Command, runs: str) -> None:
    code, out, said = command(*ASK, "--runs", runs)
    assert (code, said) == (0, "")
    for words in ("gamma", "best gamma", "loss there - loss at 0.5", "no worse than 0.5 up to", "Advice: --set"):
        assert words in out
    assert "42 runs on simulated" in out
    assert "lies inside the fitted range" in out
    assert [line.split()[0] for line in out.splitlines()[3:16]] == [f"{0.3 + i / 10:.1f}" for i in range(13)]


def test_json_has_the_documented_fields(command: Command, runs: str) -> None:
    code, out, _ = command(*ASK, "--runs", runs, "--json")
    data = json.loads(out)
    page = DOCUMENTED.split("## scalegrow-gamma/1", 1)[1].split("\n## ", 1)[0]
    assert (code, data["schema"]) == (0, "scalegrow-gamma/1")
    for field in (*data, *data["law"], *data["curve"][0]):
        assert field == "schema" or field in page, field
    for name in ("best", "gain", "critical"):
        low, high = data[name]["interval"]
        assert low <= data[name]["value"] <= high
    assert (data["n_params"], data["tokens_per_param"], data["level"]) == (60_000, 10, 0.95)
    assert data["times_outside"] == {"parameters": 1, "tokens per parameter": 1}
    assert data["gamma_eps"] == epsilon_gamma(1e-5, shape_for(6e4).d_model)
    assert data["law"]["runs"] == 42
    standard = next(point for point in data["curve"] if point["gamma"] == pytest.approx(0.5))
    assert [standard["change"], *standard["interval"]] == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize(("plateau", "agrees"), [(0.0, True), (0.3, False)])
def test_what_the_largest_gamma_does_to_the_best_is_told(
    plateau: float, agrees: bool, command: Command, tmp_path: Path
) -> None:
    """Negative control: where losses at the largest gamma follow the curve, leaving them out changes little."""
    runs = study(MILD, 0.004, sizes=SIZES[:2], budgets=BUDGETS[:2])
    largest = runs["gamma"].max()
    lifted = runs.with_columns(
        loss=pl.col("loss") + pl.when(pl.col("gamma") == largest).then(plateau).otherwise(0)
    )
    lifted.write_parquet(tmp_path / "table.parquet")
    asked = (*ASK, "--runs", "table.parquet")
    told = json.loads(command(*asked, "--json")[1])["without_largest"]
    assert (told["cut"], told["agrees"]) == (largest, agrees)
    assert (f"give --where gamma={told['left'][0]:g}," in " ".join(command(*asked)[1].split())) is not agrees


def test_one_seed_is_said_and_copies_are_refused(command: Command, tmp_path: Path) -> None:
    runs = study(MILD, 0.004, sizes=SIZES[:2], budgets=BUDGETS[:2])
    runs.filter(pl.col("seed") == 0).write_parquet(tmp_path / "one.parquet")
    assert command(*ASK, "--runs", "one.parquet")[2].startswith("note: all runs have one seed")
    copies = pl.concat([runs, runs.with_columns(run=pl.col("run") + " again")])
    copies.write_parquet(tmp_path / "copies.parquet")
    assert "was run more than once with seed 0" in refused(command(*ASK, "--runs", "copies.parquet"))


def test_the_budget_in_other_units_is_the_same_question(command: Command, law: str) -> None:
    answers = [
        command("--size", "60k", "--budget", text, "--law", law, "--json")[1] for text in ("10tpp", "0.5xC")
    ]
    answers.append(command("--size", "60k", "--budget", "600k tokens", "--law", law, "--json")[1])
    assert answers[0] == answers[1] == answers[2]


def test_a_law_that_was_kept_gives_the_same_answer(command: Command, runs: str) -> None:
    """To the digits kept: ten of every coefficient."""
    made = json.loads(command(*ASK, "--runs", runs, "--out", "mine.json", "--json")[1])
    again = json.loads(command(*ASK, "--law", "mine.json", "--json")[1])
    assert (made["law"].pop("name"), again["law"].pop("name")) == (runs, "mine.json")
    assert made["advice"] == again["advice"]
    for name in ("best", "gain", "critical"):
        both = [[each[name]["value"], *each[name]["interval"]] for each in (made, again)]
        assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_a_kept_law_has_the_documented_fields(command: Command, runs: str) -> None:
    command(*ASK, "--runs", runs, "--out", "mine.json")
    data = json.loads(Path("mine.json").read_text())
    page = DOCUMENTED.split("## scalegrow-gamma-law/1", 1)[1].split("\n## ", 1)[0]
    assert data["schema"] == SCHEMA
    for field in data:
        assert field == "schema" or field in page, field
    assert tuple(data["coefficients"]) == NAMES
    assert np.shape(data["draws"]) == (DRAWS, len(NAMES))


def test_infinity_is_null(command: Command, tmp_path: Path) -> None:
    """The last gamma measured is no worse than 0.5: there is no critical one."""
    write_document(tmp_path / "law.json", SCHEMA, law_of(np.array([1.2, 0, 0, -2, 0, 0, 0, 0.1])).to_data())
    assert json.loads(command(*ASK, "--law", "law.json", "--json")[1])["critical"] == {
        "value": None,
        "interval": [None, None],
    }
    assert "over 1.5  over 1.5 to over 1.5" in command(*ASK, "--law", "law.json")[1]


def test_strict_exits_with_3_outside_only(command: Command, law: str) -> None:
    assert command(*ASK, "--law", law, "--strict")[0] == 0
    for asked in (("--size", "1M", "--budget", "10tpp"), ("--size", "60k", "--budget", "100tpp")):
        code, out, _ = command(*asked, "--law", law, "--strict")
        assert code == 3
        assert "EXTRAPOLATES" in out
        assert "lies beyond what was measured" in out
        assert command(*asked, "--law", law)[0] == 0


def test_a_flat_curve_keeps_the_standard(command: Command, tmp_path: Path) -> None:
    study(FLAT, 0.004, sizes=SIZES[:2], budgets=BUDGETS[:2]).write_parquet(tmp_path / "flat.parquet")
    assert "Advice: keep 0.5" in command(*ASK, "--runs", "flat.parquet")[1]


def test_one_setting_is_kept_with_where(command: Command, runs: str) -> None:
    """The line says what to type; typed, it fits."""
    rows, gate = pl.read_parquet(runs), pl.col("seed").replace_strict({0: "none", 1: "headwise", 2: "none"})
    rows.with_columns(gate.alias("model.shape.gate")).write_parquet(runs)
    said = refused(command(*ASK, "--runs", runs, "--out", "mine.json"))
    assert "runs differ in model.shape.gate (headwise, none)" in said
    assert not Path("mine.json").exists()
    code, out, _ = command(*ASK, "--runs", runs, "--where", "model.shape.gate=none")
    assert code == 0
    assert "28 runs" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size", "0", "--budget", "10tpp"), "'0' is not a size"),
        (("--size", "-3", "--budget", "10tpp"), "'-3' is not a size"),
        (("--size", "1k", "--budget", "10tpp"), "1k parameters are off the ladder"),
        (("--size", "1e300", "--budget", "10tpp"), "tokens: give a smaller budget"),
        (("--size", "60k", "--budget", "10"), "names no unit"),
        (("--size", "60k", "--budget", "0tpp"), "is not a budget"),
        (("--size", "60k", "--budget", "1e-9tpp"), "1e-9tpp of 60k parameters is less than one token"),
        ((*ASK, "--level", "95"), "95.0 is no interval level"),
        ((*ASK, "--level", "nan"), "nan is no interval level"),
        ((*ASK, "--norm-eps", "0"), "norm_eps = 0.0 is out of range"),
        ((*ASK, "--norm-eps", "nan"), "norm_eps = nan is out of range"),
        ((*ASK, "--norm-eps", "1"), "norm_eps = 1.0 is out of range"),
        ((*ASK, "--where", "lr=1"), "no row has lr = 1"),
        ((*ASK, "--where", "lr"), "--where lr is not understood"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(
    command: Command, runs: str, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(command(*arguments, "--runs", runs, "--out", "mine.json"))
    assert sorted(path.name for path in Path.cwd().iterdir()) == [runs]


def test_out_and_where_need_runs(command: Command, law: str) -> None:
    for option in (("--out", "mine.json"), ("--where", "lr=0.005")):
        assert "give the runs to fit as --runs TABLE" in refused(command(*ASK, "--law", law, *option))


@pytest.mark.parametrize("out", ["nowhere/mine.json", "runs.parquet/mine.json", "folder"])
def test_a_place_that_cannot_be_written_is_one_line(command: Command, runs: str, out: str) -> None:
    Path("folder").mkdir()
    assert "cannot be written" in refused(command(*ASK, "--runs", runs, "--out", out))
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["folder", runs]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop("gamma"), "the table has no column 'gamma'"),
        (lambda rows: rows.drop("loss"), "has no column 'loss'"),
        (lambda rows: rows.filter(pl.col("gamma") < 1), "4 different gammas"),
        (lambda rows: rows.with_columns(data=pl.col("seed").cast(pl.String)), "losses on other data"),
        (lambda rows: rows.with_columns(gamma=pl.lit("small")), "holds more than numbers"),
        (lambda rows: rows.filter(pl.col("n_params") == 3e4, pl.col("seed") == 0), "7 runs cannot determine 6"),
    ],
)
def test_tables_that_tell_no_curve_are_one_line(command: Command, runs: str, change: Callable, said: str) -> None:
    change(pl.read_parquet(runs)).write_parquet(runs)
    assert said in refused(command(*ASK, "--runs", runs))


def test_a_csv_without_seeds_or_names_of_runs_is_fitted(command: Command, runs: str) -> None:
    """A table of one's own: every row a run, and what shares size and budget shares its loss at the best gamma."""
    rows = pl.read_parquet(runs).filter(pl.col("seed") == 0)
    rows.select("n_params", "tokens", "loss", "gamma", "annealed").write_csv("mine.csv")
    code, out, _ = command(*ASK, "--runs", "mine.csv")
    assert code == 0
    assert "28 runs on unnamed data" in out


# Laws from disk


def damaged(**changes: object) -> str:
    return json.dumps({"schema": SCHEMA, **law_of(MILD).to_data(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "{}",
        "\x00\x01",
        "[" * 100_000,
        '{"schema": "scalegrow-fit/1"}',
        f'{{"schema": "{SCHEMA}"}}',
        damaged()[:-40],
        damaged(draws=[]),
        damaged(draws=[[1.0] * 7]),
        damaged(draws=[[1.0] * 8, [1.0] * 7]),
        damaged(draws=[["a"] * 8]),
        damaged(draws=[[float("nan")] * 8]),
        damaged(draws=[[1e300] * 8]),
        damaged(coefficients={"g0": 1.0}),
        damaged(coefficients=[1.0] * 8),
        damaged(middle=[0, 10]),
        damaged(middle=[6e4]),
        damaged(gammas=[1.5, 0.3]),
        damaged(gammas=[0.3, 1e9]),
        damaged(gammas=None),
        damaged(domain={}),
        damaged(domain={"N": [3e4, 6e4]}),
        damaged(domain={"N": [3e4, 6e4], "tpp": [5, 20], "colour": [1, 2]}),
        damaged(domain={"N": [6e4, 3e4], "tpp": [5, 20]}),
        damaged(domain=[3e4, 6e4]),
        damaged(noise=float("nan")),
        damaged(noise=None),
        damaged(runs=float("inf")),
    ],
)
def test_damaged_and_foreign_files_are_one_line(command: Command, tmp_path: Path, text: str) -> None:
    tmp_path.joinpath("law.json").write_text(text)
    said = refused(command(*ASK, "--law", "law.json"))
    assert "law.json" in said
    assert "make one with 'scalegrow gamma --runs TABLE --out FILE'" in said


def test_a_law_that_is_not_there_is_one_line(command: Command) -> None:
    assert "none.json cannot be opened" in refused(command(*ASK, "--law", "none.json"))
    Path("folder").mkdir()
    assert "folder cannot be opened" in refused(command(*ASK, "--law", "folder"))


def test_shipped_laws_are_known_by_name(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, law: str
) -> None:
    monkeypatch.setattr(shipped, "DATA", tmp_path)
    assert refused(command(*ASK, "--law", "novels")).endswith("comes with scalegrow: give a path.\n")
    choices = tmp_path / "choices"
    choices.mkdir()
    for name in ("gamma_novels", "gamma_text", "selection"):
        choices.joinpath(f"{name}.json").write_text(Path(law).read_text())
    assert json.loads(command(*ASK, "--law", "novels", "--json")[1])["law"]["name"] == "novels"
    assert refused(command(*ASK, "--law", "novel")).endswith("give a path or one of novels, text.\n")
    assert shipped.shipped_choice("selection") == choices / "selection.json"


# Documents


@pytest.mark.parametrize(
    "data",
    [
        {"text": 'rows "],[" and ],[ in words', "rows": [[1.0, 2.0], [3.0, 4.0]]},
        {"empty": [], "nothing": None, "nested": {"rows": [[1], [2]], "more": {"],[": "],["}}},
        {"ragged": [[1], [], [2, 3]], "mixed": [[1], 2], "word": "größer ✓"},
    ],
)
def test_a_document_comes_back_as_it_went(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "it.json"
    write_document(path, "test/1", data)
    assert read_document(path, "test/1", "make another") == {"schema": "test/1", **data}


def test_a_document_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    write_document(path, "scalegrow-test/1", {"value": 1.0})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(path, "scalegrow-test/1", {"value": float("nan")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_s_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"loss": 1}')
    with pytest.raises(InputError, match="is there and holds something else: choose another place"):
        write_document(path, "test/1", {})
    assert path.read_text() == '{"loss": 1}'


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A link stays one, to the new document; a pipe stays a pipe."""
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "there.json")
    write_document(link, "scalegrow-test/1", {})
    assert link.is_symlink()
    assert (tmp_path / "there.json").is_file()
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="no regular file"):
        write_document(pipe, "scalegrow-test/1", {})
    assert pipe.is_fifo()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    write_document(path, "test/2", {})
    with pytest.raises(InputError, match="is not of schema test/1: make another"):
        read_document(path, "test/1", "make another")
