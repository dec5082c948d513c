"""Text as training data: tokenizers, packing, and an order that is a pure function of seed and number."""

import gzip
import json
import lzma
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegrow.errors import InputError
from scalegrow.train import documents, text
from scalegrow.train.batch import TokenSource
from scalegrow.train.documents import open_corpus, split_text
from scalegrow.train.text import PackedText, epoch_order, pack, read_meta
from scalegrow.train.tokenizer import (
    SEPARATOR,
    ByteTokenizer,
    JsonTokenizer,
    Tokenizer,
    make_tokenizer,
    token_dtype,
    train_bpe,
)

bpe = pytest.mark.skipif(find_spec("tokenizers") is None, reason="needs the extra 'train'")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STORIES = [f"Story {n}: the {['fox', 'dog', 'cow', 'hen'][n % 4]} ran {n} miles.\nThe end.\n" for n in range(120)]


def write(path: Path, stories: list[str] = STORIES) -> str:
    path.write_text(SEPARATOR.join(stories), encoding="utf-8", newline="")
    return str(path)


def packed(folder: Path, stories: list[str] = STORIES, tokenizer: str = "bytes", fraction: float = 0.1) -> Path:
    return pack(write(folder / "stories.txt", stories), folder / "packs", tokenizer, None, None, fraction)


def documents_of(pack: Path, split: str) -> list[str]:
    """The documents of one side, read back with nothing but numpy and the tokenizer."""
    meta = json.loads(pack.joinpath("meta.json").read_text())
    tokens = np.memmap(pack / f"{split}.bin", dtype=np.dtype(meta["dtype"]), mode="r")
    starts = np.load(pack / f"{split}.offsets.npy")
    assert (tokens[starts] == meta["separator"]).all()
    tokenizer = PackedText.open(pack, 8).tokenizer
    return [tokenizer.decode(piece[1:]) for piece in np.split(tokens, starts[1:])]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PackedText:
    return PackedText.open(packed(tmp_path_factory.mktemp("text")), context=16, seed=3)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe(300, STORIES)


# Tokenizers


@given(st.lists(st.text()))
def test_bytes_round_trip(texts: list[str]) -> None:
    tokenizer = ByteTokenizer()
    encoded = tokenizer.encode(texts)
    assert [tokenizer.decode(tokens) for tokens in encoded] == texts
    assert [list(tokens) for tokens in encoded] == [list(t.encode()) for t in texts]


@bpe
@given(texts=st.lists(st.one_of(st.text(), st.just(f"a {SEPARATOR} b"))))
def test_bpe_round_trip(trained: Tokenizer, texts: list[str]) -> None:
    encoded = trained.encode(texts)
    assert [trained.decode(tokens) for tokens in encoded] == texts
    assert not any((tokens == trained.separator).any() for tokens in encoded)
    assert all(tokens.dtype == np.uint16 for tokens in encoded)


@bpe
def test_bpe_is_the_same_every_time_and_shortens_text(trained: Tokenizer) -> None:
    assert train_bpe(300, STORIES).sha256 == trained.sha256
    assert trained.vocab_size == 300
    assert len(trained.encode([STORIES[0]])[0]) < len(STORIES[0])


@bpe
def test_bpe_reads_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalegrow.train.tokenizer.TRAINING_BYTES", 50)
    read: list[str] = []
    train_bpe(300, (read.append(story) or story for story in STORIES))  # type: ignore[func-returns-value]
    assert len(read) == 2


@bpe
def test_any_tokenizer_json_will_do(tmp_path: Path) -> None:
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(70_000)}, unk_token="w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.enable_truncation(4)
    words.save(str(tmp_path / "words.json"))
    many = packed(tmp_path, [f"w{n} w69999 w2 w3 w4 w5" for n in range(40)], str(tmp_path / "words.json"))
    meta = read_meta(many)
    assert (meta["vocab_size"], meta["separator"], meta["dtype"]) == (70_001, 70_000, "uint32")
    tokens = np.fromfile(many / "train.bin", dtype="<u4")
    assert len(tokens) == 7 * meta["train"]["documents"]
    assert list(tokens[2:7]) == [69999, 2, 3, 4, 5]


