"""What a step is fed, and what can feed it."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """Sequences of one step: tokens [B, T + 1] (inputs are [:, :-1], targets [:, 1:]).

    Of each target its true log-probability log_p [B, T] in nats and its tag [B, T], where the source knows them.
    """

    tokens: NDArray[np.int64]
    log_p: NDArray[np.float32] | None = None
    tags: NDArray[np.uint8] | None = None


class TokenSource(Protocol):
    """Training sequences in a fixed order, and a fixed held-out set."""

    @property
    def vocab_size(self) -> int:
        """V: every token is below it."""

    @property
    def context(self) -> int:
        """T: tokens a sequence is asked to predict."""

    @property
    def tag_names(self) -> tuple[str, ...]:
        """What each tag means; () where tokens carry none."""

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes per held-out token, for bits per byte; None where meaningless."""

    @property
    def n_train_sequences(self) -> int | None:
        """Sequences of one epoch; None for an endless source."""

    @property
    def n_heldout_sequences(self) -> int | None:
        """Held-out sequences there are; None for any number."""

    def train_batch(self, first: int, count: int) -> Batch:
        """Sequences number first .. first + count - 1 of the training order."""

    def heldout_batch(self, first: int, count: int) -> Batch:
        """Held-out sequences first .. first + count - 1. Raises InputError past the end."""

    def describe(self) -> dict[str, object]:
        """What decides the data, for the header of a run log."""
