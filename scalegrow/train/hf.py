"""Grow a directory of transformers, block by block: read, checked, grown, verified, then given its name."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from scalegrow.atomic import new_folder, partial_of
from scalegrow.errors import InputError
from scalegrow.train.axes import Parameter
from scalegrow.train.blocks import WHOLE, grow_rows, row_blocks
from scalegrow.train.grow import EMBEDDING, HEAD, Grower
from scalegrow.train.hashes import file_hash
from scalegrow.train.hf_check import Text, check_structure, zero_step_kl
from scalegrow.train.hf_config import CONFIG, HFConfig, read_config
from scalegrow.train.hf_files import DTYPES, Shards, laid_out, open_shards, write_shards
from scalegrow.train.init import seed_of
from scalegrow.train.maps import Mixture
from scalegrow.train.operators import Plan

LINEAGE = "scalegrow.json"
FORMAT = 1
WRITERS = 4  # shards in memory at a time, a twentieth of the model each
BLOCK = 2**20  # numbers grown at a time: some megabytes, which caches hold
COPIED = (  # what goes along with the weights: the tokenizer, how to generate, the licence
    *(
        "tokenizer*",
        "vocab*",
        "merges.txt",
        "*.model",
        "*.tiktoken",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    *("chat_template*", "generation_config.json", "LICENSE*", "NOTICE*", "USE_POLICY*"),
)


@dataclass(frozen=True)
class HFBase:
    """A directory to grow: its config and tensors, found to fit each other."""

    folder: Path
    config: HFConfig
    shards: Shards


@dataclass(frozen=True)
class HFGrowth:
    """A base and a plan for it. Raises InputError for what a directory cannot give."""

    base: HFBase
    plan: Plan

    def __post_init__(self) -> None:
        if self.plan.operator == "ligo":
            raise InputError("ligo learns on training data, which a directory has not: choose another operator.")
        _ = self.target

    @cached_property
    def target(self) -> HFConfig:
        """The grown directory's config."""
        return self.base.config.grown(self.plan)

    @cached_property
    def grower(self) -> Grower:
        """What grows the tensors. Norms of QK share rms_norm_eps, so under them the stream is scaled instead."""
        old, new = self.base.config, self.target
        specs = new.parameters
        draw = lambda name: self.first_values(name, specs[name])  # noqa: E731
        shared = old.family.qk_norm
        return Grower(self.plan, old.parameters, specs, old.multipliers, new.multipliers, draw, keeps_eps=shared)

    def first_values(self, seed_name: str, spec: Parameter) -> Tensor:
        """Gains 1, biases 0, the rest normal of std initializer_range from (seed, name), float32."""
        if spec.kind in ("gain", "bias"):
            return torch.full(spec.shape, float(spec.kind == "gain"))
        generator = torch.Generator().manual_seed(seed_of(self.plan.arguments.seed, seed_name))
        return torch.empty(spec.shape).normal_(0, self.target.std, generator=generator)

    def layout(self, folder: Path, shard_bytes: int | None) -> Shards:
        """Where the grown tensors will lie, each in the type of the one it comes from."""
        stored, grower = self.base.shards.tensors, self.grower
        typed = {name: (stored[grower.source(name)].dtype, spec.shape) for name, spec in grower.new.items()}
        return laid_out(folder, typed, shard_bytes)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """A grown tensor in runs of rows, made in float32 (float64 stays) unless its own type holds every step."""
        stored = DTYPES[self.base.shards.tensors[self.grower.source(name)].dtype]
        used = stored if is_exact(self.grower, name) else torch.promote_types(stored, torch.float32)
        sources = {each: self.base.shards.read(each) for each in self.grower.sources(name)}
        read = lambda each, start, count: sources[each].narrow(0, start, count).to(used)  # noqa: E731
        for rows in row_blocks(self.grower, name, BLOCK):
            yield grow_rows(self.grower, name, rows, read, self.first_values).to(stored)


def open_base(folder: Path) -> HFBase:
    """A directory, checked without reading its weights (but for a tied head stored twice). Raises InputError."""
    config, shards = read_config(folder), open_shards(folder)
    if config.shape.tied and HEAD in shards.tensors:
        shards = _without_tied_head(shards)
    specs = config.parameters
    missing = [name for name in specs if name not in shards.tensors]
    if missing == [HEAD]:
        raise InputError(f"{folder} has no {HEAD}: restore it, or say tie_word_embeddings in {CONFIG}.")
    if missing:
        raise InputError(
            f"{folder} lacks {missing[0]} ({len(missing)} missing): restore its shard or correct {CONFIG}."
        )
    extra = sorted(name for name in shards.tensors if name not in specs)
    if extra:
        raise InputError(f"{folder} holds {extra[0]}, which {CONFIG} does not account for: correct one of them.")
    for name, spec in specs.items():
        if (found := shards.tensors[name].shape) != spec.shape:
            raise InputError(f"{folder}: {name} is {found}, but {CONFIG} says {spec.shape}: correct one of them.")
    return HFBase(folder, config, shards)


