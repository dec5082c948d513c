"""Grow a training state: weights and moments of a base into those of a target, by a plan, tensor by tensor.

Symbols: E copies values, C gives consumers their shares (scalegrow.train.maps); a, a scalar on a whole tensor.
A weight W' = a (E W C') has gradient g' = (1/a) (C g E'): moments follow, squared for the second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scalegrow.runs.config import Decoder, Network, RunConfig
from scalegrow.shape import MLPShape, ModelShape, Shape, n_blocks
from scalegrow.train.axes import Parameter, block_of, decoder_parameters, mlp_parameters
from scalegrow.train.finish import Grown, finished, times
from scalegrow.train.init import first_values
from scalegrow.train.maps import Mixture, Side, any_axis, grow_tensor
from scalegrow.train.mup import Multipliers, multipliers
from scalegrow.train.operators import INSERTED_IDENTITY, Plan

Tensors = dict[str, Tensor]
Read = Callable[[str], Tensor]

EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm"


@dataclass(frozen=True)
class Grower:
    """A plan, ready to grow any tensor of a base.

    old and new are the parameters of base and target by name, before and after their multipliers; first gives a
    target's first weights by name. keeps_eps grows the stream instead of gains and epsilons where its mean
    square would change: for checkpoints whose epsilon other norms share.
    """

    plan: Plan
    old: dict[str, Parameter]
    new: dict[str, Parameter]
    before: Multipliers
    after: Multipliers
    first: Callable[[str], Tensor]
    keeps_eps: bool = False

    def weight(self, name: str, read: Read) -> Tensor:
        """W' of one of the target's parameters; read gives the base's by name."""
        if self.plan.operator == "scratch":
            return self.first(name)
        grown = times(self._inherited(name, read, "weight"), self.factor(name))
        return self._silenced(name, finished(Grown(name, grown, self.new[name], self.plan, self.first)))

    def moment(self, name: str, read: Read, side: Side, *, raw: bool = False) -> Tensor:
        """m' (side "first") or v' ("second"); raw copies them without factors, as some projects do."""
        scalar = 1.0 if raw else self.factor(name)
        grown = self._inherited(name, read, side, raw=raw)
        return times(grown, scalar ** (-2 if side == "second" else -1))

    def inherits(self, name: str) -> Tensor:
        """Which entries of a parameter inherit moments, bool; the others have none yet."""
        source = self.source(name)
        if self._silent_layer(name):
            return torch.zeros(self.new[name].shape, dtype=torch.bool)
        ones = torch.ones(self.old[source].shape)
        return grow_tensor(ones, self._viewed(name), self.plan.maps, "first") != 0

    def old_copies(self, name: str) -> Tensor:
        """Which entries join the first copies of the base's coordinates only, bool: what the base had."""
        maps = self.plan.maps
        return ~any_axis(self.new[name], lambda axis: maps[axis.name].fresh if axis.name in maps else None)

    def source(self, name: str) -> str:
        """The base's parameter that one of the target's comes from."""
        if name == HEAD and self.plan.unties:
            return EMBEDDING
        place = self._place(name)
        if place is not None:
            return self._in_block(name, self.plan.layers.source[place])
        prefix, number, tail = block_of(name)
        if not number:
            return name
        head = number - n_blocks(self.plan.target) + n_blocks(self.plan.base)  # of a network
        return f"{prefix}{head}{tail}"

    def sources(self, name: str) -> list[str]:
        """Every parameter of the base that one of the target's reads, but for learned mixtures of layers."""
        source = self.source(name)
        upper = self._upper(source) if self.plan.operator == "aki" else ""
        return [source, upper] if upper else [source]

    def factor(self, name: str) -> float:
        """a: what a whole tensor is multiplied by, so that target and base agree in multipliers and norms."""
        old, new = self.before, self.after
        norm = self.plan.norm_factor if self.plan.rescales_norms else 1.0
        if self.plan.operator == "szp":  # which shrinks and perturbs, and compensates nothing but gains, if told
            return norm if self.new[name].kind == "gain" and self.new[name].axes[0].name == "d_model" else 1.0
        stream = self._stream
        if "q_proj" in name or "k_proj" in name:
            return math.sqrt(old.attention / new.attention)
        if "o_proj" in name or "down_proj" in name:
            return stream * old.residual / new.residual
        if "embed" in name:
            return stream * old.embedding / new.embedding
        if self.new[name].kind == "head":
            return old.logits / new.logits
        if name == f"{FINAL_NORM}.weight":
            return norm * self._tied_factor()
        if name.endswith("layernorm.weight"):
            return norm
        if name == f"{FINAL_NORM}.bias":
            return self._tied_factor()
        return 1.0

    @property
    def _stream(self) -> float:
        """What the stream is multiplied by: 1, or what keeps its mean square as the base's."""
        return 1 / self.plan.norm_factor if self.keeps_eps and self.plan.rescales_norms else 1.0

    def _tied_factor(self) -> float:
        """What the final norm takes over where the head is the embedding, which cannot be scaled for itself."""
        if HEAD in self.new or EMBEDDING not in self.new:
            return 1.0
        copies = self.plan.maps["d_model"].multiplicity
        scaled = copies * self._stream * self.before.embedding / self.after.embedding
        return self.before.logits / (self.after.logits * scaled)

    def _viewed(self, name: str) -> Parameter:
        """The base's parameter as this one sees it: an embedding becomes a head when it is untied."""
        source = self.source(name)
        spec = self.old[source]
        if name == HEAD and source == EMBEDDING:
            vocab, width = spec.axes
            return Parameter(((vocab,), (replace(width, role="in"),)), "head")
        return spec

    def _inherited(self, name: str, read: Read, side: Side, *, raw: bool = False) -> Tensor:
        """E W C' of what the base holds, or its dual; a mixture of its blocks where layers are learned."""
        plan, spec = self.plan, self._viewed(name)
        source = self.source(name)
        grown = grow_tensor(self._mixed(name, read, side), spec, plan.maps, side, raw=raw)
        if plan.operator == "aki" and (upper := self._upper(source)) and spec.kind in ("hidden", "bias"):
            above = grow_tensor(read(upper), spec, plan.maps, side, raw=raw)
            grown = torch.where(self._later_outputs(name), above, grown)
        if spec.kind == "gain" and side == "weight":
            return self._gain(name, grown, read(source))
        if spec.kind == "bias" and "norm" in name and side == "weight":  # a new shift would reach its readers
            return torch.where(self._new(name), torch.zeros_like(grown), grown)
        return grown

    def _later_outputs(self, name: str) -> Tensor:
        """Entries whose output is a second or later copy."""
        maps = self.plan.maps
        chosen = lambda axis: maps[axis.name].rank > 0 if axis.role == "out" and axis.name in maps else None  # noqa: E731
        return any_axis(self.new[name], chosen)

    def _mixed(self, name: str, read: Read, side: Side) -> Tensor:
        place, mix = self._place(name), self.plan.layers.mix
        if mix is None or place is None:
            return read(self.source(name))
        power = 2 if side == "second" else 1
        parts = [read(self._in_block(name, j)) * share**power for j, share in enumerate(mix[place])]
        return torch.stack(parts).sum(0)

    def _place(self, name: str) -> int | None:
        """Which of the repeated blocks a parameter belongs to; a network's begin behind its first layer."""
        _, number, _ = block_of(name)
        place = -1 if number is None else number - self._first_block
        return place if 0 <= place < len(self.plan.layers.source) else None

    def _in_block(self, name: str, place: int) -> str:
        """The same parameter in another block."""
        prefix, _, tail = block_of(name)
        return f"{prefix}{self._first_block + place}{tail}"

    @property
    def _first_block(self) -> int:
        return 0 if isinstance(self.plan.base, ModelShape) else 1

    def _upper(self, source: str) -> str:
        """The same tensor one block further up; nothing above the last."""
        prefix, number, tail = block_of(source)
        above = f"{prefix}{number + 1}{tail}" if number is not None else ""
        same = above in self.old and self.old[above].shape == self.old[source].shape
        return above if same else ""

    def _gain(self, name: str, grown: Tensor, base: Tensor) -> Tensor:
        """Gains of copies are copied, of new coordinates 1, of mixtures the mean that their squares weigh."""
        spec, plan = self.new[name], self.plan
        axis = spec.axes[0].name
        if isinstance(plan.maps.get(axis), Mixture):
            return plan.maps[axis].values(base, 0, power=2)
        # Divided by what the whole tensor is multiplied by later: a new gain is the norm's factor alone.
        tied = self._tied_factor() if name.startswith(FINAL_NORM) and plan.operator != "szp" else 1.0
        return torch.where(self._new(name), torch.full_like(grown, 1 / tied), grown)

    def _new(self, name: str) -> Tensor:
        """Which entries of a vector (a gain, a shift) are coordinates that copy nothing."""
        maps = self.plan.maps
        return any_axis(self.new[name], lambda axis: maps[axis.name].copies_nothing if axis.name in maps else None)

    def _silent_layer(self, name: str) -> bool:
        return self._place(name) in self.plan.layers.inserted

    def _silenced(self, name: str, grown: Tensor) -> Tensor:
        """Inserted layers change nothing: their last maps are zero, or (identity) gains and biases are.

        An inserted layer of a network is the identity itself: relu(I h) = h, since h is a relu's output.
        """
        if not self._silent_layer(name):
            return grown
        if isinstance(self.plan.base, MLPShape):
            return torch.eye(*grown.shape, dtype=grown.dtype) if grown.dim() == 2 else torch.zeros_like(grown)
        if self.plan.layers.silence == INSERTED_IDENTITY:
            silent = "layernorm" in name or name.endswith(".bias")
        else:
            silent = "o_proj" in name or "down_proj" in name
        return torch.zeros_like(grown) if silent else grown


