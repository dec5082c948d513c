"""Safetensors shards: read one tensor at a time, filled part by part and written one shard a thread."""

import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scalegrow.atomic import sync
from scalegrow.errors import InputError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS, LEAST_SHARD, LARGEST_SHARD = 20, 2**26, 5 * 10**9  # how many, and the bounds of their bytes
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ROTARY = re.compile(r".*rotary_emb\.inv_freq")  # a buffer that old Llama checkpoints hold; nobody reads it
NOT_SAFETENSORS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Stored:
    """A tensor on disk."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return int(torch.Size(self.shape).numel()) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Shards:
    """A directory's tensors by name; none is in memory."""

    folder: Path
    tensors: dict[str, Stored]

    @property
    def files(self) -> list[Path]:
        """Every shard, in order of name."""
        return sorted({stored.file for stored in self.tensors.values()})

    @property
    def n_bytes(self) -> int:
        """All tensors together."""
        return sum(stored.n_bytes for stored in self.tensors.values())

    def read(self, name: str) -> Tensor:
        """A tensor whose numbers are read when they are used: its file is mapped for as long as it lives."""
        with safe_open(self.tensors[name].file, "pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor


def open_shards(folder: Path) -> Shards:
    """The tensors that a directory's index and shards agree on. Raises InputError where they do not."""
    placed = _index(folder)
    tensors: dict[str, Stored] = {}
    for file in sorted(set(placed.values())) if placed else [WEIGHTS]:
        for name, stored in _header(folder / file).items():
            if name in tensors:
                raise InputError(
                    f"{folder}: {name} is in two shards, {tensors[name].file.name} and {file}: remove one."
                )
            if placed and placed.get(name) != file:
                raise InputError(f"{folder}: {name} is in {file}, but {INDEX} says otherwise: write both anew.")
            tensors[name] = stored
    lost = [name for name in placed if name not in tensors]
    if lost:
        raise InputError(f"{folder}: {lost[0]} is not in {placed[lost[0]]}, as {INDEX} says: restore that shard.")
    return Shards(folder, {name: stored for name, stored in tensors.items() if not ROTARY.fullmatch(name)})


def _index(folder: Path) -> dict[str, str]:
    """Tensor to file, where there is an index. Raises InputError where there are no safetensors at all."""
    if not (folder / INDEX).exists():
        if (folder / WEIGHTS).exists():
            return {}
        other = [path.name for pattern in NOT_SAFETENSORS for path in sorted(folder.glob(pattern))]
        hint = f"{other[0]} is no safetensors file: load it and save_pretrained it" if other else "restore it"
        raise InputError(f"{folder} has neither {WEIGHTS} nor {INDEX}; {hint}.")
    try:
        found = json.loads((folder / INDEX).read_text())["weight_map"]
        assert found
        assert all(re.fullmatch(r"[^/\\]+\.safetensors", file) for file in found.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise InputError(f"{folder / INDEX} is no index of shards beside it: restore it.") from None
    return dict(found)


def _header(path: Path) -> dict[str, Stored]:
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {
                name: Stored(path, each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()
            }
    except FileNotFoundError:
        raise InputError(f"{path} is missing: fetch that shard.") from None
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}): fetch that shard anew.") from None
    for name, stored in found.items():
        if stored.dtype not in DTYPES:
            raise InputError(
                f"{path}: {name} is {stored.dtype}: growing takes {', '.join(DTYPES)}; dequantise first."
            )
    return found


def laid_out(
    folder: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], shard_bytes: int | None = None
) -> Shards:
    """Where tensors of these types and shapes will lie: in about SHARDS shards, or in shards of so many bytes.

    A shard holds a tensor at least.
    """
    total = sum(Stored(folder, *each).n_bytes for each in tensors.values())
    limit = shard_bytes or min(max(total // SHARDS + 1, LEAST_SHARD), LARGEST_SHARD)
    groups: list[list[str]] = [[]]
    filled = 0
    for name, (dtype, shape) in tensors.items():
        size = Stored(folder, dtype, shape).n_bytes
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    many = len(groups) > 1
    files = [
        f"model-{i:05d}-of-{len(groups):05d}.safetensors" if many else WEIGHTS for i in range(1, len(groups) + 1)
    ]
    placed = {name: file for file, names in zip(files, groups, strict=True) for name in names}
    return Shards(folder, {name: Stored(folder / placed[name], *tensors[name]) for name in tensors})


def write_shards(shards: Shards, parts: Callable[[str], Iterable[Tensor]], threads: int = 1) -> None:
    """Write a layout, each tensor from its runs of rows: shards by several threads, forced to disk; the index."""
    names: dict[Path, list[str]] = {}
    for name, stored in shards.tensors.items():
        names.setdefault(stored.file, []).append(name)
    stop = Event()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        writing = [pool.submit(_write_shard, shards, file, held, parts, stop) for file, held in names.items()]
        try:
            for each in as_completed(writing):
                each.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    if len(names) > 1:
        placed = {name: stored.file.name for name, stored in shards.tensors.items()}
        index = {"metadata": {"total_size": shards.n_bytes}, "weight_map": placed}
        (shards.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _write_shard(
    shards: Shards, file: Path, names: list[str], parts: Callable[[str], Iterable[Tensor]], stop: Event
) -> None:
    """Fill a shard's tensors row by row, then let safetensors write them: memory is bounded by the shard."""
    held: dict[str, Tensor] = {}
    for name in names:
        stored, at = shards.tensors[name], 0
        held[name] = torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
        for part in parts(name):
            if stop.is_set():
                return
            held[name][at : at + len(part)] = part
            at += len(part)
    save_file(held, file, metadata={"format": "pt"})
    sync(file)
