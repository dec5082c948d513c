"""RunConfig: everything that decides a training run, as one frozen value that goes to JSON and back.

Symbols: N parameters, D tokens (or samples), B sequences a step, T context, eta learning rate.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from scalegrow.budget import Budget
from scalegrow.errors import InputError
from scalegrow.runs.fields import build
from scalegrow.shape import MLPShape, ModelShape

ScheduleKind = Literal["wsd", "cosine", "constant"]
LARGEST_MULTIPLIER = 1e6
LARGEST_GAMMA = 4.0
WATCHING = ("budgets", "evaluation", "checkpoint_seconds", "log_every")  # these decide no weights


@dataclass(frozen=True)
class Decoder:
    """A Llama-family decoder: its shape and what adds no parameter."""

    shape: ModelShape
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _require(0 < self.norm_eps < 1, "model.norm_eps", self.norm_eps, "a number between 0 and 1, such as 1e-5")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a probability below 1")
        _require(1 < self.rope_theta < math.inf, "model.rope_theta", self.rope_theta, "a number above 1")


@dataclass(frozen=True)
class Network:
    """A dense ReLU network for regression."""

    shape: MLPShape


@dataclass(frozen=True)
class Parametrisation:
    """muP or the standard one, and the multipliers both may set (named as in Granite checkpoints).

    muP is relative to a base: a model of `base_width` (and d_ff of `base_ff`, heads of `base_head_dim`) is the
    same in both parametrisations, and a hyper-parameter tuned there holds at every width (Yang et al. 2022,
    arXiv 2203.03466, tables 3 and 8). None stands for the usual value: base_ff = 8/3 (SwiGLU) or 4 base_width,
    base_head_dim = head_dim, attention_multiplier = head_dim^-1/2 at the base.
    """

    kind: Literal["mup", "standard"] = "mup"
    base_width: int = 64
    base_ff: int | None = None
    base_head_dim: int | None = None
    embedding_multiplier: float = 1.0
    attention_multiplier: float | None = None
    residual_multiplier: float = 1.0
    logit_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for name in ("base_width", "base_ff", "base_head_dim"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"parametrisation.{name}", value, "a whole number above 0")
        for name in ("embedding", "attention", "residual", "logit"):
            value = getattr(self, f"{name}_multiplier")
            known = value is None or 0 < value <= LARGEST_MULTIPLIER
            _require(known, f"parametrisation.{name}_multiplier", value, "a factor above 0, such as 1")


@dataclass(frozen=True)
class Init:
    """gamma-initialisation: W ~ N(0, std^2) with std = fan_in^-gamma (arXiv 2606.17945).

    gamma = 0.5 is the standard scale, 1 the small one. `embedding`, `hidden` and `head` say which rule that
    kind of matrix follows: "gamma" (the knob above), "gamma:0.7" (its own), "std:0.02" (as GPT-2). An
    embedding's fan_in is the width, d_model. depth_scaled divides what writes to the residual stream by
    sqrt(2 L), as GPT-2 does. Gains start at 1, biases at 0.
    """

    gamma: float = 0.5
    embedding: str = "gamma"
    hidden: str = "gamma"
    head: str = "gamma"
    depth_scaled: bool = False

    def __post_init__(self) -> None:
        known = 0 <= self.gamma <= LARGEST_GAMMA
        _require(known, "init.gamma", self.gamma, "a number from 0 to 4: 0.5 is standard, 1 small")
        for name in ("embedding", "hidden", "head"):
            self.rule(name)

    def rule(self, kind: str) -> tuple[Literal["gamma", "std"], float]:
        """("gamma", 0.5) or ("std", 0.02) for embedding, hidden or head. Raises InputError."""
        text = str(getattr(self, kind))
        name, colon, number = text.partition(":")
        try:
            value = float(number) if colon else self.gamma
        except ValueError:
            value = math.nan
        if name not in ("gamma", "std") or (name == "std" and not colon) or not 0 <= value < math.inf:
            raise InputError(f"init.{kind} = {text!r} is no rule: write gamma, gamma:0.7 or std:0.02.")
        return ("gamma" if name == "gamma" else "std"), value


def epsilon_gamma(norm_eps: float, width: int) -> float:
    """gamma_eps = -ln(eps) / (2 ln d): from here on embeddings of std d^-gamma drown in the norm's epsilon.

    Their mean square d^(-2 gamma) falls below eps and the norm stops normalising (arXiv 2606.17945 names the
    effect; 0.83 at eps 1e-5 and d = 1024). Raises InputError unless 0 < eps < 1.
    """
    _require(0 < norm_eps < 1, "norm_eps", norm_eps, "a number between 0 and 1, such as 1e-5")
    return -math.log(norm_eps) / (2 * math.log(width)) if width > 1 else math.inf


@dataclass(frozen=True)
class Optimiser:
    """AdamW (Loshchilov & Hutter 2019), its decay multiplied by the learning rate; gradients clipped by norm.

    lr is the peak at the parametrisation's base width. clip = 0 turns clipping off. clip_mode growth_invariant
    weighs each tensor's square by its learning rate over its epsilon, both relative: the norm that copying units
    does not change, where the plain one does.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    clip_mode: Literal["norm", "growth_invariant"] = "norm"

    def __post_init__(self) -> None:
        _require(0 < self.lr < math.inf, "optimiser.lr", self.lr, "a number above 0, such as 0.01")
        for name in ("beta1", "beta2"):
            _require(
                0 <= getattr(self, name) < 1, f"optimiser.{name}", getattr(self, name), "below 1, such as 0.9"
            )
        for name in ("eps", "weight_decay", "clip"):
            _require(0 <= getattr(self, name) < math.inf, f"optimiser.{name}", getattr(self, name), "0 or above")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then: wsd, constant with a linear decay over the last `decay` of the budget (one trunk
    serves every budget); cosine, down over the whole budget; constant, no decay.

    warmup is a budget ("0.5tpp", "100k tokens"), the same for every budget of a trunk. The decay ends at `final` x
    the peak.
    """

    kind: ScheduleKind = "wsd"
    warmup: str = "0.5tpp"
    decay: float = 0.2
    final: float = 0.0

    def __post_init__(self) -> None:
        _require(self.kind in get_args(ScheduleKind), "schedule.kind", self.kind, "wsd, cosine or constant")
        _require(0 < self.decay <= 1, "schedule.decay", self.decay, "a share of the budget above 0, such as 0.2")
        _require(0 <= self.final <= 1, "schedule.final", self.final, "a share of the peak from 0 to 1")
        Budget.parse(self.warmup)


@dataclass(frozen=True)
class Data:
    """Where tokens come from and in which order.

    source is "stories" (the built-in language), "regression" (for networks), a text, jsonl or parquet file or
    folder, or "hub:owner/name[:split]". seed decides the order; language_seed the stories' facts.
    """

    source: str = "stories"
    seed: int = 0
    tokenizer: str | None = "bpe:1024"
    column: str | None = None
    revision: str | None = None
    validation_fraction: float = 0.05
    language_seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The fixed held-out set: how many sequences, and how many evaluations of a trunk (evenly spaced).

    lags are steps at which the whole set is read too and a checkpoint stays. structure adds to every evaluation
    clusters and effective rank of the neurons, and the share of attention that goes to the first token.
    token_groups reports losses on text by kind of token too (train/token_groups.py).
    """

    sequences: int = 512
    times: int = 20
    lags: tuple[int, ...] = ()
    structure: bool = False
    token_groups: bool = False

    def __post_init__(self) -> None:
        _require(2 <= self.sequences <= 10**7, "evaluation.sequences", self.sequences, "2 to 10 million")
        _require(1 <= self.times <= 10**5, "evaluation.times", self.times, "1 to 100,000")
        ascending = sorted({*self.lags}) == [*self.lags] and all(1 <= lag <= 10**9 for lag in self.lags)
        _require(ascending, "evaluation.lags", self.lags, "ascending steps, such as [16, 128]")


