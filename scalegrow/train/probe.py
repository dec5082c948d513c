"""The probe: candidate warm starts of one base, each trained on for some steps on the same batches, and ranked.

Symbols: k the lag, in steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.shape import Shape
from scalegrow.train.axes import Parameter
from scalegrow.train.candidates import Candidate
from scalegrow.train.checkpoint_growth import grow_checkpoint, learned
from scalegrow.train.distributed import Ranks
from scalegrow.train.evaluate import evaluate
from scalegrow.train.grow import parameters_of
from scalegrow.train.interrupt import Interruption
from scalegrow.train.loop import EVALUATION_BATCH, DivergedError, Run, autocast, fresh_state, train_step
from scalegrow.train.measures import condensation, distance, escape
from scalegrow.train.operators import Plan, plan
from scalegrow.train.optim import relative_rate
from scalegrow.train.ranking import Continuation, Probed, Ranking, Refused, ranked
from scalegrow.train.restore import load_model
from scalegrow.train.start import started_config
from scalegrow.train.state import TrainState, load_start, read_facts, read_weights, step_name, tensors_of
from scalegrow.train.symmetry import locked
from scalegrow.train.task import Task, task_for

HELDOUT_SHARE = 4  # a probe reads this fraction of a run's held-out set, unless told
UNUSED_BUDGET = ("20tpp",)  # a probe stays on the trunk, which is the same for every budget


@dataclass(frozen=True)
class Regime:
    """How candidates are trained on.

    deterministic: the base's batch order goes on, no dropout, one thread, one run. stochastic: `seeds` runs, each
    with a data order of its own (and dropout, where the base has it). sequences: held-out items, by default a
    quarter of the base's.
    """

    kind: Literal["deterministic", "stochastic"] = "deterministic"
    lag: int = 16
    seeds: int = 1
    sequences: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("deterministic", "stochastic"):
            raise InputError(f"regime {self.kind!r} is unknown: choose deterministic or stochastic.")
        if not 1 <= self.lag <= 10**6:
            raise InputError(f"a lag of {self.lag} steps is out of range: give 2 to a million, such as 16.")
        if self.kind == "deterministic" and self.seeds != 1:
            raise InputError("a deterministic probe is one run: leave the seeds out, or choose stochastic.")
        if self.kind == "stochastic" and not 2 <= self.seeds <= 1000:
            raise InputError(f"{self.seeds} seeds give no standard error: a stochastic probe takes 2 or more.")
        if self.sequences is not None and not 2 <= self.sequences <= 10**6:
            raise InputError(f"{self.sequences} held-out sequences: give 2 to a million.")

    @property
    def steps(self) -> list[int]:
        """When held-out loss is measured: 0, powers of two, the lag."""
        return [0, *(2**power for power in range(self.lag.bit_length()) if 2**power < self.lag), self.lag]

    def settings(self, base: RunConfig, number: int) -> dict[str, Any]:
        """What run `number` of this regime sets over the grown run's own config."""
        if self.kind == "stochastic":
            return {"compiled": False, "seed": base.seed + 1 + number, "data.seed": base.data.seed + 1 + number}
        still = {"model.dropout": 0.0} if isinstance(base.model, Decoder) else {}
        return {"compiled": False, **still}


