"""Growing a 1B-parameter directory: time against reading and writing the same bytes, and peak memory.

    python benchmarks/grow.py [--layers 22] [--rounds 3] [--folder DIR] [--json]

A random bfloat16 Llama of TinyLlama's shape (d = 2048, 22 layers, 32 heads, 4 kv heads, d_ff 5632, vocabulary
32,000, untied: 1.10B) in five shards. Every measurement is a process of its own. `copy` reads every byte of the
base and writes as many as the grown directory has, in the same shards, each forced to disk as ours are; `grow` is
grow_directory with all it does: hashes, header checks, transformers' structural check. Rounds interleave copy and
grow, with the base out of the page cache and earlier writes on disk; medians are shown. Memory is the process'
peak less that of an interpreter that imported torch. Disk: about five times the base; removed at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from scalegrow.shape import ModelShape

BASE = ModelShape(2048, 22, 32, 4, 64, 5632, 32000, tied=False, context=2048)
CASES: dict[str, tuple[str, dict[str, int]]] = {
    "tile, width x2": ("tile", {"d_model": 4096, "n_heads": 64, "n_kv_heads": 8, "d_ff": 11264}),
    "zero_pad, width x1.5": ("zero_pad", {"d_model": 3072, "n_heads": 48, "n_kv_heads": 6, "d_ff": 8448}),
    "szp, width x2": ("szp", {"d_model": 4096, "n_heads": 64, "n_kv_heads": 8, "d_ff": 11264}),
    "stack, depth x2": ("stack", {}),
}
CHUNK = 2**24
AIM_TIME, AIM_MEMORY = 1.5, 0.25


def peak_memory() -> int:
    """This process' peak resident bytes; ru_maxrss would count its parent's at the fork too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def config_of(shape: ModelShape) -> dict[str, Any]:
    """config.json of a Llama of this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "intermediate_size": shape.d_ff,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
    }


def write_base(folder: Path, shape: ModelShape) -> None:
    """Random weights in five shards."""
    import torch

    from scalegrow.train.axes import decoder_parameters
    from scalegrow.train.hf_files import laid_out, write_shards

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(shape)))
    specs = decoder_parameters(shape)
    layout = laid_out(
        folder, {name: ("BF16", spec.shape) for name, spec in specs.items()}, shape.n_params * 2 // 5
    )
    draw = lambda name: torch.empty(specs[name].shape, dtype=torch.bfloat16).normal_(0, 0.02)  # noqa: E731
    write_shards(layout, lambda name: [draw(name)])


def plan_of(case: str, layers: int) -> Any:
    """The case's growth."""
    from scalegrow.train.operators import plan

    base = replace(BASE, n_layers=layers)
    name, changes = CASES[case]
    return plan(base, replace(base, **(changes or {"n_layers": 2 * layers})), name)


def grow(folder: Path, out: Path, case: str, layers: int) -> None:
    """Our way."""
    from scalegrow.train.hf import grow_directory, open_base

    grow_directory(open_base(folder), out, plan_of(case, layers))


def copy(folder: Path, out: Path, sizes: list[int]) -> None:
    """The base read once, and files of these sizes written, each forced to disk."""
    buffer = memoryview(bytearray(CHUNK))
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    out.mkdir()
    for i, size in enumerate(sizes):
        with (out / str(i)).open("wb", buffering=0) as file:
            for start in range(0, size, CHUNK):
                file.write(buffer[: min(CHUNK, size - start)])
            os.fsync(file.fileno())


def measured(arguments: list[str]) -> dict[str, float]:
    """Seconds and peak bytes of this script run with other arguments."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(work: Callable[[], None]) -> None:
    """Run, and print what it took."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))


def forget(folder: Path) -> None:
    """Take a folder's files out of the page cache, and let earlier writes reach the disk first."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sizes_of(case: str, layers: int) -> list[int]:
    """Bytes of each shard that the case writes."""
    from scalegrow.train.axes import decoder_parameters
    from scalegrow.train.hf_files import laid_out

    specs = decoder_parameters(plan_of(case, layers).target)
    layout = laid_out(Path(), {name: ("BF16", spec.shape) for name, spec in specs.items()})
    totals = dict.fromkeys(layout.files, 0)
    for stored in layout.tensors.values():
        totals[stored.file] += stored.n_bytes
    return list(totals.values())


def one_case(folder: Path, case: str, layers: int, rounds: int) -> dict[str, Any]:
    """Medians of interleaved copies and growths."""
    sizes, out = sizes_of(case, layers), folder / "out"
    found: dict[str, list[dict[str, float]]] = {"copy": [], "grow": []}
    for _ in range(rounds):
        for kind in found:
            forget(folder / "base")
            found[kind].append(
                measured(["--do", kind, "--folder", str(folder), "--case", case, "--layers", str(layers)])
            )
            shutil.rmtree(out)
    ratios = [
        ours["seconds"] / theirs["seconds"] for ours, theirs in zip(found["grow"], found["copy"], strict=True)
    ]
    return {
        "case": case,
        "written": sum(sizes),
        "copy": median(run["seconds"] for run in found["copy"]),
        "grow": median(run["seconds"] for run in found["grow"]),
        "ratio": median(ratios),
        "ratios": ratios,
        "peak": median(run["peak"] for run in found["grow"]),
    }


def compare(layers: int, rounds: int, place: str | None, as_json: bool) -> None:
    """Every case, and what the aims say."""
    shape = replace(BASE, n_layers=layers)
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        write_base(folder / "base", shape)
        torch_alone = measured(["--do", "nothing"])["peak"]
        rows = [one_case(folder, case, layers, rounds) for case in CASES]
    for row in rows:
        row |= {"peak": row["peak"] - torch_alone, "share": (row["peak"] - torch_alone) / row["written"]}
    if as_json:
        print(json.dumps({"n_params": shape.n_params, "torch_alone": torch_alone, "cases": rows}, indent=1))
        return
    page = Table(
        "", "written, GB", "copy, s", "grow, s", "grow / copy", "of rounds", "peak, MB", "of written", box=None
    )
    for row in rows:
        spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        times = (
            f"{row['written'] / 1e9:.2f}",
            f"{row['copy']:.1f}",
            f"{row['grow']:.1f}",
            f"{row['ratio']:.2f}",
            spread,
        )
        page.add_row(row["case"], *times, f"{row['peak'] / 1e6:.0f}", f"{row['share']:.1%}")
    Console().print(page)
    met = [row["ratio"] <= AIM_TIME for row in rows], [row["share"] < AIM_MEMORY for row in rows]
    print(f"\nan interpreter with torch alone takes {torch_alone / 1e6:.0f} MB, already taken off")
    print(
        f"within {AIM_TIME} x the copy: {sum(met[0])} of {len(rows)}; memory below {AIM_MEMORY:.0%}: {sum(met[1])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=BASE.n_layers)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--do", choices=("copy", "grow", "nothing"), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.do is None:
        compare(told.layers, told.rounds, told.folder, told.json)
        return
    import torch  # noqa: F401

    if told.do == "nothing":
        report(lambda: None)
    elif told.do == "copy":
        sizes = sizes_of(told.case, told.layers)
        report(lambda: copy(Path(told.folder, "base"), Path(told.folder, "out"), sizes))
    else:
        report(lambda: grow(Path(told.folder, "base"), Path(told.folder, "out"), told.case, told.layers))


if __name__ == "__main__":
    main()
