"""What a probe found of each candidate, with means over its runs, differences paired by run, and the order.

Symbols: k the lag, in steps; L(s) held-out loss after s steps, nats per token (mean square error of networks).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalegrow.runs.config import RunConfig
from scalegrow.train.candidates import Candidate
from scalegrow.train.measures import Condensation

Measure = Callable[["Continuation"], float]


class Mean(NamedTuple):
    """A mean over runs and its standard error; None of one run."""

    value: float
    se: float | None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Mean":
        """sum / n and std / sqrt n."""
        n = len(values)
        return cls(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None)


@dataclass(frozen=True)
class Continuation:
    """One run of a candidate: held-out records by step, the first at 0, and what was measured after k steps."""

    config: RunConfig
    curve: tuple[dict[str, Any], ...]
    kl: float
    escape: dict[str, float]
    condensation: Condensation

    @property
    def loss(self) -> float:
        """The probe loss L(k)."""
        return float(self.curve[-1]["heldout_loss"])

    @property
    def area(self) -> float:
        """Integral of L(s) ds / k over the probe by trapezoids: its mean held-out loss."""
        steps = [record["step"] for record in self.curve]
        return float(np.trapezoid([record["heldout_loss"] for record in self.curve], steps)) / steps[-1]


@dataclass(frozen=True)
class Probed:
    """A candidate's measures. zero_step_kl, locked and condensation are of the state as it was grown."""

    candidate: Candidate
    lineage: dict[str, Any]
    zero_step_kl: float
    locked: dict[str, float]
    condensation: Condensation
    runs: tuple[Continuation, ...]

    def values(self, measure: Measure) -> NDArray[np.float64]:
        """A measure of every run, [n]."""
        return np.array([measure(run) for run in self.runs], dtype=np.float64)

    def mean(self, measure: Measure) -> Mean:
        """Of a measure over the runs."""
        return Mean.of(self.values(measure))

    def difference(self, other: "Probed", measure: Measure) -> Mean:
        """This candidate's minus another's, paired by run: both saw the same batches."""
        return Mean.of(self.values(measure) - other.values(measure))


@dataclass(frozen=True)
class Refused:
    """A candidate that its algebra refuses for this target, or that diverged; and the line that says so."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Ranking:
    """What a probe found: the base's held-out record, candidates by probe loss, best first, and those refused."""

    base: dict[str, Any]
    candidates: tuple[Probed, ...]
    refused: tuple[Refused, ...]

    @property
    def best(self) -> Probed:
        """The candidate of least probe loss."""
        return self.candidates[0]

    @property
    def config(self) -> RunConfig:
        """The config that all candidates of a seed share but for where they start: the first seed's."""
        return self.best.runs[0].config


def ranked(probed: Sequence[Probed]) -> tuple[Probed, ...]:
    """By mean probe loss, least first; ties in the order given."""
    return tuple(sorted(probed, key=lambda each: each.mean(lambda run: run.loss).value))
