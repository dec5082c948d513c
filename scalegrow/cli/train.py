"""`scalegrow train`: from dials to a folder of logs and checkpoints, with a summary."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from scalegrow.cli import INTERRUPTED
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.render import console, note, print_json, table_without_empty
from scalegrow.errors import InputError
from scalegrow.laws.gamma import STANDARD
from scalegrow.plan.gamma import choose_nearest
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.runs.log import read_records
from scalegrow.runs.recipe import Recipe, is_text, parse_setting, read_recipe
from scalegrow.shape import ModelShape
from scalegrow.units import format_count

ONE_THREAD_BELOW = 1e6  # parameters: smaller models gain little from more threads, and lose much beside other work


ENOUGH_STEPS = 500
TAG_COLUMNS = ("loss", "se", "excess")
NEEDS_TORCH = "training needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here."


@dataclass(frozen=True)
class Place:
    """Where and how a run is computed; none of it changes what is learned."""

    out: Path | None
    cache: Path | None
    device: str | None
    sharding: str | None
    threads: int | None
    trackers: tuple[str, ...]


def recipe_from(file: Path | None, dials: dict[str, Any], settings: list[str]) -> Recipe:
    """A recipe from a file, the dials given on the command line over it, and --set last."""
    given = {name: value for name, value in dials.items() if value is not None}
    if file:
        recipe = read_recipe(file, **given)
    elif "size" in given:
        recipe = Recipe(**given)
    else:
        raise InputError("how large? give --size, such as --size 100k, or --config FILE.")
    recipe = with_vocabulary(recipe)
    return replace(recipe, settings={**recipe.settings, **dict(map(parse_setting, settings))})


def with_vocabulary(recipe: Recipe) -> Recipe:
    """The recipe with the size of its tokenizer.json's vocabulary, if it names such a file and not the size."""
    if not Path(recipe.tokenizer).is_file() or recipe.vocab_size is not None:
        return recipe
    from scalegrow.train.tokenizer import make_tokenizer

    return replace(recipe, vocab_size=make_tokenizer(recipe.tokenizer, ()).vocab_size)


def started(start: Path, dials: dict[str, Any], settings: list[str]) -> tuple[RunConfig, dict[str, Any]]:
    """The config of a run from a grown checkpoint, and the settings it was given."""
    if other := [name for name, value in dials.items() if value is not None and name != "budgets"]:
        raise InputError(f"a grown checkpoint decides its own {other[0]}: leave that out beside --start.")
    try:
        from scalegrow.train.start import started_config
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    given = dict(map(parse_setting, settings))
    return started_config(start, dials["budgets"] or ("20tpp",), given), given


def run(config: RunConfig, settings: dict[str, Any], place: Place, *, dry: bool, as_json: bool) -> None:
    """Train, or with dry only say what would be trained."""
    if place.threads is not None:
        require_cores(place.threads)
    out = place.out or Path("runs") / default_name(config)
    if os.environ.get("RANK", "0") == "0":
        describe(config, settings, out)
    if dry:
        if as_json:
            print_json({"schema": "scalegrow-train/1", "folder": str(out), "config": config.to_dict()})
        return
    _train(config, out, place, as_json=as_json)


def require_cores(threads: int) -> None:
    """Raise InputError unless this machine has as many cores."""
    cores = os.cpu_count() or 1
    if not 1 <= threads <= cores:
        raise InputError(f"--threads {threads} on {cores} cores: give --threads 1 to {cores}.")


def default_name(config: RunConfig) -> str:
    """A folder that names the run and holds no other: data, size, digest. Another budget goes into the same."""
    source = config.data.source
    name = Path(source.split(":")[-1]).name.split(".")[0] if is_text(source) else source
    return f"{name}-{format_count(config.model.shape.n_params)}-{config.digest()[:8]}"


def describe(config: RunConfig, settings: dict[str, Any], out: Path) -> None:
    """The plan, on stderr: shape, budgets, what differs from the usual, what to watch."""
    shape = config.model.shape
    if isinstance(shape, ModelShape):
        form = f"{shape.d_model} wide, {shape.n_layers} deep, {shape.n_heads} heads of {shape.head_dim}"
    else:
        form = f"{shape.width} wide, {shape.depth} hidden layers"
    budgets = ", ".join(
        f"{budget} = {format_count(config.steps(budget) * config.tokens_per_step)} in {config.steps(budget)} steps"
        for budget in config.budgets
    )
    unit = "tokens" if isinstance(shape, ModelShape) else "samples"
    kinds = f"{config.parametrisation.kind}, {config.schedule.kind}"
    note(f"{format_count(shape.n_params)} parameters ({form}), {kinds}")
    note(f"{budgets}; {config.tokens_per_step} {unit} a step, peak lr {config.optimiser.lr:g}")
    if config.start:
        came = f"{config.start.operator} x {config.start.growth_factor:.3g} from run {config.start.base}"
        note(f"grown by {came}; schedule {config.start.schedule}, data from item {config.first_item}")
    unusual = ", ".join(f"{name} = {value}" for name, value in settings.items())
    note(f"data {config.data.source}{f'; {unusual}' if unusual else ''}; into {out}")
    if isinstance(config.model, Decoder) and not config.start:
        note(gamma_sentence(config))
    _warn_of_few_steps(config)


