"""sweep(study, folder): every run of a study that is not finished, on workers that may die.

A run begins when its base is finished. One whose worker died is tried again from its last checkpoint; one that
failed for another reason is not, and neither is what would grow from it.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.collect import collect
from scalegrow.runs.config import RunConfig
from scalegrow.runs.finished import FINISHED, read_note
from scalegrow.runs.log import last_step
from scalegrow.runs.recipe import is_local_text
from scalegrow.runs.study import Member, Study
from scalegrow.train.candidates import Candidate
from scalegrow.train.documents import open_corpus
from scalegrow.train.evaluate import require_heldout
from scalegrow.train.member import Job, checkpoint_name, finished, growth_plan
from scalegrow.train.operators import Plan
from scalegrow.train.run import hold, kept_config
from scalegrow.train.stages import require_extension, stages
from scalegrow.train.task import task_for
from scalegrow.train.workers import Event, Workers

POLL = 1.0  # seconds between looks at the logs
RUNS, PACKED = "runs", "packed"


@dataclass
class Outcome:
    """What a sweep came to, so far: keys of runs, and why those that failed did."""

    finished: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    deaths: int = 0

    def open(self, jobs: dict[str, Job]) -> set[str]:
        """Waiting runs that may still begin: their base did not fail."""
        bases = {key: jobs[key].member.origin for key in self.waiting}
        return {key for key, origin in bases.items() if not (origin and origin.base.key in self.failed)}


Tell = Callable[[str], None]
Watch = Callable[[Outcome, dict[str, float]], None]


def jobs_of(study: Study, folder: Path, cache: Path | None = None) -> dict[str, Job]:
    """The study's runs by key, bases before what grows from them, each with its place below `folder`.

    Raises InputError where one could not be grown, has no checkpoint to grow from, or was begun and cannot go
    on to these budgets.
    """
    jobs: dict[str, Job] = {}
    spelled: dict[str, Member] = {}
    for member in study.members():
        base = jobs[member.origin.base.key] if member.origin else None
        config = base.member.config if base else None
        place = folder / RUNS / member.name
        _require_budgets(member, place)
        jobs[member.key] = Job(member, place, cache or folder / PACKED, config, base.folder if base else None)
        if config:
            meant = _meant(member, _growable(member, config))
            _refuse_twins(spelled.setdefault(meant, member), member)
    return jobs


def _require_budgets(member: Member, place: Path) -> None:
    """Raise InputError where a run that was begun cannot be given its budgets."""
    if (there := kept_config(place)) is not None:
        require_extension(there, there.with_budgets(member.config.budgets), place)


def _growable(member: Member, base: RunConfig) -> Plan:
    """How it grows. Raises InputError with the run's name where no checkpoint will be, or the operator cannot."""
    assert member.origin is not None
    try:
        checkpoint_name(base, member.origin)
        return growth_plan(member)
    except InputError as error:
        raise InputError(f"{member.name}: {error}") from None


def _meant(member: Member, planned: Plan) -> str:
    """What a candidate stands for, however it is written, and all else that decides the run."""
    origin = member.origin
    assert origin is not None
    policies = Candidate.parse(origin.candidate, origin.seed).policies.resolved(planned)
    meant = (planned.operator, planned.depth_operator, planned.arguments, policies)
    steps = origin.base.config.steps(origin.budget)
    return repr((member.config.digest(), origin.base.key, steps, origin.annealed, meant))


def _refuse_twins(first: Member, second: Member) -> None:
    """Raise InputError where two candidates are one, so that one run would be trained and counted twice."""
    if first.key != second.key:
        assert first.origin is not None
        assert second.origin is not None
        one, other = first.origin.candidate, second.origin.candidate
        raise InputError(f"operators {one!r} and {other!r} are the same growth: write it one way.")


def sweep(jobs: dict[str, Job], workers: Workers, *, retries: int, tell: Tell, watch: Watch) -> Outcome:
    """Run what is not finished; tell says what ended, watch gets the share of each run at work that is done.

    Raises KeyboardInterrupt after the workers have saved.
    """
    outcome = Outcome(finished={key for key, job in jobs.items() if finished(job)})
    outcome.waiting = jobs.keys() - outcome.finished
    tries: dict[str, int] = {}
    running: set[str] = set()
    try:
        while outcome.waiting or running:
            for key in ready(jobs, outcome)[: workers.free()]:
                outcome.waiting.remove(key)
                running.add(key)
                workers.start(jobs[key])
            if not running:
                break
            for event in workers.events(POLL):
                running.remove(event.key)
                tries[event.key] = tries.get(event.key, 0) + 1
                _settle(event, jobs[event.key], outcome, tries[event.key] <= retries, tell)
            watch(outcome, {key: share_done(jobs[key]) for key in running})
    finally:
        workers.stop()
    return outcome


