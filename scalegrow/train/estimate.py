"""What a study costs before it runs: tokens, FLOPs, hours and bytes, of every run and of all.

Symbols: N parameters, D tokens, C = 6 N D training FLOPs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scalegrow.runs.branches import trained_flops
from scalegrow.runs.config import RunConfig
from scalegrow.runs.study import Member
from scalegrow.train.stages import stages

BYTES_A_PARAMETER = 12  # of a checkpoint: the weights and AdamW's two moments in float32
BYTES_A_RECORD = 150  # of a log, measured on runs of this project
RATE_AT_100K, RATE_EXPONENT, LARGEST_RATE = 3e10, 0.4, 6e10  # FLOP/s of one thread, measured on one machine
PRIOR = 60.0  # seconds of work after which a rate that is measured weighs as much as the one that was expected


@dataclass(frozen=True)
class Cost:
    """tokens and flops trained, the seconds they take one worker, and the bytes they leave on disk."""

    tokens: float
    flops: float
    seconds: float
    disk: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


NOTHING = Cost(0.0, 0.0, 0.0, 0.0)


def cost(member: Member, speed: float = 1.0) -> Cost:
    """The cost of one run without its base's; speed is this machine's over the usual rate."""
    config = member.config
    planned = stages(config)
    steps = sum(stage.end - stage.start for stage in planned)
    kept = sum(len(stage.keep) for stage in planned) + (member.origin is not None)
    records = steps / config.log_every + sum(len(stage.evaluate) for stage in planned)
    disk = kept * BYTES_A_PARAMETER * config.model.shape.n_params + records * BYTES_A_RECORD
    work = trained_flops(config)
    return Cost(float(steps * config.tokens_per_step), work, work / (usual_rate(config) * speed), disk)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of them."""
    return sum(costs, start=NOTHING)


def usual_rate(config: RunConfig) -> float:
    """FLOP/s of one thread of a common CPU at this size: 3e10 (N / 1e5)^0.4, at most 6e10."""
    return min(RATE_AT_100K * math.pow(config.model.shape.n_params / 1e5, RATE_EXPONENT), LARGEST_RATE)


def speed(done: Iterable[tuple[RunConfig, float]]) -> float:
    """How fast this machine is over the usual rate, by finished runs and their seconds; 1 where there are none."""
    known = [(trained_flops(config) / usual_rate(config), seconds) for config, seconds in done if seconds > 0]
    return sum(usual for usual, _ in known) / sum(seconds for _, seconds in known) if known else 1.0


def measured_rate(gained: float, worked: float, expected: float) -> float:
    """Work that a worker does a second: `gained` in `worked` seconds, with PRIOR seconds of what was expected."""
    return (max(gained, 0.0) + PRIOR * expected) / (worked + PRIOR)


def time_left(members: Iterable[Member], left: Mapping[str, float], workers: int) -> float:
    """Seconds until runs are done, by the seconds of work left of each (none of those that are not named).

    An even share for each worker, or the longest run with the base it waits for, whichever is more.
    """

    def with_base(member: Member) -> float:
        return left.get(member.key, 0.0) + (with_base(member.origin.base) if member.origin else 0.0)

    longest = max((with_base(member) for member in members if member.key in left), default=0.0)
    return max(sum(left.values()) / workers, longest)