def gamma_sentence(config: RunConfig) -> str:
    """The initialisation's exponent, and what the gamma study says of it at this size and budget."""
    name = "stories" if config.data.source == "stories" else "text"
    law, N = load_gamma(name), config.model.shape.n_params
    tokens = max(config.steps(budget) for budget in config.budgets) * config.tokens_per_step
    found, at = choose_nearest(law, N, tokens / N)
    best, gain = found.best, found.gain
    here = "here" if at == (N, tokens / N) else f"at {format_count(at[0])} and {at[1]:.3g} tpp, its nearest,"
    return (
        f"gamma {config.init.gamma:g}; by the {name} study {best.value:.2f} ({best.low:.2f} to {best.high:.2f}) "
        f"is best {here} by {gain.value:+.4f} nats ({gain.low:+.4f} to {gain.high:+.4f}) against {STANDARD:g}"
    )


def _warn_of_few_steps(config: RunConfig) -> None:
    steps = config.steps(config.budgets[0])
    if steps < ENOUGH_STEPS:
        smaller = max(config.batch * steps // ENOUGH_STEPS, 1)
        advice = f": --set batch={smaller}" if smaller < config.batch else ""
        note(f"note: {config.budgets[0]} makes {steps} steps; below about {ENOUGH_STEPS} they limit a run{advice}")


def _train(config: RunConfig, out: Path, place: Place, *, as_json: bool) -> None:
    try:
        import torch
    except ImportError:
        raise InputError(NEEDS_TORCH) from None

    from scalegrow.cli.progress import Progress
    from scalegrow.train.distributed import start_ranks
    from scalegrow.train.init import epsilon_diagnostic
    from scalegrow.train.interrupt import InterruptedRun
    from scalegrow.train.loop import Watcher
    from scalegrow.train.run import train
    from scalegrow.train.trackers import tracker

    small = config.model.shape.n_params < ONE_THREAD_BELOW
    if place.threads or small:
        torch.set_num_threads(place.threads or 1)
    ranks = start_ranks(place.device, place.sharding)
    watchers: tuple[Watcher, ...] = ()
    if ranks.writes:
        watchers = (Progress(), *(tracker(name, out) for name in place.trackers))
        note(epsilon_diagnostic(config))
    started = time.perf_counter()
    try:
        planned = train(config, out, ranks, watchers, place.cache)
    except InterruptedRun:
        note(f"scalegrow: interrupted; saved in {out}: give the same command to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if not ranks.writes:
        return
    finals = [(stage, _last_evaluation(out / stage.name / "log.jsonl")) for stage in planned]
    if as_json:
        stages = [{"stage": stage.name, "annealed": stage.annealed, **record} for stage, record in finals]
        print_json(
            {"schema": "scalegrow-train/1", "folder": str(out), "config": config.to_dict(), "stages": stages}
        )
    else:
        show(config, out, finals, time.perf_counter() - started)


def _last_evaluation(log: Path) -> dict[str, Any]:
    losses = [record for record in read_records(log) if "heldout_loss" in record]
    if not losses:
        raise InputError(f"{log} says it finished but holds no held-out loss: remove its folder and train again.")
    return losses[-1]


def show(config: RunConfig, out: Path, finals: list[tuple[Any, dict[str, Any]]], seconds: float) -> None:
    """The finals for a person, and the last one's losses by kind of token."""
    language = isinstance(config.model, Decoder)
    rows = []
    for stage, record in finals:
        known = [f"{record['excess']:.4f}", f"{record['excess_se']:.4f}"] if "excess" in record else ["", ""]
        rows.append(
            (
                stage.name,
                format_count(record["tokens"]),
                f"{record['flops']:.3g}",
                f"{record['heldout_loss']:.4f}",
                f"{record['heldout_se']:.4f}",
                *known,
                f"{record['bits_per_byte']:.3f}" if "bits_per_byte" in record else "",
                "annealed" if record["annealed"] else "mid-run",
            )
        )
    names = ("tokens", "loss, nats", "entropy") if language else ("samples", "mean sq. error", "noise")
    heads = ("stage", names[0], "FLOPs", names[1], "s.e.", f"above {names[2]}", "s.e.", "bits/byte", "")
    page = console()
    page.print(table_without_empty(heads, rows))
    final = finals[-1][1]
    if tags := final.get("tags"):
        page.print(f"\nby kind of token after {finals[-1][0].name}:")
        by_kind = [
            (name, f"{tag['share']:.1%}", *(f"{tag[key]:.3f}" if key in tag else "" for key in TAG_COLUMNS))
            for name, tag in tags.items()
            if tag["share"]
        ]
        page.print(table_without_empty(("", "share", "loss, nats", "s.e.", "above entropy"), by_kind))
    if final.get("epochs", 0) > 1:
        page.print(f"\nthe text was seen {final['epochs']:.2f} times")
    page.print(f"\n{seconds:.0f} s; logs and checkpoints in {out}")