@bpe
@pytest.mark.parametrize("content", ["{}", "not json", "\xff"])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str) -> None:
    tmp_path.joinpath("t.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="no tokenizer"):
        packed(tmp_path, tokenizer=str(tmp_path / "t.json"))


@pytest.mark.parametrize("spec", ["bpe:100", "bpe:", "bpe:many", "bpe:-1024", "words", "gone.json"])
def test_unknown_tokenizers_are_refused_before_anything_is_read(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InputError, match="bpe:1024"):
        pack(str(tmp_path / "gone.txt"), tmp_path, spec)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"needs the tokenizers package: pip install 'scalegrow\[train\]'"):
        make_tokenizer("bpe:1024", STORIES)


def test_dtype_follows_the_vocabulary() -> None:
    assert [token_dtype(v).name for v in (257, 65_536, 65_537)] == ["uint16", "uint16", "uint32"]


# Packing


@bpe
def test_a_pack_is_what_nanogpt_reads(tmp_path: Path) -> None:
    folder = packed(tmp_path, tokenizer="bpe:300")
    meta = read_meta(folder)
    tokenizer = PackedText.open(folder, 8).tokenizer
    tokens = np.memmap(folder / "train.bin", dtype=np.uint16, mode="r")
    assert len(tokens) == meta["train"]["tokens"]
    stories = tokenizer.decode(tokens).split(SEPARATOR)[1:]
    assert stories == [story.strip("\n") for story in STORIES if story.strip("\n") in stories]
    assert sum(len(story.encode()) for story in stories) == meta["train"]["bytes"]
    assert meta["train"]["documents"] + meta["validation"]["documents"] == len(STORIES)


def test_meta_says_what_decided_the_pack_and_no_path(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    meta = read_meta(folder)
    assert meta["source"]["name"] == "stories.txt"
    assert len(meta["source"]["sha256"]) == 64
    assert meta["validation_fraction"] == 0.1
    assert str(tmp_path) not in folder.joinpath("meta.json").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "meta.json",
        "train.bin",
        "train.offsets.npy",
        "validation.bin",
        "validation.offsets.npy",
    ]


@settings(max_examples=25)
@given(st.lists(st.text("ab\n🦊", min_size=1, max_size=4), min_size=2), st.floats(0.01, 0.99))
def test_held_out_documents_are_never_trained_on(
    tmp_path_factory: pytest.TempPathFactory, stories: list[str], fraction: float
) -> None:
    stories = [*stories, "one long enough", "another long enough"]
    folder = packed(tmp_path_factory.mktemp("split"), stories, fraction=fraction)
    meta = read_meta(folder)
    tokens = [np.fromfile(folder / f"{name}.bin", dtype="<u2") for name in ("train", "validation")]
    sides = [ByteTokenizer().decode(side).split(SEPARATOR)[1:] for side in tokens]
    assert all(sides)
    assert not set(sides[0]) & set(sides[1])
    kept = [stripped for story in stories if (stripped := story.strip("\n")) and not stripped.isspace()]
    assert Counter(sides[0] + sides[1]) == Counter(kept)
    assert [len(side) for side in sides] == [meta[name]["documents"] for name in ("train", "validation")]


@bpe
def test_bpe_never_saw_the_held_out_documents(tmp_path: Path) -> None:
    folder = packed(tmp_path, tokenizer="bpe:400", fraction=0.5)
    train, heldout = documents_of(folder, "train"), documents_of(folder, "validation")
    assert PackedText.open(folder, 8).tokenizer.sha256 == train_bpe(400, train).sha256
    assert train_bpe(400, train).sha256 != train_bpe(400, train + heldout).sha256


