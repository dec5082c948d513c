"""`scalegrow train` and `scalegrow collect` as a person uses them: recipes, summaries, refusals."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from commands import Scalegrow

from scalegrow.errors import InputError
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import Recipe, decoder_shape, parse_setting, per_step, read_recipe
from scalegrow.shape import network_shape

QUICK = ("--budget", "1tpp", "--set", "evaluation.sequences=16", "--set", "evaluation.times=2")
TEXT = "".join(f"Chapter {i}. The {w} dog saw {i} cats.\n\n" for i in range(2000) for w in ("old", "red"))


def scalegrow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scalegrow", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_a_run_ends_in_a_log_a_checkpoint_and_a_summary(tmp_path: Path) -> None:
    done = scalegrow("train", "--size", "20k", *QUICK, "--budget", "2tpp", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("loss, nats", "above entropy", "annealed", "knowledge", "logs and checkpoints in run"):
        assert word in done.stdout.replace("\n", " ") or word in " ".join(done.stdout.split()), word
    assert "the norm is exact" in done.stderr, "the epsilon diagnostic is printed at start"
    assert (tmp_path / "run" / "2tpp" / "log.jsonl").is_file()
    assert list((tmp_path / "run" / "2tpp" / "checkpoints").glob("step_*/model.safetensors"))
    table = scalegrow("collect", "run", "--out", "table.parquet", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    written = pl.read_parquet(tmp_path / "table.parquet")
    assert written.filter("annealed")["tokens"].len() == 2
    again = scalegrow("train", "--size", "20k", *QUICK, "--budget", "2tpp", "--out", "run", "--json", cwd=tmp_path)
    data = json.loads(again.stdout)
    assert data["schema"] == "scalegrow-train/1"
    assert [stage["stage"] for stage in data["stages"]] == ["trunk", "1tpp", "2tpp"]
    assert data["stages"][-1]["heldout_loss"] == pytest.approx(written.sort("step")["loss"][-1])
    assert RunConfig.from_dict(data["config"]).budgets == ("1tpp", "2tpp")


def test_any_text_can_be_trained_on(inside: Scalegrow, tmp_path: Path) -> None:
    """A file, once bytes and once BPE; bits per byte compare across them, and repeats are told."""
    (tmp_path / "text.txt").write_text(TEXT)
    for tokenizer in ("bytes", "bpe:300"):
        done = inside(
            *("train", "--size", "20k", "--budget", "200k tokens", *QUICK[2:], "--data", "text.txt"),
            *("--tokenizer", tokenizer, "--context", "32", "--cache", "cache", "--json"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        final = json.loads(done.stdout)["stages"][-1]
        assert 0 < final["bits_per_byte"] < 8
        windows = {"bytes": len(TEXT.encode()) / 32, "bpe:300": 0}[tokenizer]
        assert final["epochs"] == pytest.approx(200e3 / 32 / windows, rel=0.25) if windows else final["epochs"] > 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_network_trains_from_the_same_command(inside: Scalegrow, tmp_path: Path) -> None:
    done = inside("train", "--network", "--size", "2k", "--budget", "20tpp", "--out", "net", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mean sq. error" in done.stdout
    assert "above noise" in done.stdout


def test_a_recipe_in_toml_and_options_over_it(inside: Scalegrow, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        'size = "30k"\nbudgets = ["5tpp"]\n[settings]\nseed = 3\n[settings.optimiser]\nlr = 0.02\n'
    )
    recipe = read_recipe(tmp_path / "run.toml")
    assert (recipe.size, recipe.settings) == ("30k", {"seed": 3, "optimiser.lr": 0.02})
    done = inside("train", "--config", "run.toml", "--lr", "0.03", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = RunConfig.from_dict(json.loads(done.stdout)["config"])
    assert (config.seed, config.optimiser.lr, config.budgets) == (3, 0.03, ("5tpp",))
    assert not (tmp_path / "runs").exists(), "a dry run writes nothing"


REFUSED = {
    "how large?": (),
    "off the ladder": ("--size", "10"),
    "is not a size": ("--size", "big"),
    "names no unit": ("--size", "20k", "--budget", "20"),
    "do not ascend": ("--size", "20k", "--budget", "20tpp", "--budget", "5tpp"),
    "did you mean optimiser": ("--size", "20k", "--set", "optimizer.lr=0.1"),
    "did you mean lr": ("--size", "20k", "--set", "optimiser.rl=0.1"),
    "is not a number": ("--size", "20k", "--set", "optimiser.lr=fast"),
    "optimiser.lr = 0.0 is out of range": ("--size", "20k", "--lr", "0"),
    "init.gamma = -1.0 is out of range": ("--size", "20k", "--gamma", "-1"),
    "choose mup or standard": ("--size", "20k", "--parametrisation", "sp"),
    "choose wsd or cosine or constant": ("--size", "20k", "--schedule", "linear"),
    "write NAME=VALUE": ("--size", "20k", "--set", "seed"),
    "context=0": ("--size", "20k", "--context", "0"),
    "batch = 0": ("--size", "20k", "--set", "batch=0"),
    "nothing.txt": ("--size", "20k", "--data", "nothing.txt"),
    "tokenizer 'words'": ("--size", "20k", "--data", "text.txt", "--tokenizer", "words"),
    "no CUDA device": ("--size", "20k", "--device", "cuda"),
    "device 'tpu'": ("--size", "20k", "--device", "tpu"),
    "tracker 'paper'": ("--size", "20k", "--track", "paper"),
    "--threads 0 on": ("--size", "20k", "--threads", "0"),
    "none.toml cannot be opened": ("--config", "none.toml"),
    "is no finite number": ("--size", "20k", "--set", "data.validation_fraction=nan"),
    "attention_multiplier = 0.0": ("--size", "20k", "--set", "parametrisation.attention_multiplier=0"),
    "data.seed = 18446744073709551616": ("--size", "20k", "--data-seed", "18446744073709551616"),
    "no setting 'n_heads'": ("--network", "--size", "2k", "--set", "model.shape.n_heads=2"),
    "has no context": ("--network", "--size", "2k", "--context", "5"),
    "--threads 100000 on": ("--size", "20k", "--threads", "100000"),
    "tokenizer 'bpe:²'": ("--size", "20k", "--data", "text.txt", "--tokenizer", "bpe:²"),
    "no multiple of n_kv_heads": ("--size", "20k", "--set", "model.shape.n_kv_heads=3"),
    "leave the data out": ("--network", "--size", "2k", "--data", "stories"),
    "cannot learn 'regression'": ("--size", "20k", "--data", "regression"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(inside: Scalegrow, tmp_path: Path, message: str) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    done = inside("train", *REFUSED[message], cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("scalegrow: "), done.stderr
    assert message in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("log.jsonl"))


def test_without_torch_the_next_step_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from scalegrow.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "train", "--size", "20k"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'scalegrow[train]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("size", [12e3, 60e3, 480e3, 2e6, 50e6])
def test_sizes_are_met_whatever_the_vocabulary(size: float) -> None:
    for vocab in (256, 257, 1024):
        if vocab * 16 < size / 2:
            shape = decoder_shape(size, vocab)
            assert shape.n_params == pytest.approx(size, rel=0.03)
            assert shape.vocab_size == vocab


@pytest.mark.parametrize("size", [300, 2e3, 1e5, 1e7])
def test_networks_meet_their_size(size: float) -> None:
    assert network_shape(size).n_params == pytest.approx(size, rel=0.15 if size < 1000 else 0.05)
    with pytest.raises(InputError, match="make no network"):
        network_shape(5)


def test_a_step_s_tokens_follow_the_size() -> None:
    """A run of 20 tokens per parameter makes 700 to 1500 steps, where limits do not bind."""
    for size in (30e3, 100e3, 1e6, 50e6):
        assert 700 <= 20 * size / per_step(size, 1) <= 1500
    assert per_step(1, 512) == 512


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=1", 1), ("a.b=0.5", 0.5), ("a.b=true", True), ("a.b=gamma:0.7", "gamma:0.7"), ("a.b='x'", "x")],
)
def test_settings_are_read_as_toml(text: str, value: object) -> None:
    assert parse_setting(text) == ("a.b", value)


def test_a_config_survives_json() -> None:
    for kind in ("decoder", "network"):
        config = Recipe("30k", kind=kind).config()
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))).digest() == config.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": "20tpp"}, "is no list"),
        ({"batch": "8"}, "is not a whole number"),
        ({"batch": True}, "is not a whole number"),
        ({"compiled": 1}, "is not true or false"),
        ({"model": 3}, "is not a table"),
        ({"precision": "int8"}, "choose float32 or bfloat16"),
    ],
)
def test_configs_of_the_wrong_type_are_refused(change: dict[str, object], message: str) -> None:
    plain = Recipe("30k").config().to_dict() | change
    with pytest.raises(InputError, match=message):
        RunConfig.from_dict(plain)


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_trackers_get_every_number(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against stand-ins with the packages' own call signatures."""
    from types import ModuleType, SimpleNamespace

    from training import tiny_config

    from scalegrow.train.run import train
    from scalegrow.train.trackers import tracker

    sent: list[tuple[str, object]] = []
    if name == "tensorboard":

        class SummaryWriter:
            def __init__(self, log_dir: Path) -> None: ...
            def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
                sent.append((tag, global_step))

            def close(self) -> None:
                sent.append(("closed", 0))

        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    else:
        module = ModuleType(name)
        module.init = lambda project, name, config: sent.append((name, config["seed"]))
        module.log = lambda metrics, step: sent.extend((key, step) for key in metrics)
        module.finish = lambda: sent.append(("closed", 0))
        monkeypatch.setitem(sys.modules, name, module)
    train(tiny_config(), tmp_path, watchers=(tracker(name, tmp_path),))
    assert ("heldout_loss", 40) in sent
    assert ("tags/knowledge", 40) in sent
    assert sum(tag == "closed" for tag, _ in sent) == 3, "one tracker run a stage"


def test_an_absent_tracker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalegrow.train.trackers import tracker

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        tracker("wandb", tmp_path)
