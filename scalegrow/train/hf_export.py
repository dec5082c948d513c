"""Our decoders as directories of transformers: Granite keeps the multipliers, Llama and Qwen3 have them folded in.

Symbols: c what embeddings are multiplied by, r what residual writes are, s the stream's scale.
A fold is exact: attention a goes into queries (x a sqrt(head_dim)), r s into o_proj and down_proj, c s into the
table, logits into the final gain; where the head is the table, that gain takes 1 / (c s) too. Qwen3 has one
epsilon for stream and QK-norm: the stream is scaled by s so that its norms, with QK-norm's epsilon, put out the
same.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from scalegrow.atomic import partial_of
from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.finish import times
from scalegrow.train.grow import EMBEDDING, FINAL_NORM
from scalegrow.train.hf import FORMAT, LINEAGE, replacing, require_room
from scalegrow.train.hf_check import check_structure
from scalegrow.train.hf_config import CONFIG, SIZES
from scalegrow.train.hf_files import laid_out, write_shards
from scalegrow.train.model import QK_NORM_EPS
from scalegrow.train.mup import multipliers
from scalegrow.train.state import read_facts, read_weights

Format = Literal["llama", "qwen3", "granite"]
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "granite": "GraniteForCausalLM"}


def export_checkpoint(checkpoint: Path, out: Path, asked: str = "auto") -> dict[str, Any]:
    """Write `out`, a directory of transformers with the logits of one of our checkpoints; what was done.

    asked: llama, qwen3, granite, or auto: Granite unless there is nothing to multiply by, so that tensors stay as
    they were trained; Qwen3 for QK-norm. Raises InputError for what the family cannot say; then nothing is left.
    """
    facts = read_facts(checkpoint)
    config = RunConfig.from_dict(facts["config"])
    if not isinstance(config.model, Decoder):
        raise InputError(f"{checkpoint} holds a dense network: transformers has no such model.")
    kind = chosen_format(config, asked)
    weights = read_weights(checkpoint, facts, decoder_parameters(config.model.shape))
    factors = dict.fromkeys(weights, 1.0) if kind == "granite" else fold(config, kind, list(weights))
    scratch = partial_of(out)
    written = laid_out(scratch, {name: ("F32", tuple(tensor.shape)) for name, tensor in weights.items()})
    require_room(out, written)
    lineage: dict[str, Any] = {
        "exported": {
            "sha256": facts["sha256"],
            "run": config.digest(),
            "step": facts["step"],
            "tokens": facts["tokens"],
        },
        "architecture": ARCHITECTURES[kind],
        "folded": sorted(name for name, factor in factors.items() if factor != 1),
    }
    with replacing(out):
        (scratch / CONFIG).write_text(json.dumps(described(config, kind), indent=2) + "\n")
        part = lambda name: [_exported(weights[name], factors[name])]  # noqa: E731
        write_shards(written, part)
        lineage |= {"checked_with_transformers": check_structure(written)}
        (scratch / LINEAGE).write_text(json.dumps({"format": FORMAT, **lineage}, indent=1) + "\n")
    return lineage


def chosen_format(config: RunConfig, asked: str) -> Format:
    """The architecture to export to. Raises InputError that names what it cannot say."""
    assert isinstance(config.model, Decoder)
    shape = config.model.shape
    plain = all(factor == 1 for factor in fold(config, "llama", list(decoder_parameters(shape))).values())
    if asked not in (*get_args(Format), "auto"):
        raise InputError(f"format {asked!r} is unknown: choose auto, {', '.join(get_args(Format))}.")
    usual = "qwen3" if shape.qk_norm else "llama" if plain else "granite"
    kind: Format = usual if asked == "auto" else asked  # type: ignore[assignment]
    if unsaid := [what for what, differs in _unsaid(shape, kind).items() if differs]:
        raise InputError(f"{ARCHITECTURES[kind]} has no {' and no '.join(unsaid)}: it cannot hold this decoder.")
    return kind


def _unsaid(shape: ModelShape, kind: Format) -> dict[str, bool]:
    """What an architecture lacks, and whether a shape has it."""
    return {
        "LayerNorm": shape.norm != "rmsnorm",
        "GELU feed-forward": shape.mlp != "swiglu",
        "learned positions": shape.positions != "rope",
        "attention gates": shape.gate != "none",
        "QK-norm": shape.qk_norm and kind != "qwen3",
        "attention without QK-norm": not shape.qk_norm and kind == "qwen3",
        "biases in its feed-forward": shape.biases and kind == "qwen3",
    }


def described(config: RunConfig, kind: Format) -> dict[str, Any]:
    """config.json."""
    assert isinstance(config.model, Decoder)
    model, shape, scale = config.model, config.model.shape, multipliers(config)
    found: dict[str, Any] = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        **{key: getattr(shape, name) for name, key in SIZES.items()},
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": QK_NORM_EPS if kind == "qwen3" else model.norm_eps,
        "rope_theta": model.rope_theta,
        "tie_word_embeddings": shape.tied,
        "attention_bias": shape.biases,
        "bos_token_id": None,
        "eos_token_id": None,
        "torch_dtype": "float32",
    }
    if kind != "qwen3":
        found["mlp_bias"] = shape.biases
    if kind == "granite":
        found |= {
            "embedding_multiplier": scale.embedding,
            "attention_multiplier": scale.attention,
            "residual_multiplier": scale.residual,
            "logits_scaling": 1 / scale.logits,
        }
    return found


def fold(config: RunConfig, kind: Format, names: list[str]) -> dict[str, float]:
    """What each tensor is multiplied by, so that an architecture without multipliers has the same logits."""
    assert isinstance(config.model, Decoder)
    shape, scale = config.model.shape, multipliers(config)
    stream = math.sqrt(QK_NORM_EPS / config.model.norm_eps) if kind == "qwen3" else 1.0
    table = scale.embedding * stream
    queries = scale.attention * math.sqrt(shape.head_dim)
    factors = {
        "q_norm" if shape.qk_norm else "q_proj": queries,
        "o_proj": scale.residual * stream,
        "down_proj": scale.residual * stream,
        EMBEDDING: table,
        f"{FINAL_NORM}.weight": scale.logits / (table if shape.tied else 1.0),
    }
    used = {part: factor for part, factor in factors.items() if not math.isclose(factor, 1, rel_tol=1e-12)}
    return {name: math.prod(factor for part, factor in used.items() if part in name) for name in names}


def _exported(tensor: Tensor, factor: float) -> Tensor:
    return times(tensor.double(), factor).float() if factor != 1 else tensor