def test_the_split_does_not_depend_on_the_other_documents(tmp_path: Path) -> None:
    for name in "ab":
        tmp_path.joinpath(name).mkdir()
    some = set(documents_of(packed(tmp_path / "a", STORIES[:60]), "validation"))
    assert some
    assert some <= set(documents_of(packed(tmp_path / "b"), "validation"))


def test_an_earlier_pack_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(text, "_fill", lambda *_: pytest.fail("packed twice"))
        assert packed(tmp_path) == first
    others = {packed(tmp_path, fraction=0.2), packed(tmp_path, STORIES[1:])}
    assert len({first, *others}) == 3
    assert len({folder.name for folder in others}) == 2


def test_a_damaged_pack_is_packed_anew(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    whole = folder.joinpath("train.bin").read_bytes()
    folder.joinpath("train.bin").write_bytes(whole[:-2])
    assert packed(tmp_path) == folder
    assert folder.joinpath("train.bin").read_bytes() == whole


@pytest.mark.parametrize("clean", [True, False])
def test_an_interrupted_pack_leaves_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    def interrupted(self: Any, name: str, tokens: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(text._Split, "add", interrupted)
        if not clean:  # as a kill does
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            packed(tmp_path)
    left = list(tmp_path.joinpath("packs").iterdir())
    assert len(left) == (0 if clean else 1)
    for folder in left:
        with pytest.raises(InputError, match="no whole pack"):
            PackedText.open(folder, 8)
    assert read_meta(packed(tmp_path))


def test_a_pack_that_another_process_finished_first_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = text._fill

    def slow(folder: Path, *rest: Any) -> None:
        right(folder, *rest)
        if not list(folder.parent.glob("stories*")):
            shutil.copytree(folder, folder.with_name(folder.name[1:].split(".")[0]))

    monkeypatch.setattr(text, "_fill", slow)
    folder = packed(tmp_path)
    assert list(tmp_path.joinpath("packs").iterdir()) == [folder]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        pack(write(tmp_path / "a.txt"), tmp_path / "file", "bytes")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_held_out_share_is_between_none_and_all(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        packed(tmp_path, fraction=fraction)


@pytest.mark.parametrize(
    ("stories", "found"), [([" \n"], "no document"), (["once"], "one document"), (["twice", "twice"], "one")]
)
def test_too_few_documents_to_hold_one_out(tmp_path: Path, stories: list[str], found: str) -> None:
    with pytest.raises(InputError, match=found):
        packed(tmp_path, stories)


# Sources of documents


def read(source: Path | str, column: str | None = None) -> list[str]:
    return list(open_corpus(str(source), column).documents())


@pytest.mark.parametrize("separator", [SEPARATOR, "\f", f"\n{SEPARATOR}\n"])
def test_separated_text(tmp_path: Path, separator: str) -> None:
    tmp_path.joinpath("a.txt").write_bytes(f"\ufeffone\r\ntwo{separator}{separator}three\n".encode())
    assert read(tmp_path / "a.txt") == ["one\ntwo", "three"]


def test_form_feeds_within_separated_documents_are_text(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", ["page\fpage", "page"])) == ["page\fpage", "page"]


def test_a_separator_across_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "BLOCK", 5)
    assert read(write(tmp_path / "a.txt", ["one and", "two and", "three"])) == ["one and", "two and", "three"]


@given(st.text("ab \n", max_size=300), st.integers(1, 50), st.sampled_from([None, "\n\n"]))
def test_text_without_separators_is_cut_at_paragraphs_whatever_the_blocks(
    whole: str, size: int, separator: str | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "DOCUMENT", 20)
        blocks = [whole[start : start + size] for start in range(0, len(whole), size)]
        pieces = list(split_text(blocks, separator))
        assert pieces == list(split_text([whole], separator))
    assert (separator or "").join(pieces) == whole
    assert separator or all(len(piece) <= 20 for piece in pieces)


def test_paragraphs_lines_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DOCUMENT", 10)
    assert list(split_text(["a b\n\nc d\ne f g hhhhhhhhhhhh"], None)) == [
        "a b\n\n",
        "c d\n",
        "e f g ",
        "hhhhhhhhhh",
        "hh",
    ]


@pytest.mark.parametrize(("suffix", "compress"), [("xz", lzma.compress), ("gz", gzip.compress)])
def test_compressed_files(tmp_path: Path, suffix: str, compress: Any) -> None:
    data = SEPARATOR.join(STORIES).encode()
    for name in (f"a.txt.{suffix}", f"a.{suffix}"):
        tmp_path.joinpath(name).write_bytes(compress(data))
        assert read(tmp_path / name) == [story.strip("\n") for story in STORIES]
    tmp_path.joinpath(f"b.txt.{suffix}").write_bytes(compress(data)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / f"b.txt.{suffix}")


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"id": 1, "story": "one"}, {"id": 2, "story": None}, {"id": 3, "story": "thr\u00e9e\n"}]
    tmp_path.joinpath("a.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    assert read(tmp_path / "a.jsonl") == read(tmp_path / "a.jsonl", "story") == ["one", "thr\u00e9e\n"]


def test_parquet_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROWS", 7)
    pl.DataFrame({"n": range(120), "content": STORIES}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == STORIES


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["two"]}).write_parquet(tmp_path / "b.parquet")
    tmp_path.joinpath("a.jsonl").write_text('{"text": "one"}\n')
    tmp_path.joinpath("readme.md").write_text("not read")
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.documents()) == ["one", "two"]
    tmp_path.joinpath("a.jsonl").rename(tmp_path / "c.jsonl")
    assert open_corpus(str(tmp_path)).identity != corpus.identity


