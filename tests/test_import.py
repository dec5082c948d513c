"""Logs of other trainers into the run table: what is written is read, and names say what they mean."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from importing import LOGS, WRITE, expected, imported, rows_of

from scalegrow.runs.importers.trainer_state import parameters_in
from scalegrow.runs.importers.words import rank_of_loss, says_params, says_tokens, told_by

PLACES = {
    "csv": ("table/runs.csv",),
    "parquet": ("table/runs.parquet",),
    "jsonl": ("table/runs.jsonl",),
    "wandb history": ("wandb_export/gpt-2M.csv", "wandb_export/gpt-8M.csv"),
    "trainer": ("trainer",),
    "trainer file": ("trainer/gpt-2M/checkpoint-2000", "trainer/gpt-8M/checkpoint-2000/trainer_state.json"),
    "lightning": ("lightning",),
    "wandb": ("wandb",),
    "mlflow folder": ("mlflow/mlruns",),
    "mlflow database": ("mlflow/mlflow.db",),
    "trackio": ("trackio",),
}
NEEDS = {"wandb": "wandb", "lightning": "yaml"}


@pytest.mark.parametrize("name", PLACES)
def test_what_was_written_is_read_bit_for_bit(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    table = imported(*(LOGS / place for place in PLACES[name]))
    assert rows_of(table) == sorted(expected("{}/version_0" if name == "lightning" else "{}"))
    exact = name not in ("wandb history", "trainer", "trainer file")  # these say 2M and 8M in names alone
    sizes = [run.n_params for run in WRITE.RUNS] if exact else [2e6, 8e6]
    assert sorted({*table["n_params"]}) == sizes


def test_event_files_hold_the_nearest_numbers_of_32_bits() -> None:
    pytest.importorskip("tensorboard")
    table = imported(LOGS / "tensorboard")
    nearest = [(run, tokens, pl.Series([loss], dtype=pl.Float32)[0], a) for run, tokens, loss, a in expected()]
    assert rows_of(table) == sorted(nearest)


def test_a_chart_of_several_runs_becomes_rows_of_runs() -> None:
    table = imported(LOGS / "wandb_export" / "chart.csv")
    assert rows_of(table) == sorted(expected())


@pytest.mark.parametrize(
    ("name", "library"),
    [("wandb", "wandb"), ("tensorboard", "tensorboard"), ("lightning", "lightning"), ("mlflow", "mlflow")],
)
@pytest.mark.slow
def test_what_the_installed_library_writes_is_read(name: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    subprocess.run([sys.executable, LOGS / "write.py", tmp_path, name], check=True, capture_output=True)
    place = tmp_path / name / "mlflow.db" if name == "mlflow" else tmp_path / name
    assert imported(place).height == len([*expected()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # of its own libraries
def test_mlflow_reads_the_same_of_its_store(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    database = tmp_path / "mlflow.db"
    database.write_bytes(LOGS.joinpath("mlflow", "mlflow.db").read_bytes())
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{database}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ladder"]
    for run in client.search_runs([experiment.experiment_id]):
        history = client.get_metric_history(run.info.run_id, "val/loss")
        ours = imported(database).filter(pl.col("run") == run.info.run_name).sort("tokens")
        assert [metric.value for metric in history] == ours["loss"].to_list()


# What names say


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("eval/loss", "train/loss"),
        ("val_loss", "loss"),
        ("eval_loss", "eval_loss_epoch"),
        ("val/loss", "test/loss"),
        ("validation/nll", "loss"),
        ("val_loss", "val/c4/loss"),
    ],
)
def test_a_held_out_loss_goes_before_others(better: str, worse: str) -> None:
    first, second = (rank_of_loss(name, bare_is_final=False) for name in (better, worse))
    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    "name", ["eval/perplexity", "val_bpb", "eval_loss_std", "router/z_loss", "accuracy", "entropy"]
)
def test_what_is_no_loss_in_nats_is_none(name: str) -> None:
    assert rank_of_loss(name, bare_is_final=True) is None


@pytest.mark.parametrize(
    "name", ["tokens", "train/num_input_tokens_seen", "tokens (B)", "consumed_tokens", "TokensSeen"]
)
def test_tokens_are_known_by_name(name: str) -> None:
    assert says_tokens(name)


@pytest.mark.parametrize("name", ["tokens_per_second", "tokens/step", "max_tokens", "base_tokens", "vocab_tokens"])
def test_other_tokens_are_not(name: str) -> None:
    assert not says_tokens(name)


def test_parameters_are_known_by_name() -> None:
    assert says_params("model/num_parameters") == "n_params"
    assert says_params("non_embedding_params") == "n_params_non_embedding"
    assert says_params("n_params_base") is None
    assert says_params("tokens_per_param") is None


def test_names_tell_sizes_and_tokens() -> None:
    told = told_by("pythia-160m_4B_tokens_v2")
    assert (told.n_params, told.tokens) == ({"160m": 160e6}, {"4B_tokens": 4e9})
    assert told_by("llama-1.3B-100BT").n_params == {"1.3B": 1.3e9}
    assert not told_by("run-7-seed3").n_params


def test_the_header_of_weights_tells_their_number() -> None:
    assert parameters_in(LOGS / "weights" / "model.safetensors") == 17
