"""Run logs: append, cut, read; and folders of them as a run table."""

import json
import math
from pathlib import Path

import polars as pl
import pytest
from training import tiny_config

from scalegrow.errors import InputError
from scalegrow.laws.observations import Observations
from scalegrow.runs.collect import collect
from scalegrow.runs.log import RunLog, read_header, read_records, status_of
from scalegrow.runs.table import read_table
from scalegrow.train.run import train

ROW = {"run": "r1", "operator": "scratch", "n_params": 1000, "seed": 0}


def write_log(path: Path, records: list[dict[str, object]], **header: object) -> Path:
    log = RunLog.create(path, {"row": ROW, **header})
    for record in records:
        log.append(record)
    log.close()
    return path


def losses(*tokens: int) -> list[dict[str, object]]:
    return [
        {"step": i, "tokens": t, "heldout_loss": 3.0 - i / 10, "annealed": False} for i, t in enumerate(tokens)
    ]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", [{"step": 1, "loss": 2.5}, {"status": "finished"}])
    assert read_header(path)["row"] == ROW
    assert read_records(path) == [{"step": 1, "loss": 2.5}, {"status": "finished"}]
    assert status_of(path) == "finished"


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", [{"loss": math.nan, "tags": {"a": math.inf}}])
    assert read_records(path) == [{"loss": None, "tags": {"a": None}}]


def test_cutting_back_drops_what_came_later(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "log.jsonl", {"row": ROW})
    log.append({"step": 1})
    kept = log.sync()
    log.append({"step": 2})
    log.close()
    again = RunLog(log.path, keep_bytes=kept)
    again.append({"step": 3})
    again.close()
    assert [record["step"] for record in read_records(log.path)] == [1, 3]
    with pytest.raises(InputError, match="shorter than its checkpoint"):
        RunLog(log.path, keep_bytes=10**6)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", losses(10, 20))
    with path.open("a") as log:
        log.write('{"step": 9, "heldo')
    assert len(read_records(path)) == 2
    assert status_of(path) is None
    assert collect(tmp_path).height == 2


@pytest.mark.parametrize("content", ["", "no json\n", '{"step": 1}\n', '{"scalegrow_log": 99}\n', "[1]\n"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"log\.jsonl"):
        read_header(path)
    with pytest.raises(InputError):
        collect(tmp_path)


def test_a_folder_of_logs_is_a_run_table(tmp_path: Path) -> None:
    """A row for every held-out loss, trunk and branches under one run, and a law can be fitted to it."""
    train(tiny_config(), tmp_path / "one")
    train(tiny_config(seed=1), tmp_path / "two")
    table = read_table(tmp_path)
    assert table["run"].n_unique() == 2
    finals = table.filter("annealed")
    assert sorted(finals["tokens"].to_list()) == [1920.0, 1920.0, 3840.0, 3840.0]
    assert set(finals["stage"]) == {"1920_tokens", "3840_tokens"}
    assert (table["n_params"] == tiny_config().model.shape.n_params).all()
    assert finals["loss"].to_list() == pytest.approx((finals["entropy"] + finals["excess"]).to_list())
    assert {"loss_knowledge", "excess_composition", "gamma", "lr", "bits_per_byte"} <= set(table.columns)
    assert table["seed"].unique().sort().to_list() == [0, 1]
    from scalegrow.laws import form_named

    observations = Observations.from_table(finals, form_named("chinchilla", []))
    assert len(set(observations.run.tolist())) == 2, "branches of one trunk are one independent run"


def test_logs_of_other_trainers_need_a_row_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "a" / "log.jsonl", losses(10, 20, 30))
    table = collect(tmp_path)
    assert table["tokens"].to_list() == [10, 20, 30]
    assert table["flops"].to_list() == [6000.0 * t for t in (10, 20, 30)], "filled as in any run table"


