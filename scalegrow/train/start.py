"""From a grown checkpoint to the config of the run that trains it on."""

import json
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.runs.config import RunConfig
from scalegrow.runs.recipe import FEWEST_TOKENS, per_step, set_dotted
from scalegrow.train.state import MODEL, read_facts


def started_config(checkpoint: Path, budgets: tuple[str, ...], settings: dict[str, Any]) -> RunConfig:
    """The grown checkpoint's config with these budgets, a step's tokens for its size, and settings over it.

    Its model, parametrisation and data are the base's, grown; the schedule starts again with a warm-up. Raises
    InputError where the checkpoint was not made by growing.
    """
    facts = read_facts(checkpoint)
    lineage = facts.get("lineage")
    if not isinstance(lineage, dict):
        raise InputError(f"{checkpoint} was not grown: make one with scalegrow grow.")
    grown = RunConfig.from_dict(facts["config"])
    shape = grown.model.shape
    plain = json.loads(json.dumps(grown.to_dict()))
    tokens = per_step(shape.n_params, FEWEST_TOKENS)
    plain |= {"budgets": list(budgets), "batch": max(tokens // (grown.tokens_per_step // grown.batch), 1)}
    plain["start"] = {
        "checkpoint": str(checkpoint),
        "sha256": facts["sha256"][MODEL],
        "optimiser_step": facts["optimiser_step"],
        "operator": lineage["operator"],
        "base": lineage["parent"]["run"],
        "base_params": float(lineage["parent"]["n_params"]),
        "base_tokens": float(lineage["parent"]["tokens"]),
        "growth_factor": lineage["g_params"],
        "growth_factor_non_embedding": lineage["g_non_embedding"],
        "growth_factor_width": lineage["g_width"],
    }
    for name, value in settings.items():
        set_dotted(plain, name, value)
    return RunConfig.from_dict(plain)
