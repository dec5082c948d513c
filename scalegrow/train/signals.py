"""Early signals of a grown run, from the checkpoints that stayed at its lags: distance from its base, and escape.

Symbols: k the lag, in steps; theta_0 the grown weights, theta_k those k steps later.
"""

from pathlib import Path

from torch import Tensor

from scalegrow.runs.config import RunConfig
from scalegrow.shape import Shape
from scalegrow.train.checkpoint_growth import HELDOUT_ITEMS, config_of, learned
from scalegrow.train.grow import parameters_of
from scalegrow.train.measures import JOINT, distance, escape
from scalegrow.train.operators import Plan
from scalegrow.train.restore import load_model
from scalegrow.train.stages import stages
from scalegrow.train.state import read_facts, read_weights, step_name
from scalegrow.train.task import task_for


def signals(config: RunConfig, folder: Path, base: Path, growth: Plan, cache: Path) -> dict[str, float]:
    """kl_K and escape_K for each lag K of a grown run in this folder, of its base's checkpoint.

    kl is KL(base || run after K steps) on the items that zero_step_kl is measured on, nats per token (of networks
    the mean square change of outputs); escape is that of theta_K - theta_0, joint over axes, and left out where no
    width grew. Raises InputError where a checkpoint is gone.
    """
    assert config.start is not None
    base_config = config_of(read_facts(base))
    weights, task = _weights(base, growth.base), task_for(base_config, cache)
    model, growth = load_model(weights, base_config), learned(growth, weights, base_config, cache)
    n = min(HELDOUT_ITEMS, task.n_heldout or HELDOUT_ITEMS)
    specs, first = parameters_of(growth.target), _weights(Path(config.start.checkpoint), growth.target)
    stage = stages(config)[0]
    found: dict[str, float] = {}
    for lag in (lag for lag in config.evaluation.lags if lag in stage.keep):
        after = _weights(folder / stage.name / "checkpoints" / step_name(lag), growth.target)
        found[f"kl_{lag}"] = distance(model, load_model(after, config), task, n)
        moved = escape({name: after[name] - first[name] for name in specs}, specs, growth.maps)
        if JOINT in moved:
            found[f"escape_{lag}"] = moved[JOINT]
    return found


def _weights(checkpoint: Path, shape: Shape) -> dict[str, Tensor]:
    return read_weights(checkpoint, read_facts(checkpoint), parameters_of(shape))
