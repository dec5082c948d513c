"""Kinds of held-out tokens of a text, by how much context decides them, counted in the training text.

p_k(x | c) = n(c x) / n(c): the share of token x among what follows the k tokens c in the training text.
    trivial      p_m >= 1/2           a short context decides
    constrained  p_m < 1/2 <= p_K     only the longer one does
    open         neither, or both contexts are new
A small initialisation is said to gain most on constrained tokens (arXiv 2606.17945).
"""

import json
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalegrow.atomic import new_file
from scalegrow.train.text import PackedText, split_tokens
from scalegrow.train.tokenizer import SMALLEST_BPE

GROUPS = ("trivial", "constrained", "open")
TRIVIAL, CONSTRAINED, OPEN = range(3)
FORMAT = "scalegrow-token-groups/1"
# m and K, tokens; a subword is about three bytes, so both are the same stretch of text. K is where most tokens are
# decided, longer contexts being often new: on English novels p_k >= 1/2 holds for 46, 48 and 45 % of the bytes at
# k = 5, 6 and 8, and for 12, 18 and 16 % of 1024 subwords at k = 2, 3 and 4.
BYTE_ORDERS, SUBWORD_ORDERS = (2, 6), (1, 3)
COUNTED = 2**24  # training tokens, from the first on
LABELLED = 2**22  # held-out tokens, from the first on: hashes of their contexts are held in memory
CHUNK = 2**22  # training tokens counted at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd (Knuth, TAOCP 3, section 6.4)
DIGEST = 32  # bytes of a SHA-256

Tokens = NDArray[Any]
Labels = NDArray[np.uint8]


def grouped(text: PackedText) -> PackedText:
    """The same text whose held-out targets carry their group; it ends after LABELLED held-out tokens.

    A label belongs to a token of the held-out stream, whatever the window: its contexts may begin before it.
    """
    labels = cached_groups(text.folder, text.meta)
    tags = np.lib.stride_tricks.sliding_window_view(labels[1:], text.context)[:: text.context]
    return replace(text, tag_names=GROUPS, tags=tags, n_heldout_sequences=len(tags))


def cached_groups(folder: Path, meta: dict[str, Any]) -> Labels:
    """The groups of a pack's held-out tokens, kept in its folder; what is damaged there is made again."""
    train = split_tokens(folder, "train", meta)[:COUNTED]
    heldout = split_tokens(folder, "validation", meta)[:LABELLED]
    orders = BYTE_ORDERS if meta["vocab_size"] <= SMALLEST_BPE else SUBWORD_ORDERS
    path = folder / f"token-groups-{_key(meta, orders)}.bin"
    labels = _read(path, len(heldout))
    if labels is None:
        labels = token_groups(train, heldout, orders)
        with suppress(OSError):  # a pack that others own can be read and not be written
            _write(path, labels)
    return labels


def token_groups(train: Tokens, heldout: Tokens, orders: tuple[int, int]) -> Labels:
    """The group of each token of `heldout` [n]; orders are m and K. Without enough tokens before it: as new."""
    short, long = (decided(train, heldout, order) for order in orders)
    return np.where(short, TRIVIAL, np.where(long, CONSTRAINED, OPEN)).astype(np.uint8)


def decided(train: Tokens, heldout: Tokens, order: int) -> NDArray[np.bool_]:
    """Whether p_order >= 1/2 for each token of `heldout` [n]; no where its context was never followed."""
    followed = occurrences(train[:-1], heldout[:-1], order)
    so_followed = occurrences(train, heldout, order + 1)
    found = np.zeros(len(heldout), dtype=np.bool_)
    found[order:] = (followed > 0) & (2 * so_followed >= followed)
    return found


def occurrences(text: Tokens, wanted: Tokens, length: int) -> NDArray[np.int64]:
    """How often each run of `length` tokens of `wanted`, by where it begins, occurs in `text` [n - length + 1].

    Runs are told apart by 64-bit hashes: two of 2^24 collide with a probability of about 2^-17 in all.
    """
    known, place = np.unique(_hashes(wanted, length), return_inverse=True)
    counts = np.zeros(len(known), dtype=np.int64)
    for start in range(0, len(text), CHUNK):
        here = np.sort(_hashes(text[start : start + CHUNK + length - 1], length))
        counts += np.searchsorted(here, known, "right") - np.searchsorted(here, known, "left")
    return counts[place]


def _hashes(tokens: Tokens, length: int) -> NDArray[np.uint64]:
    """A polynomial modulo 2^64 of each run of `length` tokens, by where it begins."""
    n = max(len(tokens) - length + 1, 0)
    found = np.zeros(n, dtype=np.uint64)
    for offset in range(length):
        found = found * MULTIPLIER + tokens[offset : offset + n].astype(np.uint64)
    return found


def _key(meta: dict[str, Any], orders: tuple[int, int]) -> str:
    """What decides the labels, hashed."""
    text = json.dumps([FORMAT, orders, COUNTED, LABELLED, meta["sha256"]], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, labels: Labels) -> None:
    """The labels behind their SHA-256, whole or not at all."""
    body = labels.tobytes()
    with new_file(path) as partial:
        partial.write_bytes(sha256(body).digest() + body)


def _read(path: Path, n: int) -> Labels | None:
    """The n labels of a file; None where it is not there, or damaged."""
    with suppress(OSError):
        content = path.read_bytes()
        if len(content) == DIGEST + n and sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            return np.frombuffer(content, np.uint8, offset=DIGEST)
    return None
