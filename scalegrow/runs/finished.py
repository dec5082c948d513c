"""finished.json: what a study notes of a run once it is trained to all its budgets.

It is written last, so a folder without it is a run that is still under way.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalegrow.atomic import new_file
from scalegrow.budget import Budget
from scalegrow.errors import InputError

FINISHED = "finished.json"
# Of a note, to the run table: how the study wrote the candidate, the factor g that it asked for, the base's budget
# in tokens per parameter of the base, and what was measured when the run was grown.
COLUMNS = ("arm", "factor", "base_budget", "zero_step_kl")
SIGNALS = "signals"  # of a note: kl_K and escape_K at each lag K, to the run table as columns of their own
KINDS: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "budgets": list,
    "ends": dict,
    "seconds": (int, float),
    "arm": str,
    "factor": (int, float),
    "base_budget": (int, float, type(None)),
    "zero_step_kl": (int, float, type(None)),
}


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write the note of a run's folder, whole or not at all."""
    with new_file(folder / FINISHED) as partial:
        partial.write_text(json.dumps(note, indent=1))


def read_note(folder: Path) -> dict[str, Any]:
    """The note of a run's folder; empty where there is none, or it is not what a study writes."""
    try:
        told = json.loads((folder / FINISHED).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) and _is_note(told) else {}


def _is_note(told: dict[str, Any]) -> bool:
    """Whether its fields are of the kinds that are read from it."""
    if not all(isinstance(told.get(name), kind) for name, kind in KINDS.items()):
        return False
    signals = told.get(SIGNALS, {})
    if not isinstance(signals, dict) or not all(isinstance(value, (int, float)) for value in signals.values()):
        return False
    return all(map(_is_budget, told["budgets"])) and all(type(end) is int for end in told["ends"].values())


def _is_budget(text: object) -> bool:
    try:
        Budget.parse(str(text))
    except InputError:
        return False
    return isinstance(text, str)
