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
    """A stream of training sequences in a fixed order, and a fixed held-out set."""

    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    @property
    def context(self) -> int: ...  # noqa: D102
