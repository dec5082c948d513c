"""Kinds of held-out tokens: exact on texts whose rule is known, as a plain count says, and told in the log."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training import records_of, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.collect import collect
from scalegrow.runs.config import Data, Evaluation, RunConfig
from scalegrow.runs.log import read_header
from scalegrow.train import token_groups as module
from scalegrow.train.run import train
from scalegrow.train.state import checkpoints
from scalegrow.train.task import task_for
from scalegrow.train.text import PackedText, pack, read_meta, split_tokens
from scalegrow.train.token_groups import (
    CONSTRAINED,
    GROUPS,
    OPEN,
    TRIVIAL,
    cached_groups,
    decided,
    grouped,
    occurrences,
    token_groups,
)

PAGES = "\n\n".join(f"Page {i} of a book about {i * i}, and of {i % 7} foxes." for i in range(3000))
STAGES = ("trunk", "1920_tokens", "3840_tokens")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack in bytes."""
    (tmp_path / "pages.txt").write_text(PAGES)
    return pack(str(tmp_path / "pages.txt"), tmp_path / "packs", tokenizer="bytes", validation_fraction=0.1)


def blocks(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """n blocks: a marker drawn from 4, three tokens that are always the same, and what the marker decides."""
    marker = np.random.default_rng(seed).integers(4, size=n)
    fixed = np.broadcast_to([10, 11, 12], (n, 3))
    return np.column_stack((marker, fixed, 20 + marker)).astype(np.uint16).ravel()


def echoes(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """n of 0, 1 and 2, unequally often, where every other one repeats what stood two places before."""
    rng = np.random.default_rng(seed)
    text = rng.choice(3, size=n, p=(0.6, 0.3, 0.1))
    for i in np.flatnonzero(rng.random(n) < 0.5):
        text[i] = text[max(i - 2, 0)]
    return text


def plain_groups(train: list[int], heldout: list[int], short: int, long: int) -> list[int]:
    """The definition, counted with tuples."""

    def is_decided(place: int, order: int) -> bool:
        context = tuple(heldout[place - order : place])
        after = Counter(train[i] for i in range(order, len(train)) if tuple(train[i - order : i]) == context)
        return place >= order and after.total() > 0 and after[heldout[place]] / after.total() >= 0.5

    return [
        TRIVIAL if is_decided(i, short) else CONSTRAINED if is_decided(i, long) else OPEN
        for i in range(len(heldout))
    ]


def test_a_text_whose_every_token_follows_from_the_one_before_is_trivial() -> None:
    text = np.tile(np.arange(5, dtype=np.uint16), 100)
    labels = token_groups(text, text[:50], (1, 3))
    assert labels[0] == OPEN, "nothing stands before the first token"
    assert (labels[1:] == TRIVIAL).all()


def test_what_only_the_longer_context_decides_is_constrained() -> None:
    """Four tokens back stands the marker: a context of 4 holds it, one of 3 does not."""
    train, heldout = blocks(4000, seed=0), blocks(500, seed=1)
    labels = token_groups(train, heldout, (1, 4)).reshape(-1, 5)
    assert (labels == [OPEN, TRIVIAL, TRIVIAL, TRIVIAL, CONSTRAINED]).all()
    shorter = token_groups(train, heldout, (1, 3)).reshape(-1, 5)
    assert (shorter == [OPEN, TRIVIAL, TRIVIAL, TRIVIAL, OPEN]).all()
    longer = token_groups(train, heldout, (4, 5)).reshape(-1, 5)
    assert (longer[1:] == [OPEN, TRIVIAL, TRIVIAL, TRIVIAL, TRIVIAL]).all()


def test_a_token_against_the_rule_is_open() -> None:
    train, heldout = blocks(4000, seed=0), blocks(500, seed=1)
    heldout[4::5] = 20 + (heldout[0::5] + 1) % 4
    assert (token_groups(train, heldout, (1, 4))[4::5] == OPEN).all()


def test_noise_is_open() -> None:
    rng = np.random.default_rng(0)
    train, heldout = (rng.integers(8, size=n).astype(np.uint16) for n in (100_000, 2000))
    assert (token_groups(train, heldout, (1, 3)) == OPEN).all()


def test_contexts_that_the_training_text_lacks_are_open() -> None:
    train = np.tile(np.arange(5, dtype=np.uint16), 100)
    assert (token_groups(train, train[:60] + np.uint16(5), (1, 3)) == OPEN).all()


def test_one_half_is_decided_and_less_is_not() -> None:
    """After 0 comes 1 in two of four places, 2 and 3 in one each; the last 0 is followed by nothing."""
    train = np.array([0, 1, 0, 1, 0, 2, 0, 3, 0], dtype=np.uint16)
    assert decided(train, np.array([0, 1, 0, 2], dtype=np.uint16), 1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("dtype", ["<u2", "<u4", np.int64])
@pytest.mark.parametrize("orders", [(1, 2), (1, 3), (2, 6)])
@pytest.mark.parametrize("chunk", [3, 7, 10_000])
def test_hashes_count_as_tuples_do(
    orders: tuple[int, int], chunk: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    values = np.array([0, 1, min(np.iinfo(np.dtype(dtype)).max, 2**31 - 1)])
    train, heldout = (values[echoes(n, seed=n)].astype(dtype) for n in (400, 200))
    found = token_groups(train, heldout, orders)
    assert found.tolist() == plain_groups(train.tolist(), heldout.tolist(), *orders)
    assert len({*found.tolist()}) == 3, "the text shows all three"


def test_every_run_is_counted_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = np.random.default_rng(0).integers(2, size=500).astype(np.uint16)
    whole = occurrences(text, text, 4)
    monkeypatch.setattr(module, "CHUNK", 11)
    assert (occurrences(text, text, 4) == whole).all()
    assert Counter(whole.tolist()).total() == len(text) - 3


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_texts_shorter_than_a_context_are_open(n: int) -> None:
    text = np.arange(n, dtype=np.uint16)
    assert token_groups(np.arange(50, dtype=np.uint16), text, (5, 6)).tolist() == [OPEN] * n
    assert token_groups(text, np.arange(50, dtype=np.uint16), (5, 6)).tolist() == [OPEN] * 50


@pytest.mark.parametrize("context", [8, 16, 33])
def test_a_window_s_tags_are_the_stream_s(folder: Path, context: int) -> None:
    """Target t of window i is token i T + t + 1 of the text, whatever T."""
    plain = PackedText.open(folder, context)
    text = grouped(plain)
    stream = cached_groups(folder, read_meta(folder))
    n = text.n_heldout_sequences
    assert n == plain.n_heldout_sequences
    assert text.tag_names == GROUPS
    batch = text.heldout_batch(0, n)
    assert batch.tags is not None
    assert (batch.tags.ravel() == stream[1 : n * context + 1]).all()
    assert (batch.tokens == plain.heldout_batch(0, n).tokens).all()
    part = text.heldout_batch(3, 5).tags
    assert part is not None
    assert (part == batch.tags[3:8]).all()


def test_training_batches_and_the_description_stay(folder: Path) -> None:
    plain = PackedText.open(folder, 16, seed=3)
    text = grouped(plain)
    assert text.train_batch(2, 5).tags is None
    assert (text.train_batch(2, 5).tokens == plain.train_batch(2, 5).tokens).all()
    assert text.describe() == plain.describe()


def test_all_three_occur_in_pages(folder: Path) -> None:
    assert {*cached_groups(folder, read_meta(folder)).tolist()} == {TRIVIAL, CONSTRAINED, OPEN}


def test_bytes_and_subwords_have_their_own_orders(folder: Path, tmp_path: Path) -> None:
    subwords = pack(str(tmp_path / "pages.txt"), tmp_path / "packs", "bpe:300", validation_fraction=0.1)
    for place, orders in ((folder, (2, 6)), (subwords, (1, 3))):
        meta = read_meta(place)
        train, heldout = (split_tokens(place, name, meta) for name in ("train", "validation"))
        assert (cached_groups(place, meta) == token_groups(train, heldout, orders)).all()


def test_only_the_first_tokens_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = read_meta(folder)
    train, heldout = (split_tokens(folder, name, meta) for name in ("train", "validation"))
    whole = cached_groups(folder, meta)
    monkeypatch.setattr(module, "COUNTED", 5000)
    assert (cached_groups(folder, meta) == token_groups(train[:5000], heldout, (2, 6))).all()
    assert not (cached_groups(folder, meta) == whole).all()


def test_the_held_out_set_ends_with_its_labels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LABELLED", 100)
    plain = PackedText.open(folder, 16)
    text = grouped(plain)
    assert text.n_heldout_sequences == 6
    with pytest.raises(InputError, match="there are 6"):
        text.heldout_batch(0, 7)
    assert text.describe() == plain.describe()


def test_labels_are_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_groups(folder, read_meta(folder))
    monkeypatch.setattr(module, "token_groups", None)
    assert (cached_groups(folder, read_meta(folder)) == first).all()


@pytest.mark.parametrize("damage", ["shorter", "longer", "changed", "empty"])
def test_damaged_labels_are_counted_again(folder: Path, damage: str) -> None:
    first = cached_groups(folder, read_meta(folder))
    (path,) = folder.glob("token-groups-*.bin")
    kept = path.read_bytes()
    damaged = {
        "shorter": kept[:-1],
        "longer": kept + b"\0",
        "changed": kept[:-1] + bytes([kept[-1] ^ 1]),
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    assert (cached_groups(folder, read_meta(folder)) == first).all()
    assert path.read_bytes() == kept


def test_a_pack_that_cannot_be_written_is_counted_every_time(folder: Path) -> None:
    first = cached_groups(folder, read_meta(folder))
    (path,) = folder.glob("token-groups-*.bin")
    path.unlink()
    path.mkdir()
    assert (cached_groups(folder, read_meta(folder)) == first).all()
    assert not [*folder.glob(".*.partial")]


def test_two_processes_may_count_at_once(folder: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from scalegrow.train.text import read_meta\n"
        "from scalegrow.train.token_groups import cached_groups\n"
        "folder = Path(sys.argv[1])\n"
        "sys.stdout.buffer.write(cached_groups(folder, read_meta(folder)).tobytes())\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    told = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert told[0] == told[1] == cached_groups(folder, read_meta(folder)).tobytes()
    assert len([*folder.glob("*token-groups*")]) == 1


# In a run


def paged(text: Path, token_groups: bool) -> RunConfig:
    """A run of some seconds on pages, in bytes."""
    config = tiny_config(
        data=Data(str(text), tokenizer="bytes"), evaluation=Evaluation(64, 2, token_groups=token_groups)
    )
    return with_shape(config, vocab_size=257)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without groups and with them."""
    folder = tmp_path_factory.mktemp("groups")
    (folder / "pages.txt").write_text(PAGES)
    for name, wanted in (("without", False), ("with", True)):
        train(paged(folder / "pages.txt", wanted), folder / "runs" / name, cache=folder / "packs")
    return folder / "runs"


def test_groups_make_up_the_whole(runs: Path) -> None:
    assert read_header(runs / "with" / "trunk" / "log.jsonl")["tags"] == [*GROUPS]
    records = [each for stage in STAGES for each in records_of(runs / "with", stage) if "heldout_loss" in each]
    assert len(records) >= 3
    for record in records:
        tags = record["tags"]
        assert tuple(tags) == GROUPS
        assert sum(tag["share"] for tag in tags.values()) == pytest.approx(1, abs=1e-12)
        total = sum(tag["share"] * tag["loss"] for tag in tags.values())
        assert total == pytest.approx(record["heldout_loss"], abs=1e-9)


def test_groups_change_nothing_else(runs: Path) -> None:
    """Bit for bit: every record but for its tags, every weight, the run's name."""
    headers = [read_header(runs / name / "trunk" / "log.jsonl") for name in ("without", "with")]
    assert headers[0]["tags"] == []
    assert headers[0]["run"] == headers[1]["run"]
    assert headers[0]["data"] == headers[1]["data"]
    for stage in STAGES:
        plain = records_of(runs / "without", stage)
        assert not any("tags" in record for record in plain)
        told = records_of(runs / "with", stage)
        assert any("tags" in record for record in told)
        assert [{key: record[key] for key in record if key != "tags"} for record in told] == plain
        one, other = (
            load_file(checkpoints(runs / name / stage / "checkpoints")[-1] / "model.safetensors")
            for name in ("without", "with")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_table_has_a_column_for_each_group(runs: Path) -> None:
    found = collect(runs / "with")
    assert {"loss_trivial", "loss_constrained", "loss_open"} <= {*found.columns}
    assert "evaluation.token_groups" not in found.columns


def test_old_configs_are_read_without_groups() -> None:
    told = tiny_config().to_dict()
    del told["evaluation"]["token_groups"]
    assert RunConfig.from_dict(told) == tiny_config()


def test_stories_and_networks_ignore_it(tmp_path: Path) -> None:
    for config in (tiny_config(), tiny_network()):
        asked = replace(config, evaluation=replace(config.evaluation, token_groups=True))
        assert asked.digest() == config.digest()
        assert task_for(asked, tmp_path).groups == task_for(config, tmp_path).groups
