"""The command line as a user meets it: outputs, exit codes, and bad input in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scalegrow.runs.shipped import load_table

PREDICT = ("predict", "--base", "50M", "--factor", "2", "--budget", "20tpp")
ANNEALED = ("--rows", "annealed", "--fix", "E=0.402:1.305")
DIGITISED = "warmstart_2605_13405_digitised"


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scalegrow", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def ok(*arguments: str, cwd: Path | None = None) -> str:
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict_is_a_table_with_advice() -> None:
    out = ok(*PREDICT)
    for words in ("loss from scratch", "loss grown", "probability growing wins", "Advice:", "1.2e18"):
        assert words in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_predict_json_has_the_documented_fields() -> None:
    data = json.loads(ok(*PREDICT, "--json"))
    documented = Path(__file__).parents[1].joinpath("docs", "json.md").read_text()
    for field in data:
        assert field == "schema" or field in documented, field
    for field in (
        "loss_scratch",
        "loss_grown",
        "difference",
        "probability_growing_wins",
        "compute_saved",
        "break_even_budget",
        "largest_useful_factor",
        "best_factor",
    ):
        low, high = data[field]["interval"]
        assert low is None or high is None or low <= data[field]["value"] <= high
    assert data["question"]["growth_factor"] == pytest.approx(2, rel=0.02)
    assert data["question"]["tokens_per_param"] == 20
    assert data["extrapolation"]["inside"] is True
    assert isinstance(data["advice"], str)


@pytest.mark.parametrize("budget", ["2B tokens", "1.2e18 flops", "1xC", "20 tokens/param"])
def test_budgets_in_other_units_agree(budget: str) -> None:
    data = json.loads(ok("predict", "--base", "50M", "--factor", "2", "--budget", budget, "--json"))
    assert data["question"]["tokens_per_param"] == pytest.approx(20, rel=0.01)


def test_target_instead_of_factor() -> None:
    by_target = json.loads(ok("predict", "--base", "50M", "--target", "100M", "--budget", "20tpp", "--json"))
    assert by_target["difference"] == json.loads(ok(*PREDICT, "--json"))["difference"]


def test_strict_exits_with_3_outside_only() -> None:
    assert run(*PREDICT, "--strict").returncode == 0
    outside = run("predict", "--base", "7B", "--factor", "2", "--budget", "20tpp", "--strict")
    assert outside.returncode == 3
    assert "EXTRAPOLATES" in outside.stdout


def test_fit_writes_a_fit_that_predicts(tmp_path: Path) -> None:
    ok("fit", DIGITISED, *ANNEALED, "--no-calibrate", "--draws", "200", "--out", "mine.json", cwd=tmp_path)
    data = json.loads(ok(*PREDICT, "--fit", "mine.json", "--json", cwd=tmp_path))
    shipped = json.loads(ok(*PREDICT, "--json"))
    assert data["difference"]["value"] == pytest.approx(shipped["difference"]["value"], abs=1e-6)


def test_fit_json_reports_without_draws() -> None:
    data = json.loads(ok("fit", "chinchilla_epoch", "--drop-highest", "5", "--no-calibrate", "--json"))
    assert data["coefficients"]["E"] == pytest.approx(1.817218, abs=1e-6)
    assert data["status"] == "CONVERGED"
    assert "draws" not in data


def test_a_refused_fit_writes_nothing(tmp_path: Path) -> None:
    done = run("fit", DIGITISED, "--rows", "annealed", "--out", "bad.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "NOT_IDENTIFIED: E went to 0" in done.stderr
    assert "--fix" in done.stderr
    assert not list(tmp_path.iterdir())


def test_validate_prints_cells_and_json() -> None:
    arguments = ("validate", DIGITISED, *ANNEALED, "--scheme", "largest-out", "--draws", "200")
    assert "sign right 93%" in ok(*arguments)
    data = json.loads(ok(*arguments, "--json"))
    assert data["schemes"]["largest-out"]["summary"]["differences"]["cells"] == 15


def test_joint_fits_need_scratch_runs(tmp_path: Path) -> None:
    table = load_table(DIGITISED)
    table.filter((table["operator"] != "scratch") & table["annealed"]).write_csv(tmp_path / "grown.csv")
    done = run("fit", "grown.csv", "--fix", "E=0.8", cwd=tmp_path)
    assert done.returncode == 2
    assert "no run here is from scratch" in done.stderr


def test_laws_lists_every_form() -> None:
    from scalegrow.laws import LAWS

    out, data = ok("laws"), json.loads(ok("laws", "--json"))
    assert all(name in out for name in LAWS)
    assert [form["name"] for form in data["forms"]] == list(LAWS)
    assert data["published"]


def test_allocate() -> None:
    assert "tokens per parameter" in ok("allocate", "--budget", "1e21 flops")
    data = json.loads(ok("allocate", "--budget", "1e21 flops", "--json"))
    assert data["tpp"]["value"] == pytest.approx(21.4, abs=0.1)
    assert run("allocate", "--budget", "1e26 flops", "--strict").returncode == 3


HEADER = "n_params,tokens,loss\n"
TABLES = {
    "empty.csv": "",
    "header.csv": HEADER,
    "nan.csv": HEADER + "1e6,1e7,nan\n2e6,1e7,3.0\n",
    "negative.csv": HEADER + "1e6,1e7,-2\n2e6,1e7,3.0\n",
    "text.csv": HEADER + "1e6,1e7,low\n",
    "few.csv": HEADER + "1e6,1e7,4.0\n2e6,1e7,3.9\n",
    "columns.csv": "params,tokens,loss\n1e6,1e7,4.0\n",
    "growth.csv": "n_params,tokens,loss,operator,growth_factor,base_params,base_tokens\n1e6,1e7,3,szp,2,1e5,1e6\n",
    "binary.csv": "\x00\x01\x02",
    "table.xlsx": "PK",
    "broken.parquet": "PAR1",
    "fit.json": "{}",
}
BAD = [
    ("predict", "--base", "50X", "--factor", "2", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--factor", "2", "--budget", "20"),
    ("predict", "--base", "50M", "--factor", "0.5", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--factor", "nan", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--factor", "inf", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--factor", "two", "--budget", "20tpp"),
    ("predict", "--base", "50M", "--factor", "2"),
    (*PREDICT, "--no-such-option"),
    ("no-such-command",),
    ("predict", "--base", "50M", "--factor", "2", "--target", "100M", "--budget", "20tpp"),
    ("predict", "--base", "1e15", "--factor", "2", "--budget", "20tpp"),
    (*PREDICT, "--operator", "magic"),
    (*PREDICT, "--operator", "stack"),
    (*PREDICT, "--operator", "scratch"),
    (*PREDICT, "--base-cost", "free"),
    (*PREDICT, "--base-cost", "amortised:0"),
    (*PREDICT, "--base-budget", "lots"),
    (*PREDICT, "--level", "1.5"),
    (*PREDICT, "--fit", "nowhere.json"),
    (*PREDICT, "--fit", "nonesuch"),
    (*PREDICT, "--fit", "fit.json"),
    (*PREDICT, "--fit", "chinchilla"),
    ("predict", "--base", "50M", "--factor", "2", "--budget", "1tpp", "--base-cost", "paid"),
    ("fit", "nowhere.csv"),
    ("fit", "."),
    *(("fit", name) for name in TABLES),
    ("fit", DIGITISED, "--rows", "all"),
    ("fit", "chinchilla_epoch", "--law", "astrology"),
    ("fit", "chinchilla_epoch", "--law", "fading-capacity"),
    ("fit", "chinchilla_epoch", "--loss", "cubic"),
    ("fit", "chinchilla_epoch", "--delta", "-1"),
    ("fit", "chinchilla_epoch", "--fix", "E"),
    ("fit", "chinchilla_epoch", "--fix", "Q=1"),
    ("fit", "chinchilla_epoch", "--fix", "E=2:1"),
    ("fit", "chinchilla_epoch", "--fix", "E=-1"),
    ("fit", "chinchilla_epoch", "--rows", "best"),
    ("fit", "chinchilla_epoch", "--draws", "1"),
    ("fit", "chinchilla_epoch", "--drop-highest", "500"),
    ("fit", "chinchilla_epoch", "--resampling", "magic"),
    ("fit", "chinchilla_epoch", "--out", "no/such/folder.json"),
    ("fit", DIGITISED, "--rows", "annealed", "--law", "chinchilla"),
    ("fit", DIGITISED, "--rows", "annealed", "--law", "liew-kato-reuse"),
    ("fit", "chinchilla_epoch", "--law", "isoflop-parabola"),
    ("fit", "chinchilla_epoch", "--law", "hernandez-transfer"),
    ("validate", "chinchilla_epoch", "--scheme", "coin-toss"),
    ("allocate", "--budget", "20tpp"),
    ("allocate", "--budget", "0 flops"),
    ("allocate", "--budget", "1e21 flops", "--level", "0"),
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for name, text in TABLES.items():
        tmp_path.joinpath(name).write_text(text)
    before = sorted(tmp_path.iterdir())
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("scalegrow: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m scalegrow laws --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_every_command_and_option_has_help() -> None:
    import typer

    from scalegrow.cli.app import app

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_fit_json_has_an_interval_for_every_coefficient() -> None:
    data = json.loads(ok("fit", "stories_ladder", "--no-calibrate", "--draws", "50", "--level", "0.9", "--json"))
    assert data["level"] == 0.9
    assert data["intervals"].keys() == data["coefficients"].keys()
    assert all(low < data["coefficients"][name] < high for name, (low, high) in data["intervals"].items())


def test_a_table_with_mid_run_losses_is_fitted_by_its_annealed_ones_and_says_so() -> None:
    """As a folder of logs is; both kinds together only refused."""
    bare = run("fit", DIGITISED, "--fix", "E=0.402:1.305", "--no-calibrate", "--draws", "20")
    asked = run("fit", DIGITISED, *ANNEALED, "--no-calibrate", "--draws", "20")
    assert (bare.returncode, asked.returncode) == (0, 0), bare.stderr
    assert "using 54 annealed losses of 425; others with --rows" in bare.stderr
    assert bare.stdout == asked.stdout
