"""`scalegrow train`: from dials to a folder of logs and checkpoints, with a summary."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from scalegrow.cli import INTERRUPTED
from scalegrow.cli.render import console, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, RunConfig
from scalegrow.runs.log import read_records
from scalegrow.runs.recipe import Recipe, parse_setting, read_recipe
from scalegrow.shape import ModelShape
from scalegrow.units import format_count, format_flops

ONE_THREAD_BELOW = 1e6  # parameters: smaller models gain little from more threads, and lose much beside other work


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
        recipe = replace(read_recipe(file), **given)
    elif "size" in given:
        recipe = Recipe(**given)
    else:
        raise InputError("how large? give --size, such as --size 100k, or --config FILE.")
    if Path(recipe.tokenizer).is_file() and recipe.vocab_size is None:
        from scalegrow.train.tokenizer import make_tokenizer

        recipe = replace(recipe, vocab_size=make_tokenizer(recipe.tokenizer, ()).vocab_size)
    return replace(recipe, settings={**recipe.settings, **dict(map(parse_setting, settings))})


def run(recipe: Recipe, place: Place, *, dry: bool, as_json: bool) -> None:
    """Train, or with dry only say what would be trained."""
    if place.threads is not None and place.threads < 1:
        raise InputError(f"{place.threads} threads compute nothing: give --threads 1 or more.")
    config = recipe.config()
    out = place.out or Path("runs") / default_name(recipe, config)
    describe(config, out)
    if dry:
        if as_json:
            print_json({"schema": "scalegrow-train/1", "folder": str(out), "config": config.to_dict()})
        return
    _train(config, out, place, as_json=as_json)


def default_name(recipe: Recipe, config: RunConfig) -> str:
    """A folder that names the run and holds no other: data, size, digest."""
    source = config.data.source
    name = source if source in ("stories", "regression") else Path(source.split(":")[-1]).name.split(".")[0]
    return f"{name}-{recipe.size}-{config.digest()[:8]}"


def describe(config: RunConfig, out: Path) -> None:
    """The plan, on stderr."""
    shape = config.model.shape
    if isinstance(shape, ModelShape):
        form = f"{shape.d_model} wide, {shape.n_layers} deep, {shape.n_heads} heads of {shape.head_dim}"
    else:
        form = f"{shape.width} wide, {shape.depth} hidden layers"
    budgets = ", ".join(
        f"{budget} = {format_count(config.steps(budget) * config.tokens_per_step)} in {config.steps(budget)} steps"
        for budget in config.budgets
    )
    scheme, lr = config.parametrisation.kind, config.optimiser.lr
    note(f"{format_count(shape.n_params)} parameters ({form}), {scheme}, lr {lr:g}")
    note(f"{budgets}; {config.tokens_per_step} tokens a step, {config.schedule.kind}, data {config.data.source}")
    note(f"into {out}")


def _train(config: RunConfig, out: Path, place: Place, *, as_json: bool) -> None:
    try:
        import torch
    except ImportError:
        raise InputError("training needs PyTorch: pip install 'scalegrow[train]'.") from None

    from scalegrow.cli.progress import Progress
    from scalegrow.train.distributed import start_ranks
    from scalegrow.train.init import epsilon_diagnostic
    from scalegrow.train.interrupt import InterruptedRun
    from scalegrow.train.run import train
    from scalegrow.train.trackers import tracker

    small = config.model.shape.n_params < ONE_THREAD_BELOW
    if place.threads or small:
        torch.set_num_threads(place.threads or 1)
    ranks = start_ranks(place.device, place.sharding)
    watchers = (Progress(), *(tracker(name, out) for name in place.trackers)) if ranks.writes else ()
    note(epsilon_diagnostic(config))
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
        show(config, out, finals)


def _last_evaluation(log: Path) -> dict[str, Any]:
    return [record for record in read_records(log) if "heldout_loss" in record][-1]


def show(config: RunConfig, out: Path, finals: list[tuple[Any, dict[str, Any]]]) -> None:
    """The finals for a person."""
    unit = "loss, nats" if isinstance(config.model, Decoder) else "mean square error"
    rows = []
    for stage, record in finals:
        known = [f"{record['excess']:.4f}", f"{record['excess_se']:.4f}"] if "excess" in record else ["", ""]
        per_byte = f"{record['bits_per_byte']:.3f}" if "bits_per_byte" in record else ""
        rows.append(
            (
                stage.name,
                format_count(record["tokens"]),
                format_flops(record["flops"]),
                f"{record['heldout_loss']:.4f}",
                f"{record['heldout_se']:.4f}",
                *known,
                per_byte,
                "annealed" if record["annealed"] else "mid-run",
            )
        )
    heads = ("stage", "tokens", "FLOPs", unit, "s.e.", "above entropy", "s.e.", "bits/byte", "")
    used = [i for i, _ in enumerate(heads) if any(row[i] for row in rows)]
    out_console = console()
    out_console.print(table([heads[i] for i in used], [[row[i] for i in used] for row in rows]))
    if tags := finals[-1][1].get("tags"):
        parts = ", ".join(f"{name} {tag['loss']:.3f}" for name, tag in tags.items())
        out_console.print(f"\nloss by kind of token at the end: {parts}")
    if (epochs := finals[-1][1].get("epochs", 0)) > 1:
        out_console.print(f"\nthe text was seen {epochs:.2f} times")
    out_console.print(f"\nLogs and checkpoints: {out}; a table of them: scalegrow collect {out}")