def parameters_of(shape: Shape) -> dict[str, Parameter]:
    """Every parameter of a decoder or a network, by name."""
    return decoder_parameters(shape) if isinstance(shape, ModelShape) else mlp_parameters(shape)


def grower(base: RunConfig, plan: Plan) -> Grower:
    """What grows the checkpoints of a run."""
    config = target_config(base, plan)
    new = parameters_of(plan.target)
    return Grower(
        plan,
        parameters_of(plan.base),
        new,
        multipliers(base),
        multipliers(config),
        lambda name: first_values(name, new[name], config),
    )


def target_config(base: RunConfig, plan: Plan) -> RunConfig:
    """The target's config: the base's, with the target's shape, the epsilon its norms need and its own gamma.

    zero_pad multiplies the stream's mean square by n / n', so its epsilon shrinks alike; muP's base stays the
    base's, so rates and multipliers follow from the new widths.
    """
    if plan.arguments.gamma is not None:
        base = replace(base, init=replace(base.init, gamma=plan.arguments.gamma))
    if isinstance(plan.target, MLPShape):
        return replace(base, model=Network(plan.target))
    assert isinstance(base.model, Decoder)
    factor = plan.norm_factor**2 if plan.rescales_norms else 1.0
    return replace(base, model=replace(base.model, shape=plan.target, norm_eps=factor * base.model.norm_eps))


def grow_weights(weights: Tensors, base: RunConfig, plan: Plan) -> Tensors:
    """The target's weights. Raises KeyError if one of the base's is missing."""
    growing = grower(base, plan)
    return {name: growing.weight(name, weights.__getitem__) for name in growing.new}


def grow_moments(moments: Tensors, base: RunConfig, plan: Plan, side: Side) -> Tensors:
    """First or second moments of the target's weights, by parameter name; zero where nothing is inherited."""
    growing = grower(base, plan)
    return {name: growing.moment(name, moments.__getitem__, side) for name in growing.new}
