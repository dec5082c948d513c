"""config.json of a Llama-family directory: what it says of shape, parameters and multipliers, and the target's.

A target's config is the base's with the sizes that grew; all else (context, windows, token ids) goes through.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.shape import ModelShape
from scalegrow.train.axes import Parameter, decoder_parameters
from scalegrow.train.mup import Multipliers
from scalegrow.train.operators import Plan

CONFIG = "config.json"
ATTENTION, QUERIES = ("q_proj", "k_proj", "v_proj", "o_proj"), ("q_proj", "k_proj", "v_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
SIZES = {  # of config.json, by ours
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
}
# Rotary frequencies theta^(-2 i / head_dim), each scaled on its own or not: old pair i can stand at pair k i.
STRIDED_ROPE = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Family:
    """What a model_type decides without saying it: biases (by flag, or always), QK-norm, default sizes."""

    biases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    qk_norm: bool = False
    kv_heads: bool = False  # whether num_key_value_heads may be left out, then being num_attention_heads
    head_dim: int | None = None  # where config.json has none; None for hidden_size / num_attention_heads
    multiplied: bool = False  # Granite's four multipliers


FLAGGED = (("attention_bias", ATTENTION), ("mlp_bias", FEED_FORWARD))
FAMILIES = {
    "llama": Family(FLAGGED, kv_heads=True),
    "mistral": Family(),
    "qwen2": Family((("", QUERIES),)),
    "qwen3": Family(FLAGGED[:1], qk_norm=True, head_dim=128),
    "granite": Family(FLAGGED, kv_heads=True, multiplied=True),
}


@dataclass(frozen=True)
class HFConfig:
    """A config.json, understood."""

    raw: dict[str, Any]
    shape: ModelShape

    @property
    def family(self) -> Family:
        """What its model_type decides."""
        return FAMILIES[self.raw["model_type"]]

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by name: our decoder's, and the biases that the family has."""
        found: dict[str, Parameter] = {}
        for name, spec in decoder_parameters(self.shape).items():
            found[name] = spec
            if name.removesuffix(".weight").rpartition(".")[2] in self._biased:
                bias = Parameter(spec.dimensions[:1], "bias", spec.writes_residual)
                found[name.replace(".weight", ".bias")] = bias
        return found

    @property
    def multipliers(self) -> Multipliers:
        """Granite's from its config; everyone else's are 1, and head_dim^-1/2 for attention."""
        if not self.family.multiplied:
            return Multipliers(1.0, self.shape.head_dim**-0.5, 1.0, 1.0)
        return Multipliers(
            embedding=positive(self.raw, "embedding_multiplier", 1.0),
            attention=positive(self.raw, "attention_multiplier", 1.0),
            residual=positive(self.raw, "residual_multiplier", 1.0),
            logits=1 / positive(self.raw, "logits_scaling", 1.0),
        )

    @property
    def eps(self) -> float:
        """Of every norm."""
        return positive(self.raw, "rms_norm_eps", 1e-6)

    @property
    def std(self) -> float:
        """Of first weights."""
        return positive(self.raw, "initializer_range", 0.02)

    @property
    def layer_types(self) -> list[str] | None:
        """Which layers attend within a window, one by one; None where all are alike and nothing says so."""
        told, n = self.raw.get("layer_types"), self.shape.n_layers
        if told is not None:
            return list(told)
        if not self.raw.get("use_sliding_window"):
            return None
        first = self.raw.get("max_window_layers", 28)
        return ["sliding_attention" if layer >= first else "full_attention" for layer in range(n)]

    def grown(self, plan: Plan) -> "HFConfig":
        """The target's. Raises InputError where head_dim grows under rotary scaling that depends on it."""
        assert isinstance(plan.target, ModelShape)
        if plan.target.head_dim != self.shape.head_dim:
            self._require_strided_rope()
        sizes = {key: getattr(plan.target, name) for name, key in SIZES.items()}
        raw = self.raw | sizes | {"tie_word_embeddings": plan.target.tied}
        if "head_dim" in self.raw or plan.target.head_dim * plan.target.n_heads != plan.target.d_model:
            raw["head_dim"] = plan.target.head_dim
        if plan.norm_factor != 1 and plan.rescales_norms and not self.family.qk_norm:
            raw["rms_norm_eps"] = plan.norm_factor**2 * self.eps
        if plan.target.n_layers != self.shape.n_layers and (types := self.layer_types):
            raw["layer_types"] = [types[source] for source in plan.layers.source]
        return HFConfig(raw, plan.target)

    @property
    def _biased(self) -> tuple[str, ...]:
        """Linear maps with a bias."""
        return tuple(
            name for flag, names in self.family.biases if not flag or self.raw.get(flag) for name in names
        )

    def _require_strided_rope(self) -> None:
        told = self.raw.get("rope_parameters") or self.raw.get("rope_scaling") or {}
        kind = told.get("rope_type", told.get("type", "default"))
        partial = told.get("partial_rotary_factor", self.raw.get("partial_rotary_factor", 1.0))
        if kind not in STRIDED_ROPE or partial != 1 or any(isinstance(each, dict) for each in told.values()):
            raise InputError(
                f"rotary frequencies of kind {kind!r} depend on head_dim: keep {self.shape.head_dim}, grow heads."
            )


