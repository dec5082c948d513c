"""`scalegrow design`: the runs to add next, as a study that `scalegrow sweep` trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalegrow.atomic import new_file
from scalegrow.cli.collect import require_writable
from scalegrow.cli.predict import Words, asked, load_fit, question_data
from scalegrow.cli.render import (
    between,
    console,
    json_estimate,
    note,
    print_json,
    table_without_empty,
)
from scalegrow.errors import InputError
from scalegrow.growth import Growth
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.fitted import Fit
from scalegrow.plan.candidates import Grid, Growable, candidates
from scalegrow.plan.decide import require_decidable
from scalegrow.plan.design import Design, Expected, design
from scalegrow.runs.branches import trained_flops
from scalegrow.runs.recipe import Recipe, is_local_text
from scalegrow.runs.study import Member, read_study
from scalegrow.runs.study_text import chosen, study_text
from scalegrow.units import format_count, format_flops, parse_count, parse_flops

MOST_SEEDS = 100


@dataclass(frozen=True)
class Room:
    """What candidates may be: how many seeds of a run, their sizes, and the study whose baseline they share."""

    seeds: int
    smallest: str | None
    largest: str | None
    baseline: Path | None


def run(
    fit_name: str,
    flops: str,
    words: Words,
    room: Room,
    out: Path | None,
    level: float,
    *,
    as_json: bool,
) -> None:
    """Choose the runs, write the study, print what is expected of it."""
    fit, budget = load_fit(fit_name), parse_flops(flops)
    growth, wanted = asked(fit, words)
    require_decidable(fit, wanted)
    if not 1 <= room.seeds <= MOST_SEEDS:
        raise InputError(f"--seeds {room.seeds} is no number of seeds: give 1 to {MOST_SEEDS}.")
    if out:
        require_writable(out)
    baseline, first = shared(room.baseline)
    smallest, largest = (parse_count(size) if size else None for size in (room.smallest, room.largest))
    grid = Grid.around(fit, wanted, range(first, first + room.seeds), smallest, largest)
    pool = candidates(baseline, grid, growable())
    if not any(one.member.origin and one.member.origin.operator == wanted.operator for one in pool):
        note(f"note: {wanted.operator} can grow none of these sizes: fix n_layers and head_dim in a --baseline.")
    made = design(fit, wanted, budget, baseline, pool, level)
    text = study_text(made.study)
    if out:
        with new_file(out) as partial:
            partial.write_text(text, encoding="utf-8")
    if room.baseline is None:
        note("note: these are runs of the default recipe; for that of the fitted runs give --baseline STUDY.")
    if other := other_data(fit, baseline):
        note(other)
    if as_json:
        print_json(as_data(fit_name, growth, made, text, out))
    else:
        show(fit_name, made, out)


def shared(study: Path | None) -> tuple[Recipe, int]:
    """The baseline of a study and the first seed after its own, so that no run is proposed twice."""
    if study is None:
        return Recipe("", data="stories"), 0
    found = read_study(study)
    source = found.baseline.source
    if is_local_text(source) and not Path(source).exists():
        raise InputError(f"{source}, the data of {study}, is not there: give the path from here.")
    return found.baseline, 1 + max(seed for block in found.runs for seed in block.seeds)


def other_data(fit: Fit, baseline: Recipe) -> str:
    """A note where these runs learn something else than the fitted ones; '' where none is known."""
    known, source = fit.provenance.get("data", ""), baseline.source
    if not known or Path(source).name in known:
        return ""
    return f"note: the fitted runs learned {known}, these {source}: one law may not hold for both."


def growable() -> Growable:
    """Whether an operator can grow a member's base into it, as `scalegrow sweep` asks; without torch, any."""
    try:
        from scalegrow.train.member import growth_plan
    except ImportError:
        note("note: without PyTorch nothing tells which growths an operator allows; `scalegrow sweep` will.")
        return lambda member: True

    def can_grow(member: Member) -> bool:
        try:
            return member.origin is None or bool(growth_plan(member))
        except InputError:
            return False

    return can_grow


