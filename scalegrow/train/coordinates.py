"""The coordinate check: how activations scale with width (Yang et al. 2022, arXiv 2203.03466, appendix D.1).

Under muP the scale of every place stays flat in width as training goes on (logits start as width^-1/2 and forget
it); under the standard parametrisation the stream and the logits grow with width from the first step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor, nn

from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.train.distributed import Ranks
from scalegrow.train.model import Transformer
from scalegrow.train.optim import make_adamw
from scalegrow.train.task import LanguageTask


def coordinate_check(task: LanguageTask, widths: Sequence[int], steps: int) -> pl.DataFrame:
    """Root mean square of activations by width, step and place: columns width, step, place, rms.

    The task's model is widened (heads and d_ff with it) to each of `widths`; all see the same batches at the peak
    learning rate. Places are embedding, block 0 .., norm and logits; step 0 is before any update.
    """
    rows = []
    for width in widths:
        wide = replace(task, config=widened(task.config, width))
        rows += [{"width": width, **row} for row in _trace(wide, steps)]
    return pl.DataFrame(rows)


def slopes(table: pl.DataFrame) -> dict[tuple[int, str], float]:
    """d ln rms / d ln width of every (step, place): 0 where scale does not depend on width."""
    found = {}
    for (step, place), part in table.group_by("step", "place", maintain_order=True):
        x, y = np.log(part["width"].to_numpy()), np.log(part["rms"].to_numpy())
        found[int(str(step)), str(place)] = float(np.polyfit(x, y, 1)[0])
    return found


def widened(config: RunConfig, width: int) -> RunConfig:
    """The same config at another width: head size kept, heads and d_ff in proportion."""
    assert isinstance(config.model, Decoder)
    shape = config.model.shape
    kv_share = shape.n_heads // shape.n_kv_heads
    n_heads = width // shape.head_dim
    wide = replace(
        shape,
        d_model=width,
        n_heads=n_heads,
        n_kv_heads=n_heads // kv_share,
        d_ff=round(shape.d_ff * width / shape.d_model),
    )
    return replace(config, model=replace(config.model, shape=wide))


def _trace(task: LanguageTask, steps: int) -> list[dict[str, object]]:
    model = task.build("cpu")
    assert isinstance(model, Transformer)
    optimiser = make_adamw(model, task.parameters(), task.config)
    batch = task.config.batch
    rows: list[dict[str, object]] = []
    for step in range(steps + 1):
        seen: dict[str, float] = {}
        hooks = [module.register_forward_hook(_noter(seen, place)) for place, module in _places(model)]
        loss = task.loss(model, task.batch(step * batch, batch), Ranks().device)
        for hook in hooks:
            hook.remove()
        rows += [{"step": step, "place": place, "rms": rms} for place, rms in seen.items()]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return rows


def _places(model: Transformer) -> list[tuple[str, nn.Module]]:
    blocks = [(f"block {i}", block) for i, block in enumerate(model.model.layers)]
    return [("embedding", model.model.embed_tokens), *blocks, ("norm", model.model.norm), ("logits", model)]


def _noter(seen: dict[str, float], place: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen[place] = float(output.detach().square().mean().sqrt())

    return note
