"""What a run learns: a model, its data and its loss, behind one face for decoders and networks.

Symbols: B sequences (or samples) a step, T tokens of a sequence (1 for samples).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, Network, RunConfig
from scalegrow.train.axes import Parameter, decoder_parameters, mlp_parameters
from scalegrow.train.batch import Batch, TokenSource
from scalegrow.train.mlp import Regression, build_network
from scalegrow.train.model import build_decoder

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Held-out losses of sequences: sums over each one's tokens by group, and how many tokens; [n, groups].

    Group 0 is all tokens; the others are the source's tags. `surprise` sums -log p where the source knows p.
    """

    loss: Floats
    count: Floats
    surprise: Floats | None


class Task(Protocol):
    """A model to build, batches to feed it, a loss to minimise, scores to report."""

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter's axes, by name."""

    def build(self, device: str | torch.device) -> nn.Module:
        """The model with its first weights."""

    def batch(self, first: int, count: int) -> Any:
        """Training items first .. first + count - 1."""

    def loss(self, model: nn.Module, batch: Any, device: str | torch.device) -> Tensor:
        """The mean loss of a batch."""

    def score(self, model: nn.Module, first: int, count: int, device: str | torch.device) -> Scores:
        """Held-out items first .. first + count - 1, one row each."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the columns of Scores after the first."""

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of a token, for bits per byte."""

    @property
    def n_heldout(self) -> int | None:
        """Held-out items there are; None for any number."""

    def epochs(self, items: int) -> float | None:
        """How often this many items repeat the data; None where it never repeats."""

    def describe(self) -> dict[str, object]:
        """The data, for the log's header."""


@dataclass(frozen=True)
class LanguageTask:
    """Next-token prediction; loss = cross-entropy in nats per token."""

    config: RunConfig
    source: TokenSource

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter's axes, by name."""
        return decoder_parameters(self._decoder.shape)

    def build(self, device: str | torch.device) -> nn.Module:
        """The decoder with its first weights."""
        return build_decoder(self.config, device)

    def batch(self, first: int, count: int) -> Batch:
        """Training sequences."""
        return self.source.train_batch(first, count)

    def loss(self, model: nn.Module, batch: Batch, device: str | torch.device) -> Tensor:
        """Mean cross-entropy, nats per token."""
        tokens = torch.from_numpy(batch.tokens).to(device, non_blocking=True)
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())

    def score(self, model: nn.Module, first: int, count: int, device: str | torch.device) -> Scores:
        """Held-out sequences: summed loss of all tokens, then of each tag."""
        batch = self.source.heldout_batch(first, count)
        tokens = torch.from_numpy(batch.tokens).to(device)
        logits = model(tokens[:, :-1])
        losses = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
        masks = np.ones((1 + len(self.groups), count, self.source.context))
        if batch.tags is not None:
            masks[1:] = batch.tags == np.arange(len(self.groups))[:, None, None]
        by_group = _summer(masks)
        return Scores(
            by_group(losses.view(count, -1).double().cpu().numpy()),
            masks.sum(2).T,
            None if batch.log_p is None else by_group(-batch.log_p.astype(np.float64)),
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The source's tags."""
        return self.source.tag_names

    @property
    def bytes_per_token(self) -> float | None:
        """As the source says."""
        return self.source.bytes_per_token

    @property
    def n_heldout(self) -> int | None:
        """As the source says."""
        return self.source.n_heldout_sequences

    def epochs(self, items: int) -> float | None:
        """Items over the sequences of one epoch."""
        there = self.source.n_train_sequences
        return None if there is None else items / there

    def describe(self) -> dict[str, object]:
        """As the source says."""
        return self.source.describe()

    @cached_property
    def _decoder(self) -> Decoder:
        assert isinstance(self.config.model, Decoder)
        return self.config.model


@dataclass(frozen=True)
class RegressionTask:
    """Least squares; loss = mean square error per output."""

    config: RunConfig
    source: Regression
    groups: tuple[str, ...] = ()
    bytes_per_token = None
    n_heldout = None

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter's axes, by name."""
        assert isinstance(self.config.model, Network)
        return mlp_parameters(self.config.model.shape)

    def build(self, device: str | torch.device) -> nn.Module:
        """The network with its first weights."""
        return build_network(self.config, device)

    def batch(self, first: int, count: int) -> Any:
        """Training samples."""
        return self.source.train_batch(first, count)

    def loss(self, model: nn.Module, batch: Any, device: str | torch.device) -> Tensor:
        """Mean square error."""
        x, y = (torch.from_numpy(part).to(device) for part in batch)
        return F.mse_loss(model(x), y)

    def score(self, model: nn.Module, first: int, count: int, device: str | torch.device) -> Scores:
        """Held-out samples' square errors."""
        x, y = (torch.from_numpy(part).to(device) for part in self.source.heldout_batch(first, count))
        errors = (model(x) - y).double().square().mean(1, keepdim=True)
        return Scores(errors.cpu().numpy(), np.ones((count, 1)), np.full((count, 1), self.source.entropy))

    def epochs(self, items: int) -> float | None:
        """Samples never repeat."""
        return None

    def describe(self) -> dict[str, object]:
        """The teacher and the least loss."""
        return self.source.describe()


def task_for(config: RunConfig, cache: Path) -> Task:
    """The task a config names; text is packed into `cache` first. Raises InputError on what does not fit."""
    if isinstance(config.model, Network):
        if config.data.source != "regression":
            raise InputError(f"a dense network learns 'regression', not {config.data.source!r}: set data.source.")
        shape = config.model.shape
        return RegressionTask(
            config, Regression(shape.n_inputs, shape.n_outputs, config.data.seed, config.data.language_seed)
        )
    source = token_source(config, cache)
    vocab = config.model.shape.vocab_size
    if source.vocab_size > vocab:
        raise InputError(
            f"the data have {source.vocab_size} tokens, the model's vocabulary {vocab}: "
            f"set model.shape.vocab_size = {source.vocab_size}."
        )
    return LanguageTask(config, source)


def token_source(config: RunConfig, cache: Path) -> TokenSource:
    """Stories, or packed text."""
    assert isinstance(config.model, Decoder)
    data, context = config.data, config.model.shape.context
    if data.source == "stories":
        from scalegrow.train.stories import Grammar, Stories

        return Stories(context, data.seed, Grammar(seed=data.language_seed))
    if data.source == "regression":
        raise InputError("a decoder cannot learn 'regression': name a text, or use --network.")
    from scalegrow.train.text import PackedText, pack

    folder = pack(
        data.source,
        cache,
        tokenizer=data.tokenizer or "bytes",
        column=data.column,
        revision=data.revision,
        validation_fraction=data.validation_fraction,
    )
    text = PackedText.open(folder, context, data.seed)
    if not config.evaluation.token_groups:
        return text
    from scalegrow.train.token_groups import grouped

    return grouped(text)


def _summer(masks: Floats) -> Any:
    """values [n, T] -> sums [n, groups] over each group's tokens."""

    def by_group(values: Floats) -> Floats:
        return np.asarray(np.einsum("gnt,nt->ng", masks, values))

    return by_group
