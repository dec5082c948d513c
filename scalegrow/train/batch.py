"""What a training step reads: a batch of token sequences, and what every source of them offers."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """Sequences of one step: tokens [B, T+1] int64 (inputs are [:, :-1], targets [:, 1:]).

    Of each target its true log-probability log_p [B, T] float32 (nats) and its tag [B, T] uint8, where the
    source knows them.
    """

    tokens: NDArray[np.int64]
    log_p: NDArray[np.float32] | None = None
    tags: NDArray[np.uint8] | None = None


class TokenSource(Protocol):
    """Numbered sequences to train on, and a fixed held-out part.

    A sequence is a pure function of its number, so that any batch size and any restart read the same order.
    """

    vocab_size: int
    context: int  # T
    tag_names: tuple[str, ...]  # () where tokens carry no tags
    bytes_per_token: float | None  # UTF-8 bytes per held-out token, for bits per byte; None where meaningless
    n_train_sequences: int | None  # sequences in one epoch; None = unlimited
    n_heldout_sequences: int | None

    def train_batch(self, first: int, count: int) -> Batch:
        """Sequences number first .. first + count - 1 of the training order."""

    def heldout_batch(self, first: int, count: int) -> Batch:
        """Held-out sequences first .. first + count - 1, always the same; InputError past the end."""

    def describe(self) -> dict[str, object]:
        """What decides the data, for a run log: source, sha256, tokenizer hash, vocabulary, counts, seed."""
