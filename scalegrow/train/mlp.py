"""The dense ReLU network of arXiv 2605.13405 and its regression task with an exactly known least loss.

Symbols: x inputs, y target, sigma the noise's std, M the teacher's units.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scalegrow.runs.config import Network, RunConfig
from scalegrow.shape import MLPShape
from scalegrow.train.axes import mlp_parameters
from scalegrow.train.init import initialise
from scalegrow.train.mup import multipliers

Floats = NDArray[np.float32]

TEACHER_UNITS = 1024
HELDOUT_STREAM = 1 << 62
BLOCK = 2048


class DenseNetwork(nn.Module):
    """[B, n_inputs] -> [B, n_outputs]: `depth` hidden ReLU layers, and a last one whose input has a multiplier."""

    def __init__(self, shape: MLPShape, output_multiplier: float) -> None:
        super().__init__()
        self.output_multiplier = output_multiplier
        widths = (shape.n_inputs, *[shape.width] * shape.depth, shape.n_outputs)
        self.layers = nn.ModuleList(nn.Linear(into, out, bias=shape.biases) for into, out in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """The prediction."""
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.relu(layer(x))
        return last(x * self.output_multiplier)


def build_network(config: RunConfig, device: str | torch.device = "cpu") -> DenseNetwork:
    """A network with its first weights."""
    if not isinstance(config.model, Network):
        raise TypeError("build_network wants a network's config")
    model = DenseNetwork(config.model.shape, multipliers(config).logits)
    initialise(dict(model.named_parameters()), mlp_parameters(config.model.shape), config)
    return model.to(device)


@dataclass(frozen=True)
class Regression:
    """y = f(x) + noise, f a fixed random ReLU network, x standard normal; the least mean square error is sigma^2.

    f(x) = sum_m c_m relu(w_m . x + b_m), scaled to variance 1, w_m on the sphere, c_m ~ m^-1: a few directions
    matter much and a thousand a little, so the error falls slowly with width and samples. Samples are a pure
    function of (language_seed, seed, number); held-out ones come from another stream, the same for every seed.
    """

    n_inputs: int
    n_outputs: int
    seed: int = 0
    teacher_seed: int = 0
    noise: float = 0.1

    @property
    def entropy(self) -> float:
        """sigma^2: the least mean square error of any predictor."""
        return self.noise**2

    def train_batch(self, first: int, count: int) -> tuple[Floats, Floats]:
        """Samples first .. first + count - 1: x [count, n_inputs], y [count, n_outputs]."""
        return self._batch(self.seed, 0, first, count)

    def heldout_batch(self, first: int, count: int) -> tuple[Floats, Floats]:
        """Samples of the held-out stream."""
        return self._batch(0, HELDOUT_STREAM, first, count)

    def describe(self) -> dict[str, object]:
        """What decides the data, and the least loss."""
        return {"source": "regression", **vars(self), "teacher_units": TEACHER_UNITS, "entropy": self.entropy}

    def _batch(self, seed: int, stream: int, first: int, count: int) -> tuple[Floats, Floats]:
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        made = [_samples(self, seed, stream + block) for block in blocks]
        rows = slice(first - blocks.start * BLOCK, first - blocks.start * BLOCK + count)
        x, y = (np.concatenate(parts)[rows] for parts in zip(*made, strict=True))
        return x, y


@lru_cache(maxsize=16)
def _samples(task: Regression, seed: int, block: int) -> tuple[Floats, Floats]:
    rng = np.random.Generator(np.random.Philox(key=[seed, block], counter=[0, 0, 1, task.teacher_seed]))
    x = rng.standard_normal((BLOCK, task.n_inputs), dtype=np.float32)
    noise = rng.standard_normal((BLOCK, task.n_outputs), dtype=np.float32) * np.float32(task.noise)
    return x, teach(task, x) + noise


def teach(task: Regression, x: Floats) -> Floats:
    """f(x) [B, n_outputs]."""
    weights, shifts, outputs, mean, scale = _teacher(task.n_inputs, task.n_outputs, task.teacher_seed)
    return (np.maximum(x @ weights + shifts, 0) @ outputs - mean) / scale


@lru_cache(maxsize=4)
def _teacher(n_inputs: int, n_outputs: int, seed: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The teacher's layers, and the mean and std of its raw outputs over 2^16 inputs."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    weights = rng.standard_normal((n_inputs, TEACHER_UNITS), dtype=np.float32)
    weights /= np.linalg.norm(weights, axis=0)
    shifts = rng.standard_normal(TEACHER_UNITS, dtype=np.float32)
    signs = rng.choice(np.array((-1, 1), dtype=np.float32), size=(TEACHER_UNITS, n_outputs))
    outputs = signs / np.arange(1, TEACHER_UNITS + 1, dtype=np.float32)[:, None]
    raw = np.maximum(rng.standard_normal((1 << 16, n_inputs), dtype=np.float32) @ weights + shifts, 0) @ outputs
    return weights, shifts, np.asarray(outputs, dtype=np.float32), raw.mean(0), raw.std(0)