@dataclass(frozen=True)
class Rate:
    """AdamW's settings of the parameters of one name in every layer, relative to the optimiser's own."""

    parameter: str
    lr: float
    weight_decay: float
    eps: float

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "eps"):
            _require(0 < getattr(self, name) < math.inf, f"rate.{name}", getattr(self, name), "a factor above 0")


@dataclass(frozen=True)
class Start:
    """A grown checkpoint that a run starts from, and what the run table says of it.

    sha256 and moments_sha256 are of its weights and moments, whatever the folder is called. optimiser_step is
    Adam's counter, 0 where the moments were reset. base is the run that the base came from. schedule says
    where the learning rate begins (restart, rewarm, continue), first_item how many of the data the base has
    seen and this run skips; rates, where there are any, stand instead of the parametrisation's.
    """

    checkpoint: str
    sha256: str
    moments_sha256: str
    optimiser_step: int
    operator: str
    base: str
    base_params: float
    base_tokens: float
    growth_factor: float
    growth_factor_non_embedding: float
    growth_factor_width: float
    depth_operator: str = ""
    moments: str = ""
    schedule: Literal["restart", "rewarm", "continue"] = "restart"
    first_item: int = 0
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        for name in ("optimiser_step", "base_tokens", "first_item"):
            _require(0 <= getattr(self, name) < 2**63, f"start.{name}", getattr(self, name), "0 or above")
        for name in ("base_params", "growth_factor", "growth_factor_non_embedding", "growth_factor_width"):
            _require(0 < getattr(self, name) < math.inf, f"start.{name}", getattr(self, name), "a number above 0")
        names = [rate.parameter for rate in self.rates]
        _require(len({*names}) == len(names), "start.rates", names, "each parameter once")