def grow_directory(
    base: HFBase,
    out: Path,
    plan: Plan,
    text: Text | None = None,
    *,
    shard_bytes: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Write `out`, the grown directory, and return its lineage. Raises InputError; then nothing is left.

    Memory: a shard for each thread, a twentieth of a large model; with a text, one whole model at a time.
    """
    growth, scratch = HFGrowth(base, plan), partial_of(out)
    written = growth.layout(scratch, shard_bytes)
    require_room(out, written)
    tokens = text.tokens(base.folder, base.config.shape.context) if text else None
    with replacing(out), ThreadPoolExecutor(2) as beside:
        (scratch / CONFIG).write_text(json.dumps(growth.target.raw, indent=2) + "\n")
        _copy_along(base.folder, scratch)
        parent, checked = beside.submit(parent_hashes, base), beside.submit(check_structure, written)

        def blocks(name: str) -> Iterator[Tensor]:
            if checked.done():  # a refusal ends the growth as soon as it is known
                checked.result()
            return growth.blocks(name)

        write_shards(written, blocks, threads or min(os.cpu_count() or 1, WRITERS))
        lineage = lineage_of(growth, parent.result()) | {"checked_with_transformers": checked.result()}
        open_base(scratch)
        if tokens is not None:
            lineage["zero_step_kl"] = zero_step_kl(base.folder, scratch, tokens)
        (scratch / LINEAGE).write_text(json.dumps({"format": FORMAT, **lineage}, indent=1) + "\n")
    return lineage


def is_exact(grower: Grower, name: str) -> bool:
    """Whether a parameter's growth only copies, drops or multiplies by powers of two: exact in any float type."""
    plan, axes = grower.plan, grower.new[name].axes
    mixed = any(isinstance(plan.maps[axis.name], Mixture) for axis in axes)
    if mixed or plan.operator in (*WHOLE, "szp"):
        return False
    shares = [plan.maps[axis.name].share for axis in axes if axis.role == "in"]
    factors = np.concatenate([[abs(grower.factor(name))], *shares])
    return bool((np.frexp(factors[factors != 0])[0] == 0.5).all())


def lineage_of(growth: HFGrowth, parent: dict[str, str]) -> dict[str, Any]:
    """Where a grown directory comes from. Growth factors are counted from the tensors, biases included."""
    plan, old, new = growth.plan, growth.grower.old, growth.grower.new
    return {
        "parent": {"sha256": parent, "n_params": _count(old), "model_type": growth.target.raw["model_type"]},
        "operator": plan.operator,
        "depth_operator": plan.depth_operator,
        "arguments": vars(plan.arguments),
        "layers": list(plan.layers.source),
        "axes": {name: [grown.n, grown.size] for name, grown in plan.maps.items() if grown.size != grown.n},
        "n_params": _count(new),
        "moments": "none: a directory of transformers holds weights alone",
        "g_params": _count(new) / _count(old),
        "g_non_embedding": _count(new, tables=False) / _count(old, tables=False),
        "g_width": growth.target.shape.d_model / growth.base.config.shape.d_model,
    }


def parent_hashes(base: HFBase) -> dict[str, str]:
    """SHA-256 of config.json and of every shard, by file name: the same wherever the directory lies."""
    return {path.name: file_hash(path) for path in (base.folder / CONFIG, *base.shards.files)}


def require_room(out: Path, written: Shards) -> None:
    """Raise InputError where `out` is there already or the disk cannot hold it."""
    if not out.name or "\0" in str(out):
        raise InputError(f"{str(out)!r} is no name for a new folder: give another.")
    if out.exists():
        raise InputError(f"{out} is there already: choose another place.")
    parent = next(each for each in (out.absolute().parent, *out.absolute().parents) if each.exists())
    needed, free = written.n_bytes, shutil.disk_usage(parent).free
    if needed > free:
        raise InputError(f"{out} needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} are free: choose another disk.")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes `out`. Raises InputError where it cannot be written; then nothing is left."""
    try:
        with new_folder(out) as scratch:
            yield scratch
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{out} cannot be written ({reason}): mend that and grow again.") from None


def _without_tied_head(shards: Shards) -> Shards:
    """A tied head may be stored a second time, if it is the embedding."""
    head, embedding = (shards.tensors.get(name) for name in (HEAD, EMBEDDING))
    alike = head and embedding and (head.shape, head.dtype) == (embedding.shape, embedding.dtype)
    if not alike or not torch.equal(shards.read(HEAD), shards.read(EMBEDDING)):
        raise InputError(
            f"{shards.folder}: {CONFIG} ties the head, but it is stored as another: correct one of them."
        )
    return replace(shards, tensors={name: each for name, each in shards.tensors.items() if name != HEAD})


def _copy_along(folder: Path, scratch: Path) -> None:
    for path in {path for pattern in COPIED for path in folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, scratch / path.name)


def _count(specs: dict[str, Parameter], *, tables: bool = True) -> int:
    return sum(spec.n_elements for name, spec in specs.items() if tables or name not in (EMBEDDING, HEAD))
