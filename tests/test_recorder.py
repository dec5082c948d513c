"""A log of any training loop: one line a loss, torn lines, restarts, and callbacks of other trainers."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scalegrow.errors import InputError
from scalegrow.runs import open_log
from scalegrow.runs.callbacks import trainer_callback
from scalegrow.runs.collect import collect


def losses(folder: Path) -> list[tuple[float, float, bool]]:
    return collect(folder).sort("tokens").select("tokens", "loss", "annealed").rows()


def test_what_a_loop_logs_is_a_run_table(tmp_path: Path) -> None:
    with open_log(tmp_path / "a", n_params=124e6, data="corpus", seed=3) as log:
        log.append(tokens=1e9, loss=0.1 + 0.2)
        log.append(tokens=2e9, loss=3.1, annealed=True, step=2000, lr=0.0)
    table = collect(tmp_path)
    assert losses(tmp_path) == [(1e9, 0.1 + 0.2, False), (2e9, 3.1, True)]
    assert table.select("run", "n_params", "operator", "data", "seed").row(0) == (
        "a",
        124e6,
        "scratch",
        "corpus",
        3,
    )


def test_a_grown_run_says_so_in_its_header(tmp_path: Path) -> None:
    grown = {"operator": "szp", "base": "a", "base_params": 1e8, "base_tokens": 2e9}
    with open_log(tmp_path / "b", n_params=2e8, **grown) as log:
        log.append(tokens=1e9, loss=3.0)
    assert collect(tmp_path).select("growth_factor", "base_tokens").row(0) == (2.0, 2e9)


def test_a_restart_cuts_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """The log of a run that was interrupted is that of one that was not."""
    for name, sessions in {"whole": [(1, 2, 3)], "cut": [(1, 2), (2, 3)], "torn": [(1,), (2, 3)]}.items():
        for session in sessions:
            with open_log(tmp_path / name, n_params=1e8, run="r") as log:
                for tokens in session:
                    log.append(tokens=tokens * 1e9, loss=5.0 - tokens)
            if name == "torn" and session == (1,):
                with (tmp_path / name / "log.jsonl").open("a") as file:
                    file.write('{"tokens":2000000000.0,"heldo')
    whole = (tmp_path / "whole" / "log.jsonl").read_bytes()
    assert (tmp_path / "cut" / "log.jsonl").read_bytes() == whole
    assert (tmp_path / "torn" / "log.jsonl").read_bytes() == whole


def test_a_log_killed_in_its_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a" / "log.jsonl"
    path.parent.mkdir()
    path.write_text('{"scalegrow_lo')
    with open_log(path.parent, n_params=1e8) as log:
        log.append(tokens=1e9, loss=3.0)
    assert losses(tmp_path) == [(1e9, 3.0, False)]


def test_what_contradicts_the_log_is_refused(tmp_path: Path) -> None:
    with open_log(tmp_path, n_params=1e8) as log:
        log.append(tokens=2e9, loss=3.0)
        with pytest.raises(InputError, match="log each count once"):
            log.append(tokens=2e9, loss=3.0)
    with pytest.raises(InputError, match="choose another folder"):
        open_log(tmp_path, n_params=2e8)
    with pytest.raises(InputError, match="no column"):
        open_log(tmp_path / "b", n_params=2e8, annealed=True)


def test_a_loop_loads_no_torch_to_append(tmp_path: Path) -> None:
    """And to be imported not even tables."""
    program = (
        "import sys; from scalegrow.runs import open_log; assert not {'polars', 'numpy'} & {*sys.modules}\n"
        f"open_log({str(tmp_path)!r}, n_params=1e6).append(tokens=1e6, loss=4.0)\n"
        "assert not {'torch', 'scipy', 'statsmodels', 'altair'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert collect(tmp_path)["loss"].to_list() == [4.0]


def state(step: int, tokens: int = 0) -> SimpleNamespace:
    return SimpleNamespace(is_world_process_zero=True, global_step=step, max_steps=4, num_input_tokens_seen=tokens)


def test_the_trainer_callback_counts_what_the_trainer_counts(tmp_path: Path) -> None:
    callback = trainer_callback(tmp_path / "hf", n_params=1e8, decays=True)
    with pytest.raises(InputError, match="include_num_input_tokens_seen"):
        callback.on_train_begin(SimpleNamespace(include_num_input_tokens_seen="no"), state(0), None)
    callback.on_train_begin(SimpleNamespace(include_num_input_tokens_seen="all"), state(0), None)
    for step, loss in ((0, 9.0), (2, 4.0), (4, 3.5), (4, 3.5)):  # before training, and once more after it
        callback.on_evaluate(None, state(step, step * 1000), None, {"eval_loss": loss})
    callback.on_evaluate(None, state(4, 4000), None, {"eval_other_loss": 1.0})
    assert losses(tmp_path) == [(2000.0, 4.0, False), (4000.0, 3.5, True)]


@pytest.mark.slow
def test_the_trainer_calls_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    items = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(16)]
    arguments = transformers.TrainingArguments(
        tmp_path / "out", max_steps=4, eval_strategy="steps", eval_steps=2, per_device_train_batch_size=2,
        report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    callback = trainer_callback(tmp_path / "log", n_params=1e4, decays=True, tokens_per_step=16)
    trainer = transformers.Trainer(
        transformers.LlamaForCausalLM(config),
        arguments,
        train_dataset=items,
        eval_dataset=items,
        callbacks=[callback],
    )
    trainer.train()
    logged = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert losses(tmp_path / "log") == [(32.0, logged[0], False), (64.0, logged[1], True)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # of its own libraries
def test_lightning_calls_it(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    import torch
    from lightning.pytorch import LightningModule, Trainer

    from scalegrow.runs.callbacks import lightning_callback

    class Line(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.layer(batch).square().mean()

        def validation_step(self, batch: torch.Tensor, _: int) -> None:
            self.log("val_loss", self.layer(batch).square().mean() + 1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2)
    callback = lightning_callback(tmp_path / "log", n_params=3, tokens_per_step=4, decays=True)
    trainer = Trainer(
        max_steps=4, val_check_interval=2, callbacks=[callback], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(Line(), data, data)
    assert [row[0::2] for row in losses(tmp_path / "log")] == [(8.0, False), (16.0, True)]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"tokens": math.inf, "loss": 3.0}, "tokens is inf"),
        ({"tokens": 1.0, "loss": math.nan}, "loss is nan"),
        ({"tokens": 1.0, "loss": "x"}, "loss is 'x'"),
        ({"tokens": 1.0, "loss": 3.0, "status": "finished"}, "status is the log's own"),
    ],
)
def test_what_would_spoil_a_log_is_refused_at_once(numbers: dict[str, Any], message: str, tmp_path: Path) -> None:
    with open_log(tmp_path / "a", n_params=1e6) as log:
        before = log.log.path.read_bytes()
        with pytest.raises(InputError, match=message):
            log.append(**numbers)
        assert log.log.path.read_bytes() == before
        log.append(tokens=np.int64(5), loss=np.float32(3.0), lr=np.float64(0.1))
    with pytest.raises(InputError, match="n_params is -1"):
        open_log(tmp_path / "b", n_params=-1)


def test_another_s_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("my own diary, no newline")
    with pytest.raises(InputError, match="is there and no log"):
        open_log(tmp_path, n_params=1e6)
    assert (tmp_path / "log.jsonl").read_text() == "my own diary, no newline"


def test_two_writers_do_not_share_a_log(tmp_path: Path) -> None:
    """The second is refused, of this process or another, and the first loses nothing."""
    open_too = f"from scalegrow.runs import open_log; open_log({str(tmp_path)!r}, n_params=1e6)"
    with open_log(tmp_path, n_params=1e6) as log:
        log.append(tokens=1e6, loss=4.0)
        with pytest.raises(InputError, match=r"log.jsonl is being written already"):
            open_log(tmp_path, n_params=1e6)
        other = subprocess.run([sys.executable, "-c", open_too], capture_output=True, text=True, check=False)
        assert "is being written already" in other.stderr
        log.append(tokens=2e6, loss=3.0)
    assert collect(tmp_path)["loss"].to_list() == [4.0, 3.0]
    subprocess.run([sys.executable, "-c", open_too], check=True)


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    log = open_log(tmp_path, n_params=1e6)
    log.append(tokens=1e6, loss=4.0)
    log.finish()
    with pytest.raises(InputError, match="is closed: open it again"):
        log.append(tokens=2e6, loss=3.0)


def test_truths_of_numpy_count_and_what_is_refused_cuts_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path, n_params=1e6) as log:
        for tokens in (1e6, 2e6, 3e6):
            log.append(tokens=tokens, loss=4.0)
    for wrong, message in (
        ({"annealed": "no"}, "True or False"),
        ({"step": 1.5}, "a whole number"),
        ({"lr": {1}}, "number"),
    ):
        with open_log(tmp_path, n_params=1e6) as log, pytest.raises(InputError, match=message):
            log.append(tokens=2e6, loss=3.5, **wrong)
    assert collect(tmp_path)["tokens"].to_list() == [1e6, 2e6, 3e6]
    with open_log(tmp_path, n_params=1e6) as log:
        log.append(tokens=2e6, loss=3.5, annealed=np.bool_(True), step=np.int64(7), flops=np.float32(8))
    assert collect(tmp_path).select("tokens", "annealed", "step").rows() == [(1e6, False, None), (2e6, True, 7)]


@pytest.mark.parametrize(
    "row",
    [
        {"operator": "szp"},
        {"base_params": "50M"},
        {"base_tokens": math.nan},
        {"seed": "x"},
        {"data": {"a", "b"}},
    ],
)
def test_a_row_that_no_table_could_hold_is_refused_before_training(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log.jsonl"):
        open_log(tmp_path, n_params=1e8, **row)
    assert not list(tmp_path.iterdir())


def test_the_last_evaluation_is_not_replaced_by_one_of_other_data(tmp_path: Path) -> None:
    """Trainer.evaluate(test_set) gives its loss the same name."""
    callback = trainer_callback(tmp_path, n_params=1e6, decays=True, tokens_per_step=1000)
    state = SimpleNamespace(is_world_process_zero=True, global_step=100, max_steps=100)
    for loss in (3.0, 9.9):
        callback.on_evaluate(None, state, None, {"eval_loss": loss})
    assert collect(tmp_path)["loss"].to_list() == [3.0]


def test_runs_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_log(tmp_path / name, n_params=1e6) as log:
            log.append(tokens=1e6, loss=4.0)
    assert collect(tmp_path)["folder"].to_list() == ["a", "b"]
