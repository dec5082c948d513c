"""A grown state shared by two FSDP2 ranks is the state of one process: weights, moments, ages, clipping."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training import TINY, records_of, tiny_config

from scalegrow.growth import widened_shape
from scalegrow.runs.config import Optimiser
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.operators import plan
from scalegrow.train.policies import Policies
from scalegrow.train.run import train
from scalegrow.train.start import started_config

# Each rank holds a shard: of the base, gathered and saved by all; then of what grew from that, gathered again.
WORKER = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from scalegrow.runs.config import RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.distributed import start_ranks
from scalegrow.growth import widened_shape
from scalegrow.train.interrupt import Interruption
from scalegrow.train.loop import Run, fresh_state
from scalegrow.train.operators import plan
from scalegrow.train.policies import Policies
from scalegrow.train.run import train
from scalegrow.train.start import started_config
from scalegrow.train.state import load, load_start, save, tensors_of
from scalegrow.train.task import task_for

config, settings = RunConfig.from_dict(json.loads(sys.argv[1])), json.loads(sys.argv[4])
base, out = Path(sys.argv[2]), Path(sys.argv[3])
ranks = start_ranks("cpu", "fsdp")
def sharded(config):
    return fresh_state(Run(config, task_for(config, out), out, {}, ranks, Interruption()))
state = sharded(config)
facts = load(state, base, "trunk", config)
told = {key: facts[key] for key in ("stage", "tokens", "config", "annealed", "log_bytes")}
again = save(state, out / "again", told, ranks)
shape = config.model.shape
if ranks.writes:
    growth = plan(shape, widened_shape(shape, 2), "asymmetric_reset")
    grow_checkpoint(again, out / "grown", growth, Policies(), out)
ranks.barrier()
start = started_config(out / "grown" / "step_00000000", ("960 tokens",), settings)
grown = sharded(start)
load_start(grown, start.start)
weights, moments = tensors_of(grown)
if ranks.writes:
    save_file({**weights, **moments}, out / "gathered.safetensors")
train(start, out / "run", ranks)
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("clip_mode", ["norm", "growth_invariant"])
def test_grown_under_two_ranks_equals_grown_on_one(tmp_path: Path, clip_mode: str) -> None:
    config = tiny_config(optimiser=Optimiser(clip=0.1, clip_mode=clip_mode))
    train(config, tmp_path / "base")
    base = tmp_path / "base" / "trunk" / "checkpoints" / "step_00000032"
    settings = {"batch": 4, "schedule.warmup": "480 tokens"}
    run_ranks(config.to_dict(), base, tmp_path / "two", settings, 29641 + len(clip_mode))
    growth = plan(TINY, widened_shape(TINY, 2), "asymmetric_reset")
    grow_checkpoint(base, tmp_path / "one", growth, Policies(), tmp_path)
    alone = tmp_path / "one" / "step_00000000"
    gathered = load_file(tmp_path / "two" / "gathered.safetensors")
    expected = load_file(alone / "model.safetensors") | load_file(alone / "optimiser.safetensors")
    assert gathered.keys() == expected.keys()
    assert all(torch.equal(gathered[name], expected[name]) for name in expected)
    train(started_config(alone, ("960 tokens",), settings), tmp_path / "alone")
    one, other = (records_of(tmp_path / folder, "trunk") for folder in ("alone", "two/run"))
    for mine, theirs in zip(one, other, strict=True):
        for key in {"loss", "gradient_norm", "heldout_loss"} & mine.keys():
            assert theirs[key] == pytest.approx(mine[key], rel=1e-5), (mine["step"], key)


def run_ranks(config: dict[str, object], base: Path, out: Path, settings: dict[str, object], port: int) -> None:
    arguments = [sys.executable, "-c", WORKER, json.dumps(config), str(base), str(out), json.dumps(settings)]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            arguments,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