def show(name: str, made: Design, out: Path | None) -> None:
    """The design for a person."""
    page = console()
    page.print(table_without_empty(("parameters", "arm", "base", "tok/param", "seeds", "FLOPs"), rows(made)))
    percent = f"{made.level:.0%}"
    everything = "That is every candidate: allow more with --seeds or --size-max.\n" if made.everything else ""
    page.print(
        f"\n{len(made.members)} runs for {format_flops(made.flops)}, out of {made.n_candidates} candidates within "
        f"{format_flops(made.budget)}.\n{everything}"
    )
    facts = [("now", made.now), ("expected with them", made.after)]
    heads = ("difference (grown - scratch)", f"{percent} interval", "width", "P(sign is right)")
    page.print(table_without_empty(heads, [(when, *cells(each)) for when, each in facts]))
    page.print(f"\nRecipe: {recipe_text(made.study.baseline)}.")
    page.print(f"Fit: {name}; this question {extrapolation_sentence(made.extrapolation)}.")
    page.print(
        f"Random runs of the same budget would leave a width of {made.random_width:.4f} on average, "
        f"and these {made.width / made.random_width:.2f} of that."
    )
    page.print(f"Train them: scalegrow sweep {out}" if out else "Write them as a study: --out next.toml")


def recipe_text(baseline: Recipe) -> str:
    """What all runs share: the data, and what is not as by default."""
    other = dict(chosen(baseline, ("size", "data", "budgets", "settings")))
    words = [f"{name} {value}" for name, value in {**other, **baseline.settings}.items()]
    return f"data {baseline.data or 'as by default'}; {', '.join(words) or 'all else as by default'}"


def cells(each: Expected) -> tuple[str, str, str]:
    """Interval, width and probability."""
    d = each.difference
    return between(f"{d.low:+.4f}", f"{d.high:+.4f}"), f"{d.high - d.low:.4f}", f"{each.right:.3f}"


def rows(made: Design) -> list[tuple[str, ...]]:
    """Runs that are alike but for their seeds, in the order in which they are trained."""
    groups: dict[tuple[str, ...], list[Member]] = {}
    for member in made.members:
        groups.setdefault(_line(member), []).append(member)
    return [
        (
            *line,
            " ".join(str(member.config.seed) for member in group),
            f"{sum(trained_flops(member.config) for member in group):.3g}",
        )
        for line, group in groups.items()
    ]


def _line(member: Member) -> tuple[str, ...]:
    origin, N = member.origin, format_count(member.config.model.shape.n_params)
    arm, base = "scratch", ""
    if origin:
        arm = f"{origin.candidate} x{origin.factor:g}"
        base = f"{format_count(origin.base.config.model.shape.n_params)} at {origin.budget}"
    return N, arm, base, " ".join(budget.removesuffix("tpp") for budget in member.config.budgets)


def as_data(name: str, growth: Growth, made: Design, text: str, out: Path | None) -> dict[str, Any]:
    """The design for a program: the schema is documented in docs/json.md."""
    return {
        "schema": "scalegrow-design/1",
        "fit": name,
        "question": question_data(growth, made.question),
        "level": made.level,
        "budget_flops": made.budget,
        "flops": made.flops,
        "candidates": made.n_candidates,
        "runs": [{**each.to_dict(), "flops": trained_flops(each.config)} for each in made.members],
        "now": _expected(made.now),
        "expected": _expected(made.after),
        "variance_left": made.variance_left,
        "width": made.width,
        "random_width": made.random_width,
        "everything": made.everything,
        "extrapolation": {LABELS[name]: ratio for name, ratio in made.extrapolation.items()},
        "out": str(out) if out else None,
        "study": text,
    }


def _expected(each: Expected) -> dict[str, Any]:
    return {"difference": json_estimate(each.difference), "probability_sign_right": each.right}
