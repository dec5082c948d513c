"""Growing checkpoints on disk: the function, the moments, the lineage, refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import Scalegrow
from safetensors.torch import load_file
from test_train import Stopper, assert_same_run
from training import TINY, records_of, tiny_config

from scalegrow.errors import InputError
from scalegrow.growth import widened_shape
from scalegrow.runs.collect import collect
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.operators import Arguments, plan
from scalegrow.train.policies import Policies
from scalegrow.train.restore import load_checkpoint
from scalegrow.train.run import train
from scalegrow.train.start import started_config

WIDE = widened_shape(TINY, 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-decay checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("base")
    train(tiny_config(), folder)
    return folder / "trunk" / "checkpoints" / "step_00000032"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("tile", WIDE),
        ("tile_noise", WIDE),
        ("split", WIDE),
        ("zero_pad", replace(WIDE, d_model=19, d_ff=50, n_layers=3)),
        ("zero_insert", replace(TINY, n_layers=5)),
        ("identity_insert", replace(TINY, n_layers=3)),
    ],
)
def test_exact_operators_keep_a_trained_checkpoint_s_function(
    base: Path, tmp_path: Path, name: str, target: object
) -> None:
    lineage = grow_checkpoint(base, tmp_path, plan(TINY, target, name), Policies("carry"), tmp_path)
    tokens = torch.arange(24).unsqueeze(0)
    with torch.no_grad():
        logits = [load_checkpoint(path)(tokens) for path in (base, tmp_path / "step_00000000")]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert abs(lineage["zero_step_kl"]) < 1e-8


@pytest.mark.parametrize("name", ["szp", "stack", "scratch"])
def test_others_report_how_far_they_are(base: Path, tmp_path: Path, name: str) -> None:
    target = replace(TINY, n_layers=4) if name == "stack" else WIDE
    lineage = grow_checkpoint(base, tmp_path, plan(TINY, target, name), Policies(), tmp_path)
    assert lineage["zero_step_kl"] > 1e-4


def test_the_lineage_says_where_it_comes_from(base: Path, tmp_path: Path) -> None:
    lineage = grow_checkpoint(base, tmp_path, plan(TINY, WIDE, "tile"), Policies("carry"), tmp_path)
    state = json.loads((tmp_path / "step_00000000" / "state.json").read_text())
    parent = json.loads((base / "state.json").read_text())
    assert state["lineage"]["parent"]["sha256"] == parent["sha256"]
    assert (lineage["parent"]["step"], lineage["parent"]["tokens"]) == (32, 32 * 96)
    assert lineage["parent"]["flops"] == 6 * TINY.n_params * 32 * 96
    assert lineage["g_params"] == WIDE.n_params / TINY.n_params
    assert lineage["axes"]["d_model"] == {"from": 16, "to": 32, "source": [*range(16), *range(16)]}
    assert state["optimiser_step"] == 32, "moments are carried, so their counter is"
    assert state["config"]["model"]["shape"]["d_model"] == 32


def test_moments_are_carried_or_reset(base: Path, tmp_path: Path) -> None:
    growth = plan(TINY, WIDE, "tile")
    grow_checkpoint(base, tmp_path / "carry", growth, Policies("carry"), tmp_path)
    grow_checkpoint(base, tmp_path / "reset", growth, Policies("reset"), tmp_path)
    old = load_file(base / "optimiser.safetensors")
    carried = load_file(tmp_path / "carry" / "step_00000000" / "optimiser.safetensors")
    name = "exp_avg_sq.model.embed_tokens.weight"
    torch.testing.assert_close(carried[name], old[name].repeat(1, 2) / 4)
    assert not load_file(tmp_path / "reset" / "step_00000000" / "optimiser.safetensors")
    with pytest.raises(InputError, match="is no policy: choose auto, carry"):
        grow_checkpoint(base, tmp_path / "other", growth, Policies("keep"), tmp_path)


def test_nothing_is_overwritten_and_nothing_half_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scalegrow.train import state

    growth = plan(TINY, WIDE, "tile")
    with monkeypatch.context() as patched:
        patched.setattr(state, "file_hash", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            grow_checkpoint(base, tmp_path, growth, Policies("carry"), tmp_path)
    assert not list(tmp_path.iterdir())
    grow_checkpoint(base, tmp_path, growth, Policies("carry"), tmp_path)
    with pytest.raises(InputError, match="is there already"):
        grow_checkpoint(base, tmp_path, growth, Policies("carry"), tmp_path)


def test_a_deeper_target_keeps_what_is_there(inside: Scalegrow, base: Path, tmp_path: Path) -> None:
    """Where nothing widens no operator of width is at work, unless it was asked for: szp shrinks at any width."""
    deeper = ("grow", str(base), "--layers", "4", "--depth-operator", "zero_insert", "--json")
    kept = json.loads(inside(*deeper, "--out", "kept", cwd=tmp_path).stdout)
    assert kept["operator"] == "zero_pad"
    assert kept["zero_step_kl"] == pytest.approx(0, abs=1e-9)
    shrunk = json.loads(inside(*deeper, "--operator", "szp", "--out", "shrunk", cwd=tmp_path).stdout)
    assert shrunk["zero_step_kl"] > 1e-3


def test_the_command_grows_and_says_what_it_did(inside: Scalegrow, base: Path, tmp_path: Path) -> None:
    done = inside("grow", str(base), "--out", "grown", "--operator", "zero_pad", "--width", "1.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "zero-step KL" in done.stdout
    again = inside("grow", str(base), "--out", "more", "--width", "2", "--layers", "4", "--json", cwd=tmp_path)
    lineage = json.loads(again.stdout)
    assert lineage["schema"] == "scalegrow-grow/1"
    assert (lineage["operator"], lineage["depth_operator"], lineage["layers"]) == ("szp", "stack", [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "how large?"),
        (("--factor", "2", "--width", "2"), "--factor decides"),
        (("--operator", "tile", "--width", "1.5"), "no whole factor"),
        (("--operator", "tyle", "--width", "2"), "did you mean tile"),
        (("--width", "0.5"), "never shrinks"),
        (("--width", "nan"), "out of range"),
        (("--width", "10000"), "needs about"),
        (("--layers", "1000000000"), "out of range"),
        (("--to", "d_ff=100000000000000"), "out of range"),
        (("--to", "d_ff"), "write NAME=VALUE"),
        (("--to", "context=12"), "differ in context"),
        (("--width", "1"), "the target is the base"),
        (("--width", "2", "--seed", "-1"), "from 0 to 2^63"),
        (("--width", "2", "--noise", "1e30"), "relative std"),
        (("--layers", "1"), "never shrinks"),
        (("--width", "2", "--shrink", "3"), "from 0 to 1"),
        (("--width", "2", "--moments", "keep"), "is no policy: choose auto, carry"),
        (("--width", "2", "--depth-operator", "szp"), "does not add layers"),
    ],
)
def test_bad_input_is_one_line(
    inside: Scalegrow, base: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = inside("grow", str(base), "--out", "grown", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "grown").exists()


def test_a_grown_checkpoint_trains_on(base: Path, tmp_path: Path) -> None:
    """From the base's loss, by its recipe; the run table knows where it comes from; a stop changes nothing."""
    grow_checkpoint(base, tmp_path / "grown", plan(TINY, WIDE, "tile_noise"), Policies("carry"), tmp_path)
    config = started_config(
        tmp_path / "grown" / "step_00000000",
        ("1920 tokens",),
        {"checkpoint_seconds": 1e-9, "schedule.warmup": "480 tokens", "batch": 4},
    )
    train(config, tmp_path / "whole")
    with pytest.raises(MemoryError):
        train(config, tmp_path / "stopped", watchers=(Stopper(3),))
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped", ("trunk", "1920_tokens"))
    (row,) = collect(tmp_path / "whole").filter("annealed").to_dicts()
    assert (row["operator"], row["base_params"], row["base_tokens"]) == ("tile_noise", TINY.n_params, 32 * 96)
    assert row["growth_factor"] == pytest.approx(WIDE.n_params / TINY.n_params)
    assert row["base"] == tiny_config().digest()
    assert (config.start.moments, config.start.depth_operator) == ("carry", "zero_insert")
    first = records_of(tmp_path / "whole", "trunk")[0]["loss"]
    last = [record["loss"] for record in records_of(base.parents[2], "trunk") if "loss" in record][-1]
    assert first == pytest.approx(last, rel=0.15), "it goes on from the base's loss, not from the first weights'"