def read_config(folder: Path) -> HFConfig:
    """config.json of a directory. Raises InputError where it is missing, broken or of another family."""
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{folder} has no readable {CONFIG}: give a directory of transformers.") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds no JSON object: restore it.")
    return understood(raw, path)


def understood(raw: dict[str, Any], path: Path) -> HFConfig:
    """A config's fields, checked. Raises InputError; path is for its line."""
    kind = raw.get("model_type")
    if kind not in FAMILIES:
        raise InputError(f"{path}: model_type {kind!r} is unknown here: grow {', '.join(FAMILIES)}.")
    heads = [each for each in raw.get("architectures") or () if not str(each).endswith("ForCausalLM")]
    if heads:
        raise InputError(f"{path}: {heads[0]} is no language model: give the directory of the CausalLM.")
    if "quantization_config" in raw:
        raise InputError(f"{path}: these weights are quantised, and growing needs them whole: dequantise first.")
    if raw.get("hidden_act", "silu") != "silu":
        raise InputError(f"{path}: hidden_act {raw['hidden_act']!r} is not Llama's: only silu can be grown.")
    tied = raw.get("tie_word_embeddings", False)
    try:
        found = HFConfig(raw, _shape(raw, FAMILIES[kind], tied))
        types = found.layer_types
        _ = found.multipliers, found.eps, found.std
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if types is not None and len(types) != found.shape.n_layers:
        raise InputError(f"{path}: {len(types)} layer_types for {found.shape.n_layers} layers: restore it.")
    return found


def _shape(raw: dict[str, Any], family: Family, tied: bool) -> ModelShape:
    raw = dict(raw)
    if raw.get("num_key_value_heads") is None and family.kv_heads:
        raw["num_key_value_heads"] = raw.get("num_attention_heads")
    missing = [name for name in SIZES.values() if type(raw.get(name)) is not int or raw[name] < 1]
    if missing:
        raise InputError(f"{missing[0]} is {raw.get(missing[0])!r}: give a whole number above 0.")
    head_dim = raw.get("head_dim") or family.head_dim
    if head_dim is None and raw["hidden_size"] % raw["num_attention_heads"]:
        raise InputError("hidden_size is no multiple of num_attention_heads: give head_dim.")
    return ModelShape(
        **{name: raw[key] for name, key in SIZES.items()},
        head_dim=head_dim or raw["hidden_size"] // raw["num_attention_heads"],
        tied=tied,
        context=raw.get("max_position_embeddings", 2048),
        qk_norm=family.qk_norm,
    )


def positive(raw: dict[str, Any], name: str, default: float) -> float:
    """A factor above 0. Raises InputError."""
    value = raw.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{name} is {value!r}: give a number above 0.")
    return float(value)


def scaled_shape(base: ModelShape, wanted: float) -> ModelShape:
    """The base with about so many parameters, wider at the same depth.

    Key-value heads, d_model and d_ff widen by one ratio as nearly as whole heads allow; d_ff, in steps of the
    base's largest power of two up to 64, meets the count.
    """
    factor = wanted / base.n_params
    candidates = [
        _meeting(base, kv, wanted) for kv in range(base.n_kv_heads, math.ceil(base.n_kv_heads * factor) + 1)
    ]
    return min(candidates, key=lambda shape: _unevenness(base, shape))


def _meeting(base: ModelShape, kv_heads: int, wanted: float) -> ModelShape:
    """So many key-value heads, d_model in proportion, and the d_ff that comes nearest to the count."""
    group, step = base.n_heads // base.n_kv_heads, math.gcd(base.d_ff, 64)
    width = base.d_model * kv_heads // base.n_kv_heads
    wide = replace(base, d_model=width, n_kv_heads=kv_heads, n_heads=kv_heads * group, d_ff=step)
    per_step = 3 * width * step * base.n_layers
    steps = round((wanted - wide.n_params) / per_step) + 1
    return replace(wide, d_ff=max(steps * step, base.d_ff))


def _unevenness(base: ModelShape, shape: ModelShape) -> float:
    return abs(math.log((shape.d_ff / base.d_ff) / (shape.d_model / base.d_model)))
