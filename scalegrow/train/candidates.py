"""Candidate warm starts, as people write them: szp:shrink=0.8:noise=0.5, tile:moments=reset, split:depth=stack.

A candidate is a whole training state (arXiv 2604.04281): an operator and its arguments, and what becomes of the
moments, Adam's counter, the schedule and the rates.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from scalegrow.errors import InputError
from scalegrow.growth import operator
from scalegrow.runs.fields import build
from scalegrow.runs.recipe import parse_setting
from scalegrow.train.operators import Arguments
from scalegrow.train.policies import Policies

DEPTH = "depth"
ARGUMENTS = tuple(each.name for each in fields(Arguments))
POLICIES = tuple(each.name for each in fields(Policies) if each.name != "data")


@dataclass(frozen=True)
class Candidate:
    """name as it was written. depth_operator None: the operator's usual one."""

    name: str
    operator: str
    depth_operator: str | None
    arguments: Arguments
    policies: Policies

    @classmethod
    def parse(cls, text: str, seed: int = 0, schedule: str = "restart") -> "Candidate":
        """operator[:setting=value ...]; seed and schedule stand where it says none itself. Raises InputError."""
        name, own = settings(text)
        told: dict[str, Any] = {"seed": seed, "schedule": schedule} | own
        return cls(
            text,
            name,
            told.get(DEPTH),
            build(Arguments, {key: told[key] for key in ARGUMENTS if key in told}, text),
            build(Policies, {key: told[key] for key in POLICIES if key in told}, text),
        )


def parse_candidates(text: str, seed: int = 0, schedule: str = "restart") -> tuple[Candidate, ...]:
    """Candidates between commas. Raises InputError on none and on one given twice."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InputError("no candidates: name some, such as --operators tile,szp,scratch.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"candidate {twice[0]} is named twice: leave one out, or give them different settings.")
    return tuple(Candidate.parse(name, seed, schedule) for name in names)


def settings(text: str) -> tuple[str, dict[str, Any]]:
    """A candidate's operator, and what is set after colons by name. Raises InputError."""
    name, *told = (part.strip() for part in text.split(":"))
    operator(name)
    return name, dict(_setting(text, setting) for setting in told)


def _setting(candidate: str, text: str) -> tuple[str, Any]:
    """shrink=0.8 -> ("shrink", 0.8)."""
    known = (*ARGUMENTS, *POLICIES, DEPTH)
    key, equals, _ = text.partition("=")
    if key == "data":
        raise InputError(f"{candidate}: every candidate sees the same batches: leave data out.")
    if not equals:
        raise InputError(f"{candidate}: {text!r} is no setting: write NAME=VALUE, such as szp:shrink=0.8.")
    if key not in known:
        near = get_close_matches(key, known, n=1) or [", ".join(known)]
        raise InputError(f"{candidate} has no setting {key!r}: did you mean {near[0]}?")
    name, value = parse_setting(text)
    if name == DEPTH:
        operator(value := str(value))
    return name, value
