"""The candidates that a budget can pay: what each costs beside those already chosen, and what it would tell."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.candidates import Candidate, lineage, rows_of
from scalegrow.plan.decide import Question, grown_points
from scalegrow.plan.information import Belief
from scalegrow.runs.branches import trained_flops
from scalegrow.runs.config import RunConfig
from scalegrow.units import format_count, format_flops

IntArray = npt.NDArray[np.intp]
RUNG = 2**0.25  # between budgets of the ladder
BELOW = 0.9  # of the smallest candidate's size: a base smaller than that may lie outside of what the law describes


@dataclass(frozen=True)
class Chosen:
    """picked: candidates by number. ends: to which steps each run is trained, by key. flops: of all."""

    picked: tuple[int, ...] = ()
    ends: dict[str, frozenset[int]] = field(default_factory=dict)
    flops: float = 0.0


@dataclass(frozen=True)
class Pool:
    """m candidates. rows (m, k): what each lets see, filled up with nothing. before (m,): who comes first, or -1.

    alone (m,): FLOPs of each with its base. cheapest, all: the least of them and their sum, with those that cannot
    be paid. configs: of every run, by key. prices: those looked up before.
    """

    candidates: tuple[Candidate, ...]
    rows: IntArray
    before: IntArray
    alone: FloatArray
    cheapest: float
    all: float
    configs: dict[str, RunConfig]
    belief: Belief
    prices: dict[tuple[str, frozenset[int]], float] = field(default_factory=dict)

    @classmethod
    def of(cls, fit: Fit, question: Question, candidates: list[Candidate], flops: float) -> "Pool":
        """Those that cost at most so much. Raises InputError where there is none."""
        alone = [sum(trained_flops(each.config) for each in lineage(one.member)) for one in candidates]
        if min(alone) > flops:
            raise InputError(_too_little(candidates[int(np.argmin(alone))], min(alone), flops))
        payable = tuple(one for one, price in zip(candidates, alone, strict=True) if price <= flops)
        smallest = BELOW * min(one.member.config.model.shape.n_params for one in candidates)
        found = rows_of((one.member for one in payable), smallest)
        belief = Belief.of(fit, found, grown_points(question), Points.of(question.N, question.D))
        places = {id(one): i for i, one in enumerate(payable)}
        return cls(
            candidates=payable,
            rows=_filled([_known(found.index, one) for one in payable], belief.nothing),
            before=np.array([places.get(id(one.before), -1) for one in payable]),
            alone=np.array([price for price in alone if price <= flops]),
            cheapest=min(alone),
            all=sum(alone),
            configs={each.key: each.config for one in payable for each in lineage(one.member)},
            belief=belief,
        )

    def ladder(self, flops: float) -> Iterator[float]:
        """These FLOPs, and rungs from the cheapest candidate's price up to them, or to where all can be paid."""
        yield flops
        budget = self.cheapest
        while budget < min(flops, RUNG * self.all):
            yield budget
            budget *= RUNG

    def turn(self, known: npt.NDArray[np.bool_], budget: float) -> IntArray:
        """Who can be paid and whose turn it is: of equal runs the first seed whose rows are not yet known."""
        done = np.append(known[self.rows].all(axis=1), True)
        return np.flatnonzero(done[self.before] & ~done[:-1] & (self.alone <= budget))

    def reductions(self, belief: Belief, known: npt.NDArray[np.bool_], of: IntArray) -> FloatArray:
        """By how much what is new of each of these would lessen the decision's variance."""
        rows = self.rows[of]
        return belief.reductions(np.where(known[rows], belief.nothing, rows))

    def added(self, chosen: Chosen, of: IntArray) -> FloatArray:
        """FLOPs of each of these beside what is chosen."""
        return np.array([self._added(chosen, self.candidates[i]) for i in of])

    def add(self, chosen: Chosen, i: int) -> Chosen:
        """With one more."""
        one = self.candidates[i]
        ends = {key: chosen.ends.get(key, frozenset()) | new for key, new in one.stages.items()}
        flops = chosen.flops + self._added(chosen, one)
        return Chosen((*chosen.picked, i), chosen.ends | ends, flops)

    def covered(self, chosen: Chosen) -> bool:
        """Whether no candidate adds a run or a budget to what is chosen."""
        stages = (stage for one in self.candidates for stage in one.stages.items())
        return all(new <= chosen.ends.get(key, frozenset()) for key, new in stages)

    def left(self, chosen: Chosen) -> float:
        """The decision's variance with all that is chosen, as a share of what it is without."""
        rows = np.unique(self.rows[list(chosen.picked)])
        return 1.0 - float(self.belief.reductions(rows[None])[0]) / self.belief.variance

    def _added(self, chosen: Chosen, one: Candidate) -> float:
        total = 0.0
        for key, new in one.stages.items():
            old = chosen.ends.get(key, frozenset())
            total += self._price(key, old | new) - self._price(key, old)
        return total

    def _price(self, key: str, ends: frozenset[int]) -> float:
        if (key, ends) not in self.prices:
            self.prices[key, ends] = trained_flops(self.configs[key], ends)
        return self.prices[key, ends]


def _too_little(cheapest: Candidate, price: float, flops: float) -> str:
    config, origin = cheapest.member.config, cheapest.member.origin
    how = f"grown by {origin.candidate}" if origin else "from scratch"
    return (
        f"{format_flops(flops)} pay no run: the cheapest, {format_count(config.model.shape.n_params)} {how} to "
        f"{config.budgets[-1]}, costs {format_flops(price)}: give as much, or smaller runs with --size-min."
    )


def _known(index: dict[tuple[str, int], int], one: Candidate) -> list[int]:
    """The rows of a candidate and its base that are counted."""
    places = ((key, end) for key, ends in one.stages.items() for end in sorted(ends))
    return [index[place] for place in places if place in index]


def _filled(groups: list[list[int]], filler: int) -> IntArray:
    """Lists of different lengths as one array."""
    width = max(map(len, groups))
    return np.array([[*group, *[filler] * (width - len(group))] for group in groups])
