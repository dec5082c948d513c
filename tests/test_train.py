"""Training end to end: one golden step, bitwise resume after any kill, branches, divergence, held-out losses."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training import TINY, records_of, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.config import Data, Decoder, Evaluation, Optimiser, RunConfig
from scalegrow.runs.log import read_header, status_of
from scalegrow.train.distributed import Ranks
from scalegrow.train.evaluate import evaluate, ratio
from scalegrow.train.loop import DivergedError
from scalegrow.train.restore import load_checkpoint
from scalegrow.train.run import train
from scalegrow.train.state import checkpoints
from scalegrow.train.stories import Grammar, Stories
from scalegrow.train.task import LanguageTask, task_for

STAGES = ("trunk", "1920_tokens", "3840_tokens")


def weights_of(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    """Weights and moments of a stage's last checkpoint."""
    last = checkpoints(folder / stage / "checkpoints")[-1]
    return load_file(last / "model.safetensors") | load_file(last / "optimiser.safetensors")


def assert_same_run(one: Path, other: Path, stages: tuple[str, ...] = STAGES) -> None:
    """Bit for bit: every record but the clock's, every weight and moment."""
    for stage in stages:
        assert records_of(one, stage) == records_of(other, stage)
        weights, others = weights_of(one, stage), weights_of(other, stage)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights), stage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(tiny_config(), folder)
    return folder


class Stopper:
    """A Watcher that stops the run after some records, as a crash would: no clean-up of ours runs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def start(self, stage: Any, header: dict[str, Any], step: int) -> None: ...

    def record(self, stage: Any, record: dict[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise MemoryError

    def end(self, stage: Any, status: str) -> None: ...


def test_one_golden_step(tmp_path: Path) -> None:
    """The first loss, the first gradient norm and the held-out loss after one step of a fixed run."""
    config = tiny_config(budgets=("96 tokens",), log_every=1, evaluation=Evaluation(16, 1))
    train(config, tmp_path)
    first, after, _ = records_of(tmp_path, "96_tokens")
    found = (first["loss"], first["gradient_norm"], after["heldout_loss"])
    assert found == pytest.approx((7.6391, 6.6156, 7.2879), abs=2e-3), (
        f"one step of the golden run now gives {found}. If you meant to change the model, its first weights, the "
        "story language, the optimiser or the schedule, check the change by the other tests and write the new "
        "numbers here; if you did not, something that decides training has changed without your knowledge."
    )


def test_a_run_leaves_logs_checkpoints_and_its_config(whole: Path) -> None:
    assert RunConfig.from_dict(json.loads((whole / "config.json").read_text())) == tiny_config()
    steps = {stage: [c.name for c in checkpoints(whole / stage / "checkpoints")] for stage in STAGES}
    assert steps["trunk"] == ["step_00000016", "step_00000032"], "pre-decay, one for each budget"
    assert steps["3840_tokens"] == ["step_00000040"], "post-decay"
    header = read_header(whole / "trunk" / "log.jsonl")
    assert header["counts"]["n_params"] == TINY.n_params
    assert header["data"]["entropy"] == pytest.approx(Stories(24).entropy)
    assert header["versions"]["torch"] == torch.__version__
    assert {status_of(whole / stage / "log.jsonl") for stage in STAGES} == {"finished"}
    last = records_of(whole, "3840_tokens")[-2]
    assert (last["step"], last["tokens"], last["annealed"]) == (40, 3840, True)
    assert last["flops"] == 6 * TINY.n_params * 3840
    assert last["heldout_loss"] - last["entropy"] == pytest.approx(last["excess"])
    assert set(last["tags"]) == {"trivial", "choice", "knowledge", "tracking", "composition"}


def test_the_same_run_again_changes_nothing(whole: Path, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path)
    assert_same_run(whole, tmp_path)
    before = (tmp_path / "trunk" / "log.jsonl").read_bytes()
    train(tiny_config(), tmp_path)
    assert (tmp_path / "trunk" / "log.jsonl").read_bytes() == before, "finished stages are skipped"


@pytest.mark.parametrize("after", [1, 5, 9, 14, 17, 21])
def test_a_run_stopped_anywhere_resumes_bit_for_bit(whole: Path, tmp_path: Path, after: int) -> None:
    """Checkpoints are written at every record here, so some resumes start mid-way between evaluations."""
    often = tiny_config(checkpoint_seconds=1e-9)
    with pytest.raises(MemoryError):
        train(often, tmp_path, watchers=(Stopper(after),))
    train(often, tmp_path)
    assert_same_run(whole, tmp_path)


def test_a_torn_log_line_and_a_half_checkpoint_do_no_harm(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        train(tiny_config(checkpoint_seconds=1e-9), tmp_path, watchers=(Stopper(7),))
    with (tmp_path / "trunk" / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "loss": 3.')
    half = tmp_path / "trunk" / "checkpoints" / "step_00000021.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"\0")
    train(tiny_config(checkpoint_seconds=1e-9), tmp_path)
    assert_same_run(whole, tmp_path)


def test_resuming_from_the_wrong_place_would_be_noticed(whole: Path, tmp_path: Path) -> None:
    """Negative control: continue from weights one bit off, and the runs differ."""
    often = tiny_config(checkpoint_seconds=1e-9)
    with pytest.raises(MemoryError):
        train(often, tmp_path, watchers=(Stopper(7),))
    last = checkpoints(tmp_path / "trunk" / "checkpoints")[-1]
    file = last / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="was changed since it was written"):
        train(often, tmp_path)
    facts = json.loads((last / "state.json").read_text())
    from scalegrow.train.hashes import file_hash

    facts["sha256"]["model.safetensors"] = file_hash(file)
    (last / "state.json").write_text(json.dumps(facts))
    train(often, tmp_path)
    with pytest.raises(AssertionError):
        assert_same_run(whole, tmp_path)


def run_in_background(folder: Path, config: RunConfig) -> subprocess.Popen[bytes]:
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom scalegrow.runs.config import RunConfig\n"
        "from scalegrow.train.run import train\n"
        "try: train(RunConfig.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    arguments = [sys.executable, "-c", program, json.dumps(config.to_dict()), str(folder)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE)


def wait_for(process: subprocess.Popen[bytes], log: Path, lines: int) -> None:
    """Until the log has this many lines, or the process ended."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if log.exists() and log.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)


