"""What each operator does to the blocks of a matrix and to the layers: docs/operators/NAME.svg.

python analyses/operator_pictures.py

Every picture is read off real growth: a decoder 2 wide with 2 hidden units grows to 4 and 4, and each cell of its
down-projection is held against the base's.
"""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.runs.recipe import Recipe
from scalegrow.shape import ModelShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.grow import grow_weights
from scalegrow.train.init import first_values
from scalegrow.train.maps import MIXED
from scalegrow.train.operators import Plan, layer_map, plan

PICTURES = Path(__file__).parents[1] / "docs" / "operators"
WIDE = ("tile", "tile_noise", "block_diagonal", "split", "zero_copy", "net2net", "zero_pad", "szp")
WIDE += ("perturbative_copy", "random_copy", "structured_non_clone", "scratch")
DEEP = ("stack", "interleave", "zero_insert", "solar", "middle")
MATRIX = "model.layers.0.mlp.down_proj.weight"  # (d_model, d_ff): rows produce the stream, columns read units
COLOURS = ("#8fb8de", "#f2c48d", "#a8cf8e", "#d3a4cc")  # of the base's cells, row by row
CELL, GAP, TOP = 46, 60, 26
HATCH = (
    '<defs><pattern id="new" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line x1="0" y1="0" x2="0" y2="6" stroke="#444" stroke-width="1.4"/></pattern></defs>'
)

BASE = ModelShape(
    d_model=2, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=2, vocab_size=8, tied=False, context=8
)
TARGET = replace(BASE, d_model=4, n_heads=2, n_kv_heads=2, d_ff=4)


def base_config() -> RunConfig:
    config = Recipe("20k", budgets=("1tpp",), settings={"parametrisation.kind": "standard"}).config()
    return replace(config, model=Decoder(BASE))


def grown_by(name: str) -> tuple[Tensor, Tensor, Plan]:
    """The base's down-projection, the grown one, and the plan."""
    config, growth = base_config(), plan(BASE, TARGET, name)
    weights = {key: first_values(key, spec, config).double() for key, spec in decoder_parameters(BASE).items()}
    weights[MATRIX] = torch.tensor([[3.0, 5.0], [-4.0, 7.0]], dtype=torch.float64)
    return weights[MATRIX], grow_weights(weights, config, growth)[MATRIX], growth


def cell(x: float, y: float, fill: str, label: str = "", *, hatched: bool = False) -> str:
    """One cell; hatched where something new is in it."""
    box = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
    parts = [f'<rect {box} fill="{fill}" stroke="#555"/>']
    parts += [f'<rect {box} fill="url(#new)"/>'] if hatched else []
    if label:
        middle = f'x="{x + CELL / 2}" y="{y + CELL / 2 + 5}" text-anchor="middle"'
        parts.append(
            f'<text {middle} stroke="#fff" stroke-width="4" paint-order="stroke" fill="#111">{label}</text>'
        )
    return "".join(parts)


def portion(ratio: float) -> str:
    """A share of the base's cell as a person writes it: 1/2, or 0.37."""
    simple = Fraction(ratio).limit_denominator(4)
    return str(simple) if abs(float(simple) - ratio) < 1e-6 else f"{ratio:.2f}"


def grown_cells(base: Tensor, grown: Tensor, growth: Plan) -> list[str]:
    """A copy has its base cell's colour and share, what is new is hatched, and nought is white."""
    rows, columns = growth.maps["d_model"], growth.maps["d_ff"]
    drawn = growth.operator == "scratch"
    noisy = growth.operator in ("tile_noise", "perturbative_copy", "szp")
    cells = []
    for i, j in np.ndindex(*grown.shape):
        x, y, value = 2 * CELL + GAP + j * CELL, TOP + i * CELL, float(grown[i, j])
        source = (int(rows.source[i]), int(columns.source[j]))
        if value == 0:
            cells.append(cell(x, y, "#fff", "0"))
        elif drawn or min(source) < 0 or columns.share[j] == 0:
            cells.append(cell(x, y, "#fff", "mix" if MIXED in source else "", hatched=True))
        else:
            kept = growth.arguments.shrink if growth.operator == "szp" else float(columns.share[j])
            label = f"≈{portion(kept)}" if noisy else portion(value / float(base[source]))
            cells.append(cell(x, y, COLOURS[2 * source[0] + source[1]], label, hatched=noisy))
    return cells


def picture(parts: list[str], width: float, height: float, name: str) -> None:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    )
    style = ' font-family="sans-serif" font-size="13" role="img">'
    ground = f'<title>{name}</title><rect width="{width}" height="{height}" fill="#fff"/>'
    PICTURES.mkdir(parents=True, exist_ok=True)
    PICTURES.joinpath(f"{name}.svg").write_text(f"{head}{style}{ground}{HATCH}{''.join(parts)}</svg>\n")


def draw_width(name: str) -> None:
    base, grown, growth = grown_by(name)
    parts = [cell(10 + j * CELL, TOP + CELL + i * CELL, COLOURS[2 * i + j]) for i, j in np.ndindex(2, 2)]
    parts.append(f'<text x="{10 + 2 * CELL + 12}" y="{TOP + 2 * CELL + 6}" font-size="20">→</text>')
    parts += grown_cells(base, grown, growth)
    parts.append(f'<text x="10" y="17" fill="#111">{name}</text>')
    picture(parts, 6 * CELL + GAP + 10, TOP + 4 * CELL + 10, name)


def draw_depth(name: str, n: int = 4) -> None:
    """Layers as a row, first to last; hatched where one is silenced so that the function is kept."""
    size = 6 if name == "solar" else 8  # where it overlaps, and is not the stack
    layers = layer_map(n, size, name)
    parts = [f'<text x="10" y="17" fill="#111">{name}</text>']
    parts += [cell(10 + i * CELL, TOP, COLOURS[i], str(i + 1)) for i in range(n)]
    parts += [
        cell(10 + j * CELL, TOP + CELL + 14, COLOURS[i], str(i + 1), hatched=j in layers.inserted)
        for j, i in enumerate(layers.source)
    ]
    picture(parts, 20 + size * CELL, TOP + 2 * CELL + 24, name)


if __name__ == "__main__":
    for each in WIDE:
        draw_width(each)
    for each in DEEP:
        draw_depth(each)
    print(f"figures: {PICTURES.relative_to(Path.cwd()) if PICTURES.is_relative_to(Path.cwd()) else PICTURES}")
