"""From a grown checkpoint to the config of the run that trains it on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from scalegrow.errors import InputError
from scalegrow.growth import operator
from scalegrow.runs.config import RunConfig, Start
from scalegrow.runs.fields import build
from scalegrow.runs.recipe import FEWEST_SAMPLES, FEWEST_TOKENS, per_step, set_dotted
from scalegrow.shape import ModelShape
from scalegrow.train.state import MODEL, OPTIMISER, read_facts


def started_config(checkpoint: Path, budgets: tuple[str, ...], settings: dict[str, Any]) -> RunConfig:
    """The grown checkpoint's config with these budgets, a step's tokens for its size, and settings over it.

    Its model, parametrisation and data are the base's, grown; schedule, data position and rates follow its
    policies, and other data begin at their first item. Raises InputError where it was not made by growing.
    """
    if frozen := [name for name in settings if name.startswith(("model.shape.", "start."))]:
        raise InputError(f"{frozen[0]} was decided when the state was grown: leave it out beside --start.")
    facts = read_facts(checkpoint)
    grown = RunConfig.from_dict(facts["config"])
    shape = grown.model.shape
    start = start_of(facts, str(checkpoint))
    if any(name in settings for name in ("data.source", "data.seed", "data.language_seed")):
        start = replace(start, first_item=0)
    plain = json.loads(json.dumps(replace(grown, start=start).to_dict()))
    items = per_step(shape.n_params, FEWEST_TOKENS if isinstance(shape, ModelShape) else FEWEST_SAMPLES)
    plain |= {"budgets": list(budgets), "batch": max(items // (grown.tokens_per_step // grown.batch), 1)}
    for name, value in settings.items():
        set_dotted(plain, name, value)
    return RunConfig.from_dict(plain)


def start_of(facts: dict[str, Any], checkpoint: str = "") -> Start:
    """What a run that starts from a grown checkpoint keeps of it. Raises InputError where it was not grown."""
    lineage = facts.get("lineage")
    if not isinstance(lineage, dict):
        raise InputError(f"{checkpoint or 'the base'} was not grown: make one with scalegrow grow.")
    try:
        follows, parent = lineage["policies"], lineage["parent"]
        plain = {
            "checkpoint": checkpoint,
            "sha256": facts["sha256"][MODEL],
            "moments_sha256": facts["sha256"][OPTIMISER],
            "optimiser_step": facts["optimiser_step"],
            "operator": operator(lineage["operator"]).name,
            "depth_operator": lineage["depth_operator"],
            "moments": follows["moments"],
            "base": parent["run"],
            "base_params": float(parent["n_params"]),
            "base_tokens": float(parent["tokens"]),
            "growth_factor": lineage["g_params"],
            "growth_factor_non_embedding": lineage["g_non_embedding"],
            "growth_factor_width": lineage["g_width"],
            "schedule": follows["schedule"],
            "first_item": parent["items"] if follows["data"] == "continue" else 0,
            "rates": lineage["rates"] if follows["rates"] == "carried" else [],
        }
        return build(Start, plain, "lineage")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{checkpoint}: its lineage was damaged ({error}): grow the base again.") from None