LONGER = tiny_config(budgets=("9600 tokens",), checkpoint_seconds=0.02)


def test_sigkill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Killed again and again at moments that fall anywhere, the run ends as the uninterrupted one does."""
    train(LONGER, tmp_path / "whole")
    moments = iter((3, 8, 13, 19, 26, 33))
    killed = 0
    for lines in moments:
        with run_in_background(tmp_path / "killed", LONGER) as process:
            wait_for(process, tmp_path / "killed" / "trunk" / "log.jsonl", lines)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 3, "the kills came too late to prove anything"
    train(LONGER, tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed", ("trunk", "9600_tokens"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits(tmp_path: Path, number: signal.Signals) -> None:
    rarely = replace(LONGER, checkpoint_seconds=3600.0)
    log = tmp_path / "run" / "trunk" / "log.jsonl"
    with run_in_background(tmp_path / "run", rarely) as process:
        wait_for(process, log, 6)
        process.send_signal(number)
        assert process.wait() == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert status_of(log) == "interrupted"
    assert checkpoints(tmp_path / "run" / "trunk" / "checkpoints"), "saved although no checkpoint was due"
    train(rarely, tmp_path / "run")
    train(LONGER, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run", ("trunk", "9600_tokens"))


def test_branches_equal_runs_of_their_own(whole: Path, tmp_path: Path) -> None:
    """A budget that branches off the shared trunk is the run that budget would have been alone, bit for bit."""
    train(tiny_config(budgets=("1920 tokens",)), tmp_path)
    one, other = weights_of(tmp_path, "1920_tokens"), weights_of(whole, "1920_tokens")
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_trained_run_takes_further_budgets(whole: Path, tmp_path: Path) -> None:
    """One trunk, many budgets, also later: what is there stays, and the rest is what one call would have made."""
    train(tiny_config(budgets=("1920 tokens",)), tmp_path)
    before = (tmp_path / "1920_tokens" / "log.jsonl").read_bytes()
    train(tiny_config(), tmp_path)
    assert (tmp_path / "1920_tokens" / "log.jsonl").read_bytes() == before
    for stage in STAGES:
        one, other = weights_of(whole, stage), weights_of(tmp_path, stage)
        assert all(torch.equal(one[name], other[name]) for name in other)
    with pytest.raises(InputError, match=r"was trained to 1920 tokens too"):
        train(tiny_config(budgets=("3840 tokens",)), tmp_path)
    with pytest.raises(InputError, match="where no checkpoint was kept"):
        train(tiny_config(budgets=("1920 tokens", "2400 tokens", "3840 tokens")), tmp_path)


def test_dropout_resumes_bit_for_bit_too(tmp_path: Path) -> None:
    config = tiny_config(model=Decoder(TINY, dropout=0.2), checkpoint_seconds=1e-9)
    train(config, tmp_path / "whole")
    with pytest.raises(MemoryError):
        train(config, tmp_path / "stopped", watchers=(Stopper(6),))
    torch.manual_seed(999)
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_other_schedules_train_and_resume(tmp_path: Path, schedule: str) -> None:
    from scalegrow.runs.config import Schedule

    config = tiny_config(schedule=Schedule(schedule), checkpoint_seconds=1e-9)
    stages = tuple(stage.name for stage in train(config, tmp_path / "whole"))
    with pytest.raises(MemoryError):
        train(config, tmp_path / "stopped", watchers=(Stopper(4),))
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped", stages)


def test_a_network_learns_its_teacher(tmp_path: Path) -> None:
    """Dense networks take the same road: logs, checkpoints, resume, and an error above sigma^2 that falls."""
    config = tiny_network(budgets=("20k tokens",), batch=64, checkpoint_seconds=1e-9)
    with pytest.raises(MemoryError):
        train(config, tmp_path / "run", watchers=(Stopper(9),))
    train(config, tmp_path / "run")
    train(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run", ("trunk", "20k_tokens"))
    losses = [r["heldout_loss"] for r in records_of(tmp_path / "run", "trunk") if "heldout_loss" in r]
    final = [r for r in records_of(tmp_path / "run", "20k_tokens") if "heldout_loss" in r][-1]
    assert final["entropy"] == pytest.approx(0.01), "the noise's variance is the least loss"
    assert 0 < final["heldout_loss"] - 0.01 < 0.9 * (losses[0] - 0.01), "it learns, and not below the noise"


def test_a_diverging_run_stops_and_says_so(tmp_path: Path) -> None:
    config = tiny_config(optimiser=Optimiser(lr=1e30, clip=0.0))
    with pytest.raises(DivergedError, match="lower the learning rate"):
        train(config, tmp_path)
    assert status_of(tmp_path / "trunk" / "log.jsonl") == "diverged"
    assert not checkpoints(tmp_path / "trunk" / "checkpoints"), "a broken state is no checkpoint"
    with pytest.raises(DivergedError):
        train(config, tmp_path)


def test_a_folder_holds_one_run(whole: Path) -> None:
    with pytest.raises(InputError, match=r"another run \(it differs in seed\)"):
        train(tiny_config(seed=5), whole)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    long = tiny_config(budgets=("200k tokens",))
    with run_in_background(tmp_path, long) as process:
        wait_for(process, tmp_path / "trunk" / "log.jsonl", 2)
        with pytest.raises(InputError, match="another process trains"):
            train(long, tmp_path)
        process.kill()


def test_data_do_not_depend_on_the_model(tmp_path: Path) -> None:
    """Runs of other sizes and batches see the same sequences in the same order: comparisons are paired."""
    small, large = tiny_config(), with_shape(tiny_config(batch=8), d_model=32, n_heads=4)
    one, other = task_for(small, tmp_path), task_for(large, tmp_path)
    first = np.concatenate([one.batch(4 * step, 4).tokens for step in range(6)])
    assert np.array_equal(first, np.concatenate([other.batch(8 * step, 8).tokens for step in range(3)]))


def test_data_seed_changes_the_order_and_seed_does_not(tmp_path: Path) -> None:
    base = task_for(tiny_config(), tmp_path).batch(0, 8).tokens
    assert np.array_equal(task_for(tiny_config(seed=7), tmp_path).batch(0, 8).tokens, base)
    assert not np.array_equal(task_for(tiny_config(data=Data(seed=7)), tmp_path).batch(0, 8).tokens, base)


def test_the_standard_error_is_that_of_a_ratio() -> None:
    """Against 400 resampled means: the error of sum / count over sequences of unequal lengths."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, size=200).astype(float)
    sums = counts * rng.normal(3, 1, size=200)
    _, error = ratio(sums, counts)
    draws = [sums[i].sum() / counts[i].sum() for i in rng.integers(200, size=(2000, 200))]
    assert error == pytest.approx(np.std(draws), rel=0.1)