def test_training_records_are_no_rows(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", [{"step": i, "tokens": i, "loss": 9.0} for i in range(1, 5)] + losses(10))
    assert collect(tmp_path)["loss"].to_list() == [3.0]


def test_a_log_is_never_replaced_unasked(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", losses(10))
    with pytest.raises(InputError, match="is there already"):
        RunLog.create(path, {"row": ROW})
    assert len(read_records(path)) == 1


def test_settings_in_which_runs_differ_become_columns(tmp_path: Path) -> None:
    """So that runs of two recipes can be told apart, and a fit on both is warned about."""
    from dataclasses import replace

    from scalegrow.runs.table import mixing_problems

    train(tiny_config(), tmp_path / "one")
    config = tiny_config(seed=1)
    train(replace(config, model=replace(config.model, norm_eps=1e-12)), tmp_path / "two")
    table = collect(tmp_path)
    assert set(table["model.norm_eps"]) == {"1e-05", "1e-12"}
    assert not any(column.startswith("data.") for column in table.columns)
    assert set(table["folder"]) == {"one", "two"}
    _, warnings = mixing_problems(table.filter("annealed"))
    assert warnings == ["runs differ in model.norm_eps: a law takes them for runs of one recipe."]


def test_losses_on_other_data_are_not_fitted_together(tmp_path: Path) -> None:
    """Nats per token of a story and square errors of a network have nothing in common."""
    from training import tiny_network

    from scalegrow.runs.table import refuse_mixing

    train(tiny_config(), tmp_path / "one")
    train(tiny_network(), tmp_path / "two")
    with pytest.raises(InputError, match="other data"):
        refuse_mixing(collect(tmp_path).filter("annealed"))


def test_other_programs_logs_are_passed_over(tmp_path: Path) -> None:
    write_log(tmp_path / "ours" / "log.jsonl", losses(10))
    foreign = tmp_path / "theirs" / "log.jsonl"
    foreign.parent.mkdir()
    foreign.write_text('{"epoch": 1}\n')
    assert collect(tmp_path).height == 1


def test_copies_of_one_run_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_log(tmp_path / name / "log.jsonl", losses(10), run="r1", stage="trunk")
    with pytest.raises(InputError, match="are copies of one run"):
        collect(tmp_path)


@pytest.mark.parametrize("tags", [5, [1, 2], [["a"]], ["a", "a"]])
def test_tags_are_different_names(tmp_path: Path, tags: object) -> None:
    write_log(tmp_path / "log.jsonl", losses(10), tags=tags)
    with pytest.raises(InputError, match="no list of different names"):
        collect(tmp_path)


@pytest.mark.parametrize(
    "row", [None, {}, {"n_params": "1M"}, {"n_params": -1}, {"n_params": True}, {"n_params": 10**41}]
)
def test_a_log_must_say_how_large_its_model_is(tmp_path: Path, row: object) -> None:
    log = RunLog.create(tmp_path / "log.jsonl", {"row": row})
    log.append(losses(10)[0])
    log.close()
    with pytest.raises(InputError, match=r"log\.jsonl: its header's .row. lacks n_params"):
        collect(tmp_path)


def test_a_loss_that_was_no_number_is_no_row(tmp_path: Path) -> None:
    broken = {**losses(10)[0], "heldout_loss": math.nan}
    write_log(tmp_path / "log.jsonl", [broken, *losses(20)])
    assert collect(tmp_path)["tokens"].to_list() == [20]


@pytest.mark.parametrize(
    ("records", "message"),
    [([], "hold no held-out loss yet"), ([{"step": 1, "tokens": 5, "loss": 1.0}], "no held-out loss yet")],
)
def test_logs_without_losses_are_refused(tmp_path: Path, records: list[dict[str, object]], message: str) -> None:
    write_log(tmp_path / "log.jsonl", records)
    with pytest.raises(InputError, match=message):
        collect(tmp_path)


def test_a_log_with_a_broken_line_is_named(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", losses(10))
    path.write_text(path.read_text() + "{broken\n" + json.dumps({"step": 2}) + "\n")
    with pytest.raises(InputError, match=r"log\.jsonl holds a line"):
        collect(tmp_path)


def test_an_empty_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run log"):
        collect(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        collect(tmp_path / "nothing")


def test_many_logs_concatenate_whatever_they_lack(tmp_path: Path) -> None:
    write_log(tmp_path / "a" / "log.jsonl", losses(10))
    tagged = {**losses(20)[0], "tags": {"trivial": {"loss": 0.5, "se": 0.1, "share": 0.2, "excess": 0.4}}}
    write_log(tmp_path / "b" / "log.jsonl", [tagged], tags=["trivial"])
    table = collect(tmp_path).sort("tokens")
    assert table["loss_trivial"].to_list() == [None, 0.5]
    assert table.schema["loss_trivial"] == pl.Float64()
