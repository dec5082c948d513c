"""Which runs to add so that a decision becomes surest for the FLOPs: a c-optimal design, chosen greedily.

Variance is that of ln(L_grown / L_scratch) at the question, as far as a fit's draws leave it open (information).
Each step adds the run that lessens it most per FLOP: with its base, where that is not trained yet; a cool-down
alone, where its trunk is. That can end with cheap runs where a dear one would tell more, so the same is done by
the reduction alone, and for smaller budgets; what leaves least is kept. The smaller budgets are a fixed ladder, so
that more FLOPs never leave more than any rung below them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.fitted import FEWEST_DRAWS, Fit
from scalegrow.laws.forecast import LEVEL, difference_draws, quantiles
from scalegrow.laws.points import FloatArray, Points
from scalegrow.plan.candidates import Candidate
from scalegrow.plan.decide import Estimate, Question, grown_points, require_decidable
from scalegrow.plan.pool import Chosen, Pool
from scalegrow.runs.recipe import Recipe
from scalegrow.runs.study import Block, Member, Study

RANDOM_DESIGNS = 20  # that the design is compared with
NO_GAIN = 1e-9  # of the variance: below, rounding
Worth = Callable[[FloatArray, FloatArray], FloatArray]
WORTHS: tuple[Worth, ...] = (lambda reduction, flops: reduction / flops, lambda reduction, flops: reduction)


@dataclass(frozen=True)
class Expected:
    """The mean difference in nats with its interval, and the probability that its sign is the right one."""

    difference: Estimate
    right: float


@dataclass(frozen=True)
class Design:
    """study: the runs to add. flops: what they cost, bases and all.

    now and after: what the fit says, and what it is expected to say with these runs. variance_left: after's over
    now's. random_width: mean width in nats of the interval after random runs of the same budget. everything:
    whether no candidate is left out. extrapolation: times that the question lies outside the data, per variable.
    """

    question: Question
    level: float
    budget: float
    flops: float
    study: Study
    now: Expected
    after: Expected
    variance_left: float
    random_width: float
    n_candidates: int
    everything: bool
    extrapolation: dict[str, float]

    @cached_property
    def members(self) -> list[Member]:
        """Every run, bases among them."""
        return self.study.members()

    @property
    def width(self) -> float:
        """Of the interval after, nats."""
        return self.after.difference.high - self.after.difference.low


def design(
    fit: Fit, question: Question, flops: float, baseline: Recipe, candidates: list[Candidate], level: float = LEVEL
) -> Design:
    """The candidates to train for at most so many FLOPs. Raises InputError.

    It refuses a fit that cannot carry the decision or whose draws leave nothing open, and FLOPs that pay no run.
    """
    require_decidable(fit, question)
    require_open(fit, question)
    pool = Pool.of(fit, question, candidates, flops)
    chosen = best(pool, flops)
    if not chosen.picked:
        raise InputError("no candidate run tells anything of this decision: allow other sizes with --size-max.")
    after = [expected(fit, question, pool.left(each), level).difference for each in at_random(pool, flops)]
    return Design(
        question=question,
        level=level,
        budget=flops,
        flops=chosen.flops,
        study=Study(baseline, tuple(joined(pool.candidates[i] for i in chosen.picked))),
        now=expected(fit, question, 1.0, level),
        after=expected(fit, question, pool.left(chosen), level),
        variance_left=pool.left(chosen),
        random_width=float(np.mean([each.high - each.low for each in after])),
        n_candidates=len(pool.candidates),
        everything=pool.covered(chosen),
        extrapolation={name: float(x[0]) for name, x in fit.domain.extrapolation(grown_points(question)).items()},
    )


def require_open(fit: Fit, question: Question) -> None:
    """Raise InputError unless draws and residuals say what is not known."""
    if len(fit.draws) < FEWEST_DRAWS:
        raise InputError(f"{len(fit.draws)} draws are too few to tell what is open: fit again with --draws 2000.")
    if not np.any(fit.noise.single):
        raise InputError(
            "this fit's residuals are all 0, and noise is what runs are weighed by: fit measured losses."
        )
    if not np.ptp(difference_draws(fit, grown_points(question), Points.of(question.N, question.D))[1]) > 0:
        raise InputError(
            "all draws of this fit give the same difference, so no run can make it surer: fit more draws."
        )


def best(pool: Pool, flops: float) -> Chosen:
    """Of all greedy choices, within these FLOPs or a smaller budget of the ladder, what leaves least variance."""
    made = (greedy(pool, worth, budget) for budget in pool.ladder(flops) for worth in WORTHS)
    return min(made, key=lambda result: result[0])[1]


def greedy(pool: Pool, worth: Worth, budget: float) -> tuple[float, Chosen]:
    """The variance left by the worthiest candidate that can be paid, and the next, while any tells."""
    chosen, belief = Chosen(), pool.belief
    known = np.arange(belief.nothing + 1) == belief.nothing
    while True:
        turn = pool.turn(known, budget)
        reduction, flops = pool.reductions(belief, known, turn), pool.added(chosen, turn)
        allowed = (reduction > NO_GAIN * pool.belief.variance) & (chosen.flops + flops <= budget)
        if not allowed.any():
            return belief.variance, chosen
        i = int(turn[allowed][np.argmax(worth(reduction[allowed], flops[allowed]))])
        chosen = pool.add(chosen, i)
        for row in pool.rows[i][~known[pool.rows[i]]]:
            belief, known[row] = belief.observed(int(row)), True


def at_random(pool: Pool, flops: float) -> Iterator[Chosen]:
    """Designs of candidates in random order, each taken if the budget still pays it."""
    rng = np.random.default_rng(0)
    for _ in range(RANDOM_DESIGNS):
        chosen = Chosen()
        for i in rng.permutation(len(pool.candidates)):
            more = pool.add(chosen, int(i))
            chosen = more if more.flops <= flops else chosen
        yield chosen


def joined(chosen: Iterable[Candidate]) -> Iterator[Block]:
    """One block for runs that differ in seed or size alone, each run with the most budgets it was chosen with."""
    runs: dict[str, Block] = {}
    for one in chosen:
        there = runs.get(one.member.key)
        if there is None or len(there.budgets) < len(one.block.budgets):
            runs[one.member.key] = one.block
    return _joined(_joined(runs.values(), "seeds"), "sizes")


def _joined(blocks: Iterable[Block], name: str) -> Iterator[Block]:
    """Blocks that are alike but for one tuple, as one."""
    found: dict[str, Block] = {}
    for block in blocks:
        key = repr(replace(block, **{name: ()}))  # type: ignore[arg-type]
        there = getattr(found[key], name) if key in found else ()
        found[key] = replace(block, **{name: (*there, *getattr(block, name))})  # type: ignore[arg-type]
    return iter(found.values())


def expected(fit: Fit, question: Question, left: float, level: float) -> Expected:
    """What the fit is expected to say once its variance is `left` of what it is: the same centre, drawn together.

    With truth d, centre m and variance V the later estimate is m + (1 - left) (d - m) + noise of variance
    left (1 - left) V; right is the chance that its sign is d's, over the draws as truths.
    """
    value, draws, _, log_scratch = difference_draws(fit, grown_points(question), Points.of(question.N, question.D))
    centre, apart = float(value[0]), draws[:, 0] - value[0]
    low, high = quantiles(centre + np.sqrt(left) * apart, level)
    nats = [float(np.exp(log_scratch[0]) * np.expm1(ratio)) for ratio in (centre, low, high)]
    return Expected(Estimate(*nats), right_sign(centre, apart, left))


def right_sign(centre: float, apart: FloatArray, left: float) -> float:
    """P(sign of the later estimate = sign of the truth), truths centre + apart."""
    from scipy.special import ndtr

    truth, estimate = centre + apart, centre + (1 - left) * apart
    spread = np.std(apart) * np.sqrt(left * (1 - left))
    with np.errstate(divide="ignore"):
        return float(np.mean(ndtr(np.sign(truth) * np.where(estimate == 0, 0.0, estimate / spread))))