def test_an_evaluation_does_not_depend_on_its_batches(tmp_path: Path) -> None:
    config = tiny_config()
    task = task_for(config, tmp_path)
    model = task.build("cpu")
    one, other = (evaluate(task, model, 30, batch, "cpu", Ranks()) for batch in (7, 30))
    assert one["heldout_loss"] == pytest.approx(other["heldout_loss"], abs=1e-6)
    assert one["excess_se"] == pytest.approx(other["excess_se"], abs=1e-6)
    tags = one["tags"]
    total = sum(tag["share"] * tag["loss"] for tag in tags.values() if tag["share"])
    assert total == pytest.approx(one["heldout_loss"], abs=1e-9), "the tags' losses make up the whole"


def test_no_model_gets_below_the_entropy_by_more_than_noise(whole: Path) -> None:
    """Excess is a divergence: never below zero by more than its own error."""
    for stage in STAGES:
        for record in records_of(whole, stage):
            if "excess" in record:
                assert record["excess"] > -3 * record["excess_se"]


def test_a_model_that_knows_the_truth_has_no_excess() -> None:
    """Score the language by its own probabilities: excess is 0, and the loss is the entropy."""
    source = Stories(24, grammar=Grammar(n_facts=50))

    class Oracle(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            batch = source.heldout_batch(0, len(tokens))
            p = torch.from_numpy(np.exp(batch.log_p)).double()
            rest = ((1 - p) / 255).clamp_min(1e-30).log().unsqueeze(-1).repeat(1, 1, 256)
            return rest.scatter(-1, torch.from_numpy(batch.tokens[:, 1:]).unsqueeze(-1), p.log().unsqueeze(-1))

    task = LanguageTask(tiny_config(), source)
    found = evaluate(task, Oracle(), 64, 64, "cpu", Ranks())
    assert found["excess"] == pytest.approx(0, abs=1e-6)
    assert found["tags"]["knowledge"]["loss"] == pytest.approx(0, abs=1e-6)


def test_a_decoder_cannot_read_more_tokens_than_it_knows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set model.shape.vocab_size = 256"):
        task_for(with_shape(tiny_config(), vocab_size=100), tmp_path)
    with pytest.raises(InputError, match="regression"):
        task_for(tiny_config(data=Data("regression")), tmp_path)
    with pytest.raises(InputError, match="regression"):
        task_for(tiny_network(data=Data("stories")), tmp_path)


def test_a_run_stays_with_the_data_it_began_with(tmp_path: Path) -> None:
    """A text that changed under the same name is another run's data."""
    text, run = tmp_path / "text.txt", tmp_path / "run"
    pages = "\n\n".join(f"Page {i} of a book about {i * i}." for i in range(3000))
    text.write_text(pages)
    config = with_shape(tiny_config(data=Data(str(text), tokenizer="bytes")), vocab_size=257)
    with pytest.raises(MemoryError):
        train(config, run, watchers=(Stopper(3),), cache=tmp_path / "packed")
    text.write_text(pages.replace("book", "boot"))
    with pytest.raises(InputError, match="was begun on other data"):
        train(config, run, cache=tmp_path / "packed")
    text.write_text(pages)
    train(config, run, cache=tmp_path / "packed")


def test_a_damaged_pack_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Page {i} of a book about {i * i}." for i in range(3000)))
    config = with_shape(tiny_config(data=Data(str(text), tokenizer="bytes")), vocab_size=257)
    task_for(config, tmp_path / "packed")
    (pack,) = (tmp_path / "packed").iterdir()
    (pack / "train.bin").write_bytes(b"\0" * (pack / "train.bin").stat().st_size)
    with pytest.raises(InputError, match="changed since it was packed"):
        task_for(config, tmp_path / "packed")


def test_a_checkpoint_of_another_run_is_refused(whole: Path, tmp_path: Path) -> None:
    """Same shapes, same names, another seed or another step: not what this run had."""
    shutil.copytree(whole, tmp_path / "run")
    train(tiny_config(seed=5), tmp_path / "other")
    checkpoint = Path("trunk", "checkpoints", "step_00000032")
    for stage in ("3840_tokens", checkpoint):
        shutil.rmtree(tmp_path / "run" / stage)
    with pytest.raises(InputError, match=r"is gone: remove .*trunk to train it again"):
        train(tiny_config(), tmp_path / "run")
    shutil.copytree(tmp_path / "other" / checkpoint, tmp_path / "run" / checkpoint)
    with pytest.raises(InputError, match="belongs to another run"):
        train(tiny_config(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / checkpoint)
    shutil.copytree(tmp_path / "run" / checkpoint.with_name("step_00000016"), tmp_path / "run" / checkpoint)
    with pytest.raises(InputError, match=r"is of step 16: name the folder step_00000016"):
        train(tiny_config(), tmp_path / "run")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "step": "x"}', '{"format": 9}']
)
def test_a_damaged_state_is_refused(whole: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(whole / "trunk" / "checkpoints" / "step_00000032", tmp_path / "step_00000032")
    (tmp_path / "step_00000032" / "state.json").write_text(content)
    with pytest.raises(InputError, match="step_00000032"):
        load_checkpoint(tmp_path / "step_00000032")


def test_a_checkpoint_s_model_is_the_run_s(whole: Path) -> None:
    """Its held-out loss is the logged one."""
    model = load_checkpoint(whole / "3840_tokens" / "checkpoints" / "step_00000040")
    found = evaluate(task_for(tiny_config(), whole), model, 16, 16, "cpu", Ranks())
    logged = [record for record in records_of(whole, "3840_tokens") if "heldout_loss" in record][-1]
    assert found["heldout_loss"] == pytest.approx(logged["heldout_loss"], abs=1e-6)


@pytest.mark.parametrize("content", ["", "[1]", "{}", "\x00\xff"])
def test_a_damaged_config_is_refused(whole: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(InputError):
        train(tiny_config(), tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(InputError, match="without its config"):
        train(tiny_config(), tmp_path / "run")


def test_a_model_that_blows_up_in_its_last_step_is_no_checkpoint(tmp_path: Path) -> None:
    """The training loss is of the weights before the update; the update may still ruin them."""
    config = tiny_config(budgets=("96 tokens",), optimiser=Optimiser(lr=1e38, clip=0.0))
    with pytest.raises(DivergedError):
        train(config, tmp_path)
    assert status_of(tmp_path / "96_tokens" / "log.jsonl") == "diverged"
    assert not checkpoints(tmp_path / "96_tokens" / "checkpoints")


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scalegrow.train import state

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(state, "save_file", full)
        with pytest.raises(InputError, match=r"No space left on device.*free the disk"):
            train(tiny_config(), tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    train(tiny_config(), tmp_path)
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize(
    "change", [{"n_layers": 10**7}, {"d_ff": 10**12}, {"context": 10**9}, {"vocab_size": 10**12}]
)
def test_runs_that_no_memory_holds_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="GB"):
        train(with_shape(tiny_config(budgets=("20tpp",)), **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_works_in_a_thread(tmp_path: Path) -> None:
    """A notebook's or a server's: signals are the main thread's own."""
    thread = threading.Thread(target=train, args=(tiny_config(budgets=("96 tokens",)), tmp_path))
    thread.start()
    thread.join()
    assert status_of(tmp_path / "96_tokens" / "log.jsonl") == "finished"