@dataclass(frozen=True)
class RunConfig:
    """One run: a trunk and a cool-down for each of its budgets.

    budgets as people write them ("20tpp", "2M tokens"), ascending. batch is B, sequences a step. seed decides
    the initial weights and the dropout; data.seed the order of the data.
    """

    model: Decoder | Network
    budgets: tuple[str, ...]
    batch: int
    seed: int = 0
    parametrisation: Parametrisation = field(default_factory=Parametrisation)
    init: Init = field(default_factory=Init)
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    data: Data = field(default_factory=Data)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint_seconds: float = 60.0
    log_every: int = 10
    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    start: Start | None = None

    def __post_init__(self) -> None:
        _require(self.batch >= 1, "batch", self.batch, "a whole number of sequences above 0")
        _require(self.log_every >= 1, "log_every", self.log_every, "a whole number of steps above 0")
        _require(self.checkpoint_seconds > 0, "checkpoint_seconds", self.checkpoint_seconds, "above 0")
        for name, seed in (
            ("seed", self.seed),
            ("data.seed", self.data.seed),
            ("data.language_seed", self.data.language_seed),
        ):
            _require(0 <= seed < 2**63, name, seed, "a whole number from 0 to 2^63 - 1")
        if not self.budgets:
            raise InputError("the run has no budget: give one, such as 20tpp.")
        steps = [self.steps(budget) for budget in self.budgets]
        if sorted(set(steps)) != steps:
            raise InputError(f"budgets {', '.join(self.budgets)} do not ascend: give each once, smallest first.")

    @property
    def tokens_per_step(self) -> int:
        """B T for a decoder, B samples for a network."""
        return self.batch * (self.model.shape.context if isinstance(self.model, Decoder) else 1)

    @property
    def first_item(self) -> int:
        """Which item of the data the first step begins with: behind what a grown run's base has seen."""
        return self.start.first_item if self.start else 0

    def steps(self, budget: str) -> int:
        """Whole steps nearest to a budget, at least 1."""
        wanted = Budget.parse(budget)
        return max(round(wanted.tokens(self.model.shape.n_params) / self.tokens_per_step), 1)

    def with_budgets(self, more: Iterable[str]) -> "RunConfig":
        """The same run to these budgets too; of two that come to the same steps, its own."""
        by_steps = {self.steps(budget): budget for budget in (*more, *self.budgets)}
        return dataclasses.replace(self, budgets=tuple(by_steps[steps] for steps in sorted(by_steps)))

    @property
    def flops_per_token(self) -> int:
        """6 N: training FLOPs of a token, or of a sample."""
        shape = self.model.shape
        return shape.flops_per_token if isinstance(shape, ModelShape) else shape.flops_per_sample

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a run log's header."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "RunConfig":
        """The config again. Raises InputError on unknown keys, wrong types and values out of range."""
        return build(cls, data, "config")

    def digest(self) -> str:
        """SHA-256 of what decides the weights at any step, its first 16 digits: one digest, one run.

        Budgets are not among it: they say where branches leave the trunk; nor is what only watches.
        """
        deciding = {key: value for key, value in self.to_dict().items() if decides(key)}
        if deciding["start"]:
            del deciding["start"]["checkpoint"]
        else:
            del deciding["start"]
        text = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def decides(setting: str) -> bool:
    """Whether a setting, by its dotted name, decides any weight: it does unless it only watches."""
    return setting.partition(".")[0] not in WATCHING


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise InputError(f"{name} = {value!r} is out of range: give {wanted}.")