@dataclass(frozen=True)
class Bench:
    """What every candidate of a probe shares."""

    checkpoint: Path
    config: RunConfig
    target: Shape
    regime: Regime
    cache: Path
    ranks: Ranks
    interruption: Interruption
    tell: Callable[[str], None]

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The base's."""
        return read_weights(self.checkpoint, read_facts(self.checkpoint), parameters_of(self.config.model.shape))

    @cached_property
    def model(self) -> nn.Module:
        """The base's, fixed."""
        return load_model(self.weights, self.config).to(self.ranks.device)

    @cached_property
    def task(self) -> Task:
        """The base's, whose held-out set serves all."""
        return task_for(self.config, self.cache)

    @cached_property
    def specs(self) -> dict[str, Parameter]:
        """Every parameter of the target, by name."""
        return parameters_of(self.target)

    @cached_property
    def n(self) -> int:
        """Held-out items."""
        wanted = self.regime.sequences or max(self.config.evaluation.sequences // HELDOUT_SHARE, 2)
        return wanted if self.task.n_heldout is None else min(wanted, self.task.n_heldout)

    def record(self, model: nn.Module) -> dict[str, Any]:
        """Held-out losses of a model."""
        return evaluate(self.task, model, self.n, EVALUATION_BATCH, self.ranks.device, self.ranks)

    def distance(self, model: nn.Module) -> float:
        """KL(base || model), or its like."""
        return distance(self.model, model, self.task, self.n, self.ranks.device)


def probe(
    checkpoint: Path,
    target: Shape,
    candidates: Sequence[Candidate],
    regime: Regime,
    cache: Path,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda line: None,
) -> Ranking:
    """Grow every candidate, train it for regime.lag steps, measure, rank. Nothing is left on disk but in `cache`.

    Raises InputError where no candidate can be grown and trained, KeyboardInterrupt after a signal.
    """
    config = RunConfig.from_dict(read_facts(checkpoint)["config"])
    probed, refused = [], []
    with threads(1 if regime.kind == "deterministic" else None), Interruption() as interruption:
        bench = Bench(checkpoint, config, target, regime, cache, Ranks(device=device), interruption, tell)
        base = bench.record(bench.model)
        for candidate in candidates:
            try:
                probed.append(_probed(bench, candidate))
            except InputError as error:
                refused.append(Refused(candidate, str(error)))
                tell(f"{candidate.name}: refused")
    if not probed:
        raise InputError(f"no candidate can be probed; {refused[0].candidate.name}: {refused[0].reason}")
    return Ranking(base, ranked(probed), tuple(refused))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on so many threads, then on as many as before; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Grown(NamedTuple):
    """A candidate's grown checkpoint, while it is on disk."""

    candidate: Candidate
    growth: Plan
    checkpoint: Path


def _probed(bench: Bench, candidate: Candidate) -> Probed:
    """Grow a candidate into a folder that is gone afterwards, measure it, and train it in every run."""
    base = bench.config.model.shape
    growth = plan(base, bench.target, candidate.operator, candidate.depth_operator, candidate.arguments)
    growth = learned(growth, bench.weights, bench.config, bench.cache)
    with TemporaryDirectory(prefix="scalegrow-probe-") as folder:
        out, policies = Path(folder), candidate.policies
        lineage = grow_checkpoint(bench.checkpoint, out, growth, policies, bench.cache, measured=False)
        grown = Grown(candidate, growth, out / step_name(0))
        run, state = _started(bench, grown, 0)
        first = _record(bench, run, state)
        runs = tuple(_continued(bench, grown, number, first) for number in range(bench.regime.seeds))
    weights, moments = tensors_of(state)
    return Probed(
        candidate,
        lineage,
        bench.distance(state.model),
        locked(weights, moments, bench.specs),
        condensation(weights, bench.specs),
        runs,
    )


def _started(bench: Bench, grown: Grown, number: int) -> tuple[Run, TrainState]:
    """Run `number` of a grown checkpoint, about to make its first step."""
    settings = bench.regime.settings(bench.config, number)
    config = started_config(grown.checkpoint, UNUSED_BUDGET, settings)
    assert config.start is not None
    run = Run(config, task_for(config, bench.cache), grown.checkpoint, {}, bench.ranks, bench.interruption)
    state = fresh_state(run)
    load_start(state, config.start)
    return run, state


def _continued(bench: Bench, grown: Grown, number: int, first: dict[str, Any]) -> Continuation:
    """k steps of a grown checkpoint, from its held-out record at step 0 on."""
    run, state = _started(bench, grown, number)
    before = {name: weight.clone() for name, weight in tensors_of(state)[0].items()}
    curve = [first]
    for step in bench.regime.steps[1:]:
        _advance(run, state, step)
        curve.append(_record(bench, run, state))
    after, _ = tensors_of(state)
    moved = {name: after[name] - before[name] for name in after}
    losses = " to ".join(f"{record['heldout_loss']:.4f}" for record in (curve[0], curve[-1]))
    bench.tell(f"{grown.candidate.name}, run {number + 1} of {bench.regime.seeds}: held-out loss {losses}")
    return Continuation(
        run.config,
        tuple(curve),
        bench.distance(state.model),
        escape(moved, bench.specs, grown.growth.maps) if grown.growth.operator != "scratch" else {},
        condensation(after, bench.specs),
    )


def _advance(run: Run, state: TrainState, end: int) -> None:
    """Training steps up to `end`, at the grown run's own rates before any decay; KeyboardInterrupt when asked."""
    while state.step < end:
        if run.interruption.asked:
            raise KeyboardInterrupt
        train_step(run, state, relative_rate(run.config, state.step, None))
        state.step += 1


def _record(bench: Bench, run: Run, state: TrainState) -> dict[str, Any]:
    """The held-out record of a state. Raises DivergedError where its loss is no number."""
    with autocast(run):
        record = bench.record(state.model)
    if not math.isfinite(record["heldout_loss"]):
        raise DivergedError(f"it diverged by step {state.step}: its loss is no longer a number.")
    return {"step": state.step, **record}
