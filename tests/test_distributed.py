"""Two gloo ranks train as one process does: DDP and FSDP2, checkpoints and resume included."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import assert_same_run, weights_of
from training import records_of, tiny_config

from scalegrow.errors import InputError
from scalegrow.runs.config import Evaluation, Optimiser, RunConfig
from scalegrow.train.distributed import Ranks, start_ranks
from scalegrow.train.run import train

# A worker is what torchrun starts: it finds its rank in the environment.
WORKER = """
import json, sys
from pathlib import Path
import torch
from scalegrow.runs.config import RunConfig
from scalegrow.train.distributed import start_ranks
from scalegrow.train.run import train
ranks = start_ranks("cpu", sys.argv[3])
class Stopper:
    left = int(sys.argv[4])
    def start(self, *_): ...
    def record(self, *_):
        self.left -= 1
        if self.left == 0: raise SystemExit("stopped")
    def end(self, *_): ...
train(RunConfig.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), ranks, (Stopper(),))
torch.distributed.destroy_process_group()
"""
WATCHED = Evaluation(sequences=16, times=4, structure=True)
CONFIG = tiny_config(optimiser=Optimiser(weight_decay=0.1), evaluation=WATCHED, checkpoint_seconds=1e-9)
COMPARED = {"loss", "heldout_loss", "excess_se", "gradient_norm", "parameter_norm", "clusters", "rank", "sink"}


def run_ranks(folder: Path, config: RunConfig, sharding: str, port: int, stop: int = 0) -> list[int]:
    """Two ranks; their exit codes."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    arguments = [sys.executable, "-c", WORKER, json.dumps(config.to_dict()), str(folder), sharding, str(stop)]
    processes = [
        subprocess.Popen(
            arguments,
            env={**environment, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert stop or codes == [0, 0], errors
    return codes


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(CONFIG, folder)
    return folder


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_train_as_one_process(alone: Path, tmp_path: Path, sharding: str) -> None:
    """Same losses and weights within float error: only the order of sums differs, which steps then amplify."""
    run_ranks(tmp_path, CONFIG, sharding, 29611 + len(sharding))
    for stage in ("trunk", "1920_tokens", "3840_tokens"):
        one, other = records_of(alone, stage), records_of(tmp_path, stage)
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            for key in COMPARED & mine.keys():
                float_error = 1e-5 if mine["step"] < 10 else 2e-3
                assert theirs[key] == pytest.approx(mine[key], rel=float_error), (stage, mine["step"], key)
        weights, others = weights_of(alone, stage), weights_of(tmp_path, stage)
        assert weights.keys() == others.keys()
        for name in (name for name in weights if not name.startswith("exp_avg")):
            torch.testing.assert_close(others[name], weights[name], rtol=2e-3, atol=2e-3)


def test_sharded_ranks_resume_bit_for_bit(tmp_path: Path) -> None:
    """FSDP2 stopped in the middle and started again ends as FSDP2 that was not."""
    run_ranks(tmp_path / "whole", CONFIG, "fsdp", 29621)
    codes = run_ranks(tmp_path / "stopped", CONFIG, "fsdp", 29622, stop=9)
    assert codes != [0, 0]
    run_ranks(tmp_path / "stopped", CONFIG, "fsdp", 29623)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_one_process_goes_on_with_what_two_ranks_saved(alone: Path, tmp_path: Path) -> None:
    """A checkpoint knows nothing of the ranks that wrote it."""
    run_ranks(tmp_path, CONFIG, "fsdp", 29624, stop=9)
    train(CONFIG, tmp_path)
    final, same = (records_of(folder, "3840_tokens")[-2]["heldout_loss"] for folder in (alone, tmp_path))
    assert same == pytest.approx(final, rel=2e-4)


def test_a_batch_must_divide_among_the_ranks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose a multiple"):
        train(replace(CONFIG, batch=3), tmp_path, Ranks(0, 2))


def test_ranks_share_a_step_in_order() -> None:
    assert [Ranks(rank, 4).share(64, 16) for rank in range(4)] == [(64, 4), (68, 4), (72, 4), (76, 4)]


@pytest.mark.parametrize(("device", "sharding"), [("tpu", None), ("cpu", "zero")])
def test_unknown_places_are_refused(device: str, sharding: str | None) -> None:
    with pytest.raises(InputError, match="unknown"):
        start_ranks(device, sharding)
