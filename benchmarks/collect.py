"""Speed of reading run logs into the run table, against the standard library's json line by line.

    python benchmarks/collect.py [--logs 1000] [--records 1000]

A million records by default, of which one in ten carries a held-out loss, as in logs of our own trainer.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from scalegrow.runs.collect import collect
from scalegrow.runs.log import RunLog

TAGS = ("trivial", "choice", "knowledge", "tracking", "composition")


def write_logs(folder: Path, logs: int, records: int) -> None:
    lines = "".join(json.dumps(record(step)) + "\n" for step in range(1, records))
    for number in range(logs):
        row = {"run": f"r{number}", "operator": "scratch", "n_params": 1e5, "seed": number}
        log = RunLog.create(folder / str(number) / "log.jsonl", {"row": row, "tags": list(TAGS)})
        log.close()
        with log.path.open("a") as file:
            file.write(lines)


def record(step: int) -> dict[str, object]:
    if step % 10:
        return {"step": step, "tokens": 2048 * step, "loss": 3.0, "lr": 0.01, "gradient_norm": 1.0, "seconds": 1.0}
    tag = {"loss": 2.0, "se": 0.01, "share": 0.2, "excess": 0.5}
    return {
        "step": step,
        "tokens": 2048 * step,
        "flops": 1.2e9 * step,
        "annealed": False,
        "heldout_loss": 3.0,
        "heldout_se": 0.01,
        "tags": dict.fromkeys(TAGS, tag),
    }


def line_by_line(folder: Path) -> int:
    """What the peer does: parse each line, keep held-out losses."""
    found = 0
    for path in folder.rglob("log.jsonl"):
        with path.open() as lines:
            found += sum("heldout_loss" in json.loads(line) for line in lines)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=1000)
    parser.add_argument("--records", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_logs(folder, options.logs, options.records)
        start = time.perf_counter()
        rows = collect(folder).height
        ours = time.perf_counter() - start
        start = time.perf_counter()
        assert line_by_line(folder) == rows
        theirs = time.perf_counter() - start
    print(f"{options.logs * options.records:,} records in {options.logs:,} logs, {rows:,} rows")
    print(f"collect {ours:.2f} s; json line by line, no table {theirs:.2f} s: {theirs / ours:.1f} x")


if __name__ == "__main__":
    main()