@pytest.mark.parametrize(
    ("name", "content", "column", "problem"),
    [
        ("a.pdf", b"", None, "not a kind of text"),
        ("a.txt", b"", "text", "has no column"),
        ("a.txt", b"\xff\xfe", None, "cannot be read"),
        ("a.jsonl", b'{"text": ', None, "line 1 of .* is not JSON"),
        ("a.jsonl", b"[1]", None, "not an object"),
        ("a.jsonl", b'{"body": "b"}', None, "no column text or story or content: name one of body"),
        ("a.jsonl", b'{"text": "b"}', "body", "no column body: name one of text"),
        ("a.jsonl", b'{"text": 5}', None, "holds int"),
        ("a.jsonl", b'{"text": "\\ud800"}', None, "document 1 of a.jsonl has half a surrogate pair"),
        ("a.parquet", b"PAR1", None, "cannot be read"),
    ],
)
def test_unreadable_sources(tmp_path: Path, name: str, content: bytes, column: str | None, problem: str) -> None:
    tmp_path.joinpath(name).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read(tmp_path / name, column)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        read(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="holds no text"):
        read(tmp_path)
    with pytest.raises(InputError, match="no revision"):
        open_corpus(write(tmp_path / "a.txt"), revision="main")


class Rows(list[dict[str, object]]):
    """What the code uses of a datasets.Dataset."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])

    def select_columns(self, column_names: str) -> "Rows":
        return Rows({column_names: row[column_names]} for row in self)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A hub with one data set and the split 'train'; the calls of load_dataset."""
    calls: list[dict[str, object]] = []

    def load_dataset(
        path: str,
        name: str | None = None,
        *,
        split: str | None = None,
        revision: str | None = None,
        **kwargs: object,
    ) -> Rows:
        calls.append({"path": path, "split": split, "revision": revision})
        assert (name, kwargs) == (None, {})
        if split != "train":
            raise ValueError(f'Unknown split "{split}".')
        return Rows({"id": n, "text": story} for n, story in enumerate(STORIES))

    class Api:
        def dataset_info(self, repo_id: str, *, revision: str | None = None) -> Any:
            if revision == "gone":
                raise RuntimeError("404 revision not found\nmore")
            return type("Info", (), {"sha": COMMIT})

    for name, content in {"datasets": load_dataset, "huggingface_hub": Api}.items():
        module = ModuleType(name)
        setattr(module, content.__name__.replace("Api", "HfApi"), content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_a_hub_data_set_is_pinned_to_its_commit(tmp_path: Path, hub: list[dict[str, object]]) -> None:
    folder = pack("hub:owner/stories", tmp_path, "bytes", revision="main", validation_fraction=0.1)
    assert folder.name.startswith("owner-stories-bytes-")
    source = {"name": "owner/stories", "hub": "owner/stories", "split": "train", "revision": COMMIT}
    assert read_meta(folder)["source"] == source
    assert all(call == {"path": "owner/stories", "split": "train", "revision": COMMIT} for call in hub)
    assert sorted(documents_of(folder, "train") + documents_of(folder, "validation")) == sorted(STORIES)
    hub.clear()
    assert pack("hub:owner/stories", tmp_path, "bytes", None, COMMIT, 0.1) == folder
    assert not hub


@pytest.mark.parametrize(
    ("source", "revision", "problem"),
    [
        ("hub:", None, "names no data set"),
        ("hub:/home/stories", COMMIT, "names no data set"),
        ("hub:owner/stories", "gone", "404 revision not found"),
        ("hub:owner/stories:test", COMMIT, 'Unknown split "test"'),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_a_hub_has_not(source: str, revision: str | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        list(open_corpus(source, revision=revision).documents())


def test_the_missing_hub_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'scalegrow\[hub\]'"):
        list(open_corpus("hub:owner/stories", revision=COMMIT).documents())


@pytest.mark.skipif(find_spec("datasets") is None, reason="needs the extra 'hub'")
def test_the_real_library_takes_the_same_call() -> None:
    import_and_bind = (
        "import datasets, inspect\n"
        "inspect.signature(datasets.load_dataset).bind('owner/stories', split='train', revision='main')\n"
        "datasets.Dataset.select_columns, datasets.Dataset.column_names"
    )
    subprocess.run([sys.executable, "-c", import_and_bind], check=True, capture_output=True)


# Serving


def test_packed_text_is_a_token_source(source: PackedText) -> None:
    as_source: TokenSource = source
    assert as_source.vocab_size == 257
    assert as_source.tag_names == ()
    batch = as_source.train_batch(0, 4)
    assert batch.tokens.shape == (4, 17)
    assert batch.tokens.dtype == np.int64
    assert batch.log_p is None
    assert batch.tags is None
    assert as_source.train_batch(0, 0).tokens.shape == (0, 17)


def test_windows_cover_the_text_once(source: PackedText) -> None:
    tokens = np.fromfile(source.folder / "validation.bin", dtype="<u2")
    assert source.n_heldout_sequences == (len(tokens) - 1) // 16
    windows = source.heldout_batch(0, len(source.heldout)).tokens
    assert (windows[:, :-1].ravel() == tokens[: windows[:, :-1].size]).all()
    assert (windows[:, 1:].ravel() == tokens[1 : windows[:, :-1].size + 1]).all()


@given(data=st.data())
def test_any_batches_read_the_same_sequences(source: PackedText, data: st.DataObject) -> None:
    n = len(source.train)
    first = data.draw(st.integers(0, 5 * n))
    counts = data.draw(st.lists(st.integers(0, n), max_size=6))
    whole = source.train_batch(first, sum(counts)).tokens
    starts = first + np.cumsum([0, *counts])
    parts = [source.train_batch(int(s), c).tokens for s, c in zip(starts, counts, strict=False)]
    assert (np.concatenate([whole[:0], *parts]) == whole).all()
    again = PackedText.open(source.folder, source.context, source.seed)
    assert (again.train_batch(first, sum(counts)).tokens == whole).all()


def test_an_epoch_is_a_permutation_and_epochs_differ(source: PackedText) -> None:
    n = len(source.train)
    assert source.n_train_sequences == n
    orders = [epoch_order(3, epoch, n) for epoch in range(3)]
    assert all((np.sort(order) == np.arange(n)).all() for order in orders)
    assert not (orders[0] == orders[1]).all()
    assert not (orders[0] == epoch_order(4, 0, n)).all()
    assert (source.train_batch(n, n).tokens == source.train[orders[1]]).all()
    assert source.epochs(2.5 * n) == 2.5


def test_the_order_is_pinned() -> None:
    assert epoch_order(7, 1, 10).tolist() == [1, 9, 2, 8, 5, 0, 4, 3, 7, 6]
    assert not epoch_order(7, 1, 10).flags.writeable


def test_bytes_per_token_counts_separators_as_tokens(source: PackedText) -> None:
    counts = read_meta(source.folder)["validation"]
    assert source.bytes_per_token == counts["bytes"] / (counts["bytes"] + counts["documents"])


def test_the_description_goes_into_json(source: PackedText) -> None:
    told = json.loads(json.dumps(source.describe()))
    assert told["seed"] == 3
    assert told["context"] == 16
    assert told["source"]["name"] == "stories.txt"
    assert told["tokenizer"]["sha256"] == ByteTokenizer().sha256


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (0, -1)])
def test_sequences_count_from_0(source: PackedText, first: int, count: int) -> None:
    for batch in (source.train_batch, source.heldout_batch):
        with pytest.raises(InputError, match=r"no .* sequences"):
            batch(first, count)


def test_held_out_sequences_end(source: PackedText) -> None:
    with pytest.raises(InputError, match=f"there are {len(source.heldout)}"):
        source.heldout_batch(len(source.heldout) - 1, 2)


@pytest.mark.parametrize(("context", "seed"), [(0, 0), (8, -1), (8, 2**64)])
def test_context_and_seed_are_checked(source: PackedText, context: int, seed: int) -> None:
    with pytest.raises(InputError, match="context above 0"):
        PackedText.open(source.folder, context, seed)


def test_too_little_text_for_one_window(source: PackedText) -> None:
    with pytest.raises(InputError, match=r"has \d+ tokens and a window of context 100000 takes 100001"):
        PackedText.open(source.folder, 100_000)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("meta.json", None, "no whole pack .meta.json"),
        ("train.bin", None, "no whole pack .train.bin"),
        ("train.offsets.npy", None, "no whole pack .train.offsets.npy"),
        ("validation.bin", b"odd", "has 3 bytes, not"),
        ("meta.json", b"{", "damaged"),
        ("meta.json", b"\xff", "damaged"),
        ("meta.json", b"[]", "damaged"),
        ("meta.json", b'{"stoi": {}}', "damaged"),
        ("meta.json", b'{"format": "scalegrow-pack/1"}', "damaged"),
        ("meta.json", b'{"format": "scalegrow-pack/9"}', "of format 'scalegrow-pack/9'"),
    ],
)
def test_damaged_and_foreign_folders(
    source: PackedText, tmp_path: Path, file: str, content: bytes | None, problem: str
) -> None:
    folder = shutil.copytree(source.folder, tmp_path / "copy")
    folder.joinpath(file).unlink()
    if content is not None:
        folder.joinpath(file).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        PackedText.open(folder, 16)


@bpe
def test_a_changed_tokenizer_is_noticed(tmp_path: Path) -> None:
    folder = packed(tmp_path, tokenizer="bpe:300")
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"Ġ', '"ġ', 1))
    with pytest.raises(InputError, match=r"tokenizer.json of .* was changed|is no tokenizer"):
        _ = PackedText.open(folder, 8).tokenizer
    file.unlink()
    with pytest.raises(InputError, match="no whole pack"):
        PackedText.open(folder, 8)


@bpe
def test_json_tokenizers_keep_their_own_separator() -> None:
    import tokenizers

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"</s>": 2, "a": 9}, unk_token="a"))
    made = JsonTokenizer.of(library.to_str(), "words")
    assert (made.separator, made.vocab_size) == (2, 10)
