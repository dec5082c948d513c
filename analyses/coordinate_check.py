"""The coordinate check of muP and of the standard parametrisation: how activations scale with width.

    python analyses/coordinate_check.py [--out coordinates.csv]

Prints d ln RMS / d ln width of every place after 0, 1 and 4 steps at widths 32 to 256; --out writes the table of
RMS by width, step and place, ready to plot. Needs scalegrow[train].
"""

import argparse
from pathlib import Path

import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from scalegrow.runs.config import Decoder, Parametrisation, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.coordinates import coordinate_check, slopes
from scalegrow.train.stories import Stories
from scalegrow.train.task import LanguageTask

WIDTHS, STEPS, CONTEXT = (32, 64, 128, 256), 4, 32
SHAPE = ModelShape(
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=8,
    d_ff=96,
    vocab_size=256,
    tied=True,
    context=CONTEXT,
)


def trace(kind: str) -> pl.DataFrame:
    parametrisation = Parametrisation(kind, base_width=32, base_ff=96)
    config = RunConfig(Decoder(SHAPE), ("20tpp",), batch=8, parametrisation=parametrisation)
    found = coordinate_check(LanguageTask(config, Stories(CONTEXT)), WIDTHS, STEPS)
    return found.with_columns(parametrisation=pl.lit(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("parametrisation", "step", "embedding", "block 0", "block 1", "norm", "logits", box=None)
    traces = []
    for kind in ("mup", "standard"):
        traces.append(trace(kind))
        found = slopes(traces[-1])
        for step in (0, 1, STEPS):
            places = ("embedding", "block 0", "block 1", "norm", "logits")
            table.add_row(kind, str(step), *(f"{found[step, place]:+.2f}" for place in places))
    console = Console()
    console.print("d ln RMS / d ln width: 0 is flat in width, above 0 grows with it\n", table)
    console.print("\nmuP: flat but for the logits, which start as width^-1/2 and forget it as training goes on")
    if options.out:
        pl.concat(traces).write_csv(options.out)


if __name__ == "__main__":
    main()
