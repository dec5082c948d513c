"""What every operator does to a trained model at step 0: KL, locked coordinates, entries without moments.

python analyses/zero_step_operators.py        # about a minute: trains a base of 60k parameters first

Prints a table for width x 2 (decoder and dense network) and one for depth x 2.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from scalegrow.growth import OPERATORS, widened_shape
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import Recipe
from scalegrow.shape import ModelShape
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.operators import WIDENING, Arguments, plan
from scalegrow.train.policies import Policies
from scalegrow.train.run import train

SHARES = (0.0, 0.1, 0.25, 0.5)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind, size in (("decoder", "60k"), ("network", "20k")):
            recipe = Recipe(size, ("10tpp",), kind=kind)
            config = recipe.config()
            train(config, folder / kind)
            checkpoint = sorted((folder / kind / "trunk" / "checkpoints").iterdir())[-1]
            show(kind, config, checkpoint, folder)


def show(kind: str, config: RunConfig, checkpoint: Path, folder: Path) -> None:
    shape = config.model.shape
    wide = widened_shape(shape, 2) if isinstance(shape, ModelShape) else replace(shape, width=2 * shape.width)
    print(f"{kind} of {shape.n_params:,} parameters, width x 2")
    names = list(WIDENING)
    for name in names:
        line(name, name, shape, wide, checkpoint, folder / kind / name)
    for share in SHARES if kind == "decoder" else ():
        told = Arguments(share=share)
        label = f"structured_non_clone, share {share}"
        line(label, "structured_non_clone", shape, wide, checkpoint, folder / f"share{share}", told)
    if isinstance(shape, ModelShape):
        print(f"{kind}, depth x 2")
        deep = replace(shape, n_layers=2 * shape.n_layers)
        for name in (each.name for each in OPERATORS.values() if each.axis == "depth"):
            line(name, name, shape, deep, checkpoint, folder / "deep" / name)


def line(
    label: str, name: str, base: object, target: object, checkpoint: Path, out: Path, told: Arguments | None = None
) -> None:
    growth = plan(base, target, name, arguments=told)  # type: ignore[arg-type]
    lineage = grow_checkpoint(checkpoint, out, growth, Policies(), out.parent)
    locked = ", ".join(f"{axis} {share:.0%}" for axis, share in lineage["locked"].items()) or "none"
    preserves = OPERATORS[name].preserves
    print(f"  {label:32s} {preserves:6s} {lineage['zero_step_kl']:9.2g}   locked: {locked}")


if __name__ == "__main__":
    main()