def _settle(event: Event, job: Job, outcome: Outcome, again: bool, tell: Tell) -> None:
    """Note what became of a run."""
    name = job.member.name
    if event.kind == "finished":
        outcome.finished.add(event.key)
        tell(f"{name}: finished")
    elif event.kind == "failed":
        outcome.failed[event.key] = event.message
        tell(f"{name}: failed: {event.message}")
    elif again:
        outcome.deaths += 1
        outcome.waiting.add(event.key)
        tell(f"{name}: its worker died ({_cause(event)}); it is tried again from its last checkpoint")
    else:
        outcome.deaths += 1
        outcome.failed[event.key] = f"its workers died, the last of {_cause(event)}"
        tell(f"{name}: given up: {outcome.failed[event.key]}")


def _cause(event: Event) -> str:
    """Why a worker died; one that saved first was asked to, by someone else than the sweep."""
    return event.message or "stopped from outside"


def ready(jobs: dict[str, Job], outcome: Outcome) -> list[str]:
    """Waiting runs whose base is finished, in the study's order."""
    return [key for key, job in jobs.items() if key in outcome.waiting and _may_begin(job, outcome)]


def _may_begin(job: Job, outcome: Outcome) -> bool:
    return job.member.origin is None or job.member.origin.base.key in outcome.finished


def share_done(job: Job) -> float:
    """The share of a run's steps, trunk and cool-downs, that its logs tell of."""
    planned = stages(job.member.config)
    made = 0
    for stage in planned:
        reached = last_step(job.folder / stage.name / "log.jsonl")
        made += max(min(reached, stage.end) - stage.start, 0)
    return made / sum(stage.end - stage.start for stage in planned)


def require_texts(jobs: Iterable[Job]) -> None:
    """Raise InputError where a text is missing here, or is written in two ways; hubs are not asked."""
    spelled: dict[Path, str] = {}
    for config, _ in _one_of_each_data(jobs):
        source = config.data.source
        if is_local_text(source):
            open_corpus(source, config.data.column, config.data.revision)
            first = spelled.setdefault(Path(source).resolve(), source)
            if first != source:
                raise InputError(f"data {first!r} and {source!r} are the same text: write it one way.")


def prepare(jobs: Iterable[Job]) -> None:
    """Tokenize every text, once for all runs. Raises InputError where data are missing or do not fit."""
    for config, cache in _one_of_each_data(jobs):
        require_heldout(task_for(config, cache))


def _one_of_each_data(jobs: Iterable[Job]) -> list[tuple[RunConfig, Path]]:
    """A config for every data source, whatever the order of its items, and where its tokens are kept."""
    found = {replace(job.member.config.data, seed=0): (job.member.config, job.cache) for job in jobs}
    return list(found.values())


def table(folder: Path) -> pl.DataFrame:
    """The run table of a folder: of every run that was finished there, as far as it was, whichever study asked.

    Raises InputError where none is finished, or a finished one has lost a loss.
    """
    noted = [path.parent for path in (folder / RUNS).glob(f"*/{FINISHED}")]
    notes = {path.name: read_note(path) for path in noted}
    if damaged := sorted(name for name, note in notes.items() if not note):
        raise InputError(
            f"{folder / RUNS / damaged[0] / FINISHED} cannot be read: sweep its study again or remove its folder; "
            "the table is left as it was."
        )
    if not notes:
        raise InputError(f"no run below {folder} is finished: give the same command to go on.")
    ends = pl.DataFrame(
        [(name, stage, end) for name, note in notes.items() for stage, end in note["ends"].items()],
        schema={"folder": pl.String(), "stage": pl.String(), "end": pl.Int64()},
        orient="row",
    )
    rows = collect(folder / RUNS, notes).join(ends, on=("folder", "stage"))
    lost = ends.join(rows, left_on=("folder", "stage", "end"), right_on=("folder", "stage", "step"), how="anti")
    for name, stage, end in lost.sort("folder", "stage").iter_rows():
        raise InputError(
            f"{folder / RUNS / name} was finished and its log has no loss at the end of {stage} (step {end}): "
            "restore the log, or remove the folder to train the run again. The table is left as it was."
        )
    return rows.filter(pl.col("step") <= pl.col("end")).drop("end").sort("folder", "tokens", "annealed", "stage")


def claimed(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder for this sweep alone. Raises InputError if another holds it."""
    return hold(folder, InputError(f"another sweep runs in {folder}: wait, or choose another --out."))
