"""Text as training data: packed once into token files, then served as windows in a fixed order.

A pack is a folder: train.bin and validation.bin (token numbers, headerless, little-endian), the starts of
their documents (*.offsets.npy), tokenizer.json and meta.json.
"""

import json
import os
import re
import secrets
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scalegrow.errors import InputError
from scalegrow.train.batch import Batch
from scalegrow.train.documents import Corpus, file_sha256, open_corpus
from scalegrow.train.tokenizer import FILE as TOKENIZER_FILE
from scalegrow.train.tokenizer import Tokenizer, Tokens, make_tokenizer, read_tokenizer, token_dtype, tokenizer_key

FORMAT = "scalegrow-pack/2"
SPLITS = ("train", "validation")
ENCODED_AT_ONCE = 2_000_000  # characters: the library holds some hundred bytes a token while it encodes
HASHES = 2**64
ABANDONED_AFTER = 86400  # seconds
NPY_HEADER = 128  # bytes before the numbers of a one-dimensional .npy file


def pack(
    source: str,
    folder: Path,
    tokenizer: str = "bpe:1024",
    column: str | None = None,
    revision: str | None = None,
    validation_fraction: float = 0.01,
) -> Path:
    """Tokenize a corpus into a folder within `folder`, or find it there from an earlier call.

    source, column and revision are as for `open_corpus`; tokenizer is 'bytes', 'bpe:V' (trained on the
    training documents only) or a tokenizer.json. A document is held out if the hash of its text falls below
    validation_fraction, so duplicates share a side; at least one is on each. The pack's name holds the hash
    of all that decides it, and it appears whole or not at all. Raises InputError.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction={validation_fraction!r} is no share: give one between 0 and 1.")
    settings = {
        "format": FORMAT,
        "tokenizer": tokenizer_key(tokenizer),
        "column": column,
        "validation_fraction": validation_fraction,
    }
    corpus = open_corpus(source, column, revision)
    key = sha256(json.dumps(settings | corpus.identity, sort_keys=True).encode()).hexdigest()
    target = folder / f"{_stem(corpus.name)}-{_stem(Path(tokenizer).name)}-{key[:16]}"
    if not _is_pack(target):
        _write_pack(target, corpus, tokenizer, settings)
    return target


def _stem(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name.partition(".")[0]).strip("-") or "text"


def _is_pack(folder: Path) -> bool:
    try:
        read_meta(folder)
    except InputError:
        return False
    return True


def _write_pack(target: Path, corpus: Corpus, spec: str, settings: dict[str, Any]) -> None:
    """Write into a folder beside the target, then rename: readers see a whole pack or none."""
    _sweep(target.parent)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        _fill(partial, corpus, spec, settings)
        _publish(partial, target)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}): choose another place.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove packs that a kill left half-written; younger ones may still be written by another process."""
    for partial in folder.glob(".*.partial"):
        if time.time() - partial.stat().st_mtime > ABANDONED_AFTER:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(folder: Path, corpus: Corpus, spec: str, settings: dict[str, Any]) -> None:
    threshold = _threshold(corpus, settings["validation_fraction"])
    training = (text for text in corpus.documents() if _hash(text) > threshold)
    tokenizer = make_tokenizer(spec, training)
    counts = _write_tokens(folder, corpus, tokenizer, threshold)
    size = tokenizer.save(folder)
    meta = settings | {
        "tokenizer": {"spec": tokenizer.spec, "sha256": tokenizer.sha256, "bytes": size},
        "vocab_size": tokenizer.vocab_size,
        "separator": tokenizer.separator,
        "dtype": token_dtype(tokenizer.vocab_size).name,
        "source": {"name": corpus.name, **corpus.identity},
        **counts,
        "sha256": {name: file_sha256(folder / f"{name}.bin") for name in SPLITS},
    }
    folder.joinpath("meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _publish(partial: Path, target: Path) -> None:
    for file in partial.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    if target.exists() and not _is_pack(target):
        shutil.rmtree(target)
    try:
        partial.rename(target)
    except OSError:
        if not _is_pack(target):  # otherwise another process was faster, with the same pack
            raise


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _threshold(corpus: Corpus, fraction: float) -> int:
    """The highest hash that is held out: the fraction of all hashes, but never no document and never all."""
    low, high = HASHES, -1
    for value in map(_hash, corpus.documents()):
        low, high = min(low, value), max(high, value)
    if low >= high:
        found = "no document" if high < 0 else "one document only"
        raise InputError(f"{corpus.name} has {found}: give at least two different ones, to hold one out.")
    return min(max(int(fraction * HASHES), low), high - 1)


def _write_tokens(folder: Path, corpus: Corpus, tokenizer: Tokenizer, threshold: int) -> dict[str, dict[str, int]]:
    """Write both splits; tokens, documents and UTF-8 bytes of each."""
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        splits = _Split(train, tokenizer), _Split(validation, tokenizer)
        for texts in _batches(corpus.documents()):
            for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
                splits[_hash(text) <= threshold].add(text, tokens)
    for name, split in zip(SPLITS, splits, strict=True):
        np.save(folder / f"{name}.offsets.npy", np.array(split.starts, dtype="<i8"))
    return {name: split.counts for name, split in zip(SPLITS, splits, strict=True)}


class _Split:
    """One token file as it grows."""

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer) -> None:
        self.file = file
        self.separator = np.array([tokenizer.separator], dtype=token_dtype(tokenizer.vocab_size))
        self.starts = array("q")
        self.tokens = self.bytes = 0

    def add(self, text: str, tokens: Tokens) -> None:
        self.starts.append(self.tokens)
        self.file.write(self.separator.tobytes())
        self.file.write(tokens.astype(self.separator.dtype).tobytes())
        self.tokens += 1 + len(tokens)
        self.bytes += len(text.encode())

    @property
    def counts(self) -> dict[str, int]:
        return {"tokens": self.tokens, "documents": len(self.starts), "bytes": self.bytes}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= ENCODED_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_meta(folder: Path) -> dict[str, Any]:
    """What meta.json says of a pack. Raises InputError if the folder is no pack, damaged or of another format."""
    advice = "pack the text again"
    try:
        meta = json.loads(folder.joinpath("meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise InputError(f"{folder} is of format {meta['format']!r}, not {FORMAT!r}: {advice}.")
        sizes = _sizes(meta)
        _ = [meta["sha256"][name] for name in SPLITS]
        found = {file: folder.joinpath(file).stat().st_size for file in sizes}
    except OSError as error:
        file = Path(error.filename).name
        raise InputError(f"{folder} is no whole pack ({file}: {error.strerror}): {advice}.") from None
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise InputError(f"meta.json of {folder} is damaged or of another program: {advice}.") from None
    for file in (file for file, size in sizes.items() if found[file] != size):
        raise InputError(f"{file} of {folder} has {found[file]} bytes, not {sizes[file]}: {advice}.")
    return meta


def _sizes(meta: dict[str, Any]) -> dict[str, int]:
    """Bytes of every file of a pack. Raises KeyError or TypeError on damage."""
    width = np.dtype(meta["dtype"]).itemsize
    sizes = {f"{name}.bin": meta[name]["tokens"] * width for name in SPLITS}
    sizes |= {f"{name}.offsets.npy": NPY_HEADER + meta[name]["documents"] * 8 for name in SPLITS}
    if meta["tokenizer"]["spec"] != "bytes":
        sizes[TOKENIZER_FILE] = meta["tokenizer"]["bytes"]
    return sizes


@dataclass(eq=False)  # not frozen: a TokenSource has plain attributes
class PackedText:
    """A pack as windows of T + 1 tokens, each starting where the inputs of the one before end.

    Epoch e visits the n training windows in the order Philox(key=[seed, e]) permutes them; sequence j is
    number j % n of epoch j // n. Held-out windows come in the order of the text.
    """

    folder: Path
    meta: dict[str, Any]
    context: int
    seed: int
    train: NDArray[Any]  # [n, T+1], a view of the file
    heldout: NDArray[Any]
    vocab_size: int
    bytes_per_token: float | None
    n_train_sequences: int | None
    n_heldout_sequences: int
    tag_names: tuple[str, ...] = ()
    tags: NDArray[np.uint8] | None = None  # of held-out targets, [n, T]: see token_groups.py

    @classmethod
    def open(cls, folder: Path, context: int, seed: int = 0) -> "PackedText":
        """Map the pack in this folder into memory. Raises InputError if it is none or too short."""
        if context < 1 or not 0 <= seed < HASHES:
            raise InputError(f"context={context}, seed={seed}: give a context above 0, a seed from 0 to 2^64-1.")
        meta = read_meta(folder)
        for name in SPLITS:
            if file_sha256(folder / f"{name}.bin") != meta["sha256"][name]:
                raise InputError(f"{name}.bin of {folder} was changed since it was packed: remove the folder.")
        train, heldout = (_windows(folder, name, meta, context) for name in SPLITS)
        return cls(
            folder=folder,
            meta=meta,
            context=context,
            seed=seed,
            train=train,
            heldout=heldout,
            vocab_size=meta["vocab_size"],
            bytes_per_token=meta["validation"]["bytes"] / meta["validation"]["tokens"],
            n_train_sequences=len(train),
            n_heldout_sequences=len(heldout),
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the pack, to read what a model writes. Raises InputError if it was changed."""
        tokenizer = read_tokenizer(self.folder, self.meta["tokenizer"]["spec"])
        if tokenizer.sha256 != self.meta["tokenizer"]["sha256"]:
            raise InputError(f"the tokenizer.json of {self.folder} was changed: pack the text again.")
        return tokenizer

    def train_batch(self, first: int, count: int) -> Batch:
        """Sequences number first .. first + count - 1 of the training order, across epochs where it must."""
        if first < 0 or count < 0:
            raise InputError(f"no training sequences {first} and {count} more: count from 0.")
        n = len(self.train)
        numbers = np.arange(first, first + count)
        epochs = range(first // n, (first + count - 1) // n + 1)
        orders = [epoch_order(self.seed, e, n)[numbers[numbers // n == e] % n] for e in epochs]
        windows = np.concatenate([np.empty(0, dtype=np.int64), *orders])
        return Batch(self.train[windows].astype(np.int64))

    def heldout_batch(self, first: int, count: int) -> Batch:
        """Held-out windows first .. first + count - 1. Raises InputError past the end."""
        if first < 0 or count < 0 or first + count > self.n_heldout_sequences:
            raise InputError(
                f"no held-out sequences {first} to {first + count - 1}: "
                f"there are {self.n_heldout_sequences}, from 0."
            )
        rows = slice(first, first + count)
        return Batch(self.heldout[rows].astype(np.int64), tags=None if self.tags is None else self.tags[rows])

    def epochs(self, n_sequences: float) -> float:
        """How often n_sequences go through the training text: n_sequences / n."""
        return n_sequences / len(self.train)

    def describe(self) -> dict[str, object]:
        """All of meta.json, the context and the seed."""
        windows = {"n_train_sequences": len(self.train), "n_heldout_sequences": len(self.heldout)}
        return {"kind": "text", **self.meta, "context": self.context, "seed": self.seed, **windows}


def _windows(folder: Path, name: str, meta: dict[str, Any], context: int) -> NDArray[Any]:
    """Rows of T + 1 tokens, T apart, without copying."""
    count = meta[name]["tokens"]
    if count <= context:
        raise InputError(
            f"{name}.bin of {folder} has {count} tokens and a window of context {context} takes {context + 1}: "
            "shorten the context or pack more text."
        )
    return np.lib.stride_tricks.sliding_window_view(split_tokens(folder, name, meta), context + 1)[::context]


def split_tokens(folder: Path, name: str, meta: dict[str, Any]) -> NDArray[Any]:
    """All tokens of a split, train or validation, in the order of the text: a view of the file."""
    dtype = np.dtype(meta["dtype"]).newbyteorder("<")
    return np.asarray(np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r"))


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The n windows in the order of this epoch."""
    key = np.array([seed, epoch], dtype=np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(n)
    order.flags.writeable = False  # every caller gets the same array
    return order