def test_a_start_that_changed_is_refused(base: Path, tmp_path: Path) -> None:
    for name, seed in (("grown", 0), ("other", 1)):
        growth = plan(TINY, WIDE, "szp", arguments=Arguments(seed=seed, shrink=0.4 + seed / 10))
        grow_checkpoint(base, tmp_path / name, growth, Policies("reset"), tmp_path)
    config = started_config(tmp_path / "grown" / "step_00000000", ("960 tokens",), {"batch": 4})
    shutil.rmtree(tmp_path / "grown")
    (tmp_path / "other").rename(tmp_path / "grown")
    with pytest.raises(InputError, match="other weights than this run began with"):
        train(config, tmp_path / "run")
    with pytest.raises(InputError, match="was not grown"):
        started_config(base, ("960 tokens",), {})


def test_the_command_trains_on(inside: Scalegrow, base: Path, tmp_path: Path) -> None:
    grown = inside("grow", str(base), "--out", "grown", "--operator", "zero_pad", "--width", "1.5", cwd=tmp_path)
    assert grown.returncode == 0, grown.stderr
    start = ("--start", "grown/step_00000000")
    done = inside("train", *start, "--budget", "1tpp", "--out", "run", "--set", "batch=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = inside("train", *start, "--size", "20k", cwd=tmp_path)
    assert "leave that out beside --start" in refused.stderr


def test_the_new_block_has_its_own_gamma(base: Path, tmp_path: Path) -> None:
    shape = tiny_config().model.shape
    target = widened_shape(shape, 2)
    grown = {}
    for gamma in (None, 0.5, 1.0):
        out = tmp_path / str(gamma)
        growth = plan(shape, target, "szp", arguments=Arguments(shrink=0.0, gamma=gamma))
        grow_checkpoint(base, out, growth, Policies(), tmp_path / "packed")
        grown[gamma] = load_file(out / "step_00000000" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(grown[None][name], grown[0.5][name])  # the base's
    ratio = grown[1.0][name] / grown[0.5][name]  # one draw, at d^-1 and d^-1/2
    assert torch.allclose(ratio, torch.full_like(ratio, target.d_model**-0.5))
