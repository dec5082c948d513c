"""`scalegrow probe`: candidate warm starts of one checkpoint, trained on for some steps and ranked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from scalegrow.cli.grow import FACTORS, NEEDS_TORCH, Target, form
from scalegrow.cli.render import console, note, print_json, table, table_without_empty
from scalegrow.cli.train import ONE_THREAD_BELOW
from scalegrow.errors import InputError
from scalegrow.runs.branches import warmup_steps
from scalegrow.runs.config import RunConfig
from scalegrow.shape import ModelShape
from scalegrow.units import format_count

if TYPE_CHECKING:
    from rich.table import Table

    from scalegrow.train.candidates import Candidate
    from scalegrow.train.probe import Regime
    from scalegrow.train.ranking import Continuation, Mean, Probed, Ranking

SEEDS = 3  # of a stochastic probe
REGIMES = {
    "deterministic": "the base's batch order goes on, no dropout, one run",
    "stochastic": "{seeds} runs, each with a data order of its own",
}


def run(
    checkpoint: Path,
    target: Target,
    operators: str,
    regime: dict[str, Any],
    schedule: str,
    seed: int,
    cache: Path | None,
    device: str | None,
    *,
    as_json: bool,
) -> None:
    """Probe every candidate, and print the ranking."""
    try:
        from scalegrow.train.candidates import parse_candidates
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    chosen = regime_of(regime)
    found = ranking(checkpoint, target, parse_candidates(operators, seed, schedule), chosen, cache, device)
    if as_json:
        print_json({"schema": "scalegrow-probe/1", "checkpoint": str(checkpoint), **told(found, chosen)})
    else:
        show(found, chosen)


def regime_of(told: dict[str, Any]) -> "Regime":
    """kind, lag, seeds and sequences as told; a stochastic probe has SEEDS unless told."""
    from scalegrow.train.probe import Regime

    usual = SEEDS if told["kind"] == "stochastic" else 1
    return Regime(**told | {"seeds": usual if told["seeds"] is None else told["seeds"]})


def ranking(
    checkpoint: Path,
    target: Target,
    candidates: Sequence["Candidate"],
    regime: "Regime",
    cache: Path | None,
    device: str | None,
) -> "Ranking":
    """Every candidate grown from a checkpoint, trained for the lag, and ranked."""
    from scalegrow.train.distributed import start_ranks
    from scalegrow.train.probe import probe, threads
    from scalegrow.train.state import read_facts

    shape = target.shape(RunConfig.from_dict(read_facts(checkpoint)["config"]).model.shape)
    ranks = start_ranks(device or "cpu")
    if ranks.count > 1:
        raise InputError("a probe runs in one process: start it without torchrun.")
    if regime.lag < 2:
        note("note: lag 1 may mis-rank: AdamW's first step hides uneven shares. Give --lag 2 or more, such as 16.")
    with threads(1 if shape.n_params < ONE_THREAD_BELOW else None), packed(checkpoint, cache) as texts:
        return probe(checkpoint, shape, candidates, regime, texts, ranks.device, tell=note)


@contextmanager
def packed(checkpoint: Path, cache: Path | None) -> Iterator[Path]:
    """Where packed texts are: as told, where the base's run left them, or a folder that is gone afterwards."""
    above = checkpoint.resolve().parents  # RUN/STAGE/checkpoints/step_N
    beside = above[min(3, len(above) - 1)] / "packed"
    if cache or beside.is_dir():
        yield cache or beside
        return
    with TemporaryDirectory(prefix="scalegrow-packed-") as folder:
        yield Path(folder)


def told(found: "Ranking", regime: "Regime") -> dict[str, Any]:
    """Everything a probe found, as plain data."""
    shape = found.config.model.shape
    return {
        "target": {**vars(shape), "n_params": shape.n_params},
        **{name: found.best.lineage[name] for name in FACTORS},
        "regime": regime.kind,
        "lag": regime.lag,
        "seeds": regime.seeds,
        "batch": found.config.batch,
        "heldout_sequences": found.base["heldout_sequences"],
        "base": found.base,
        "candidates": [_candidate(each, found.best) for each in found.candidates],
        "refused": [{"candidate": each.candidate.name, "reason": each.reason} for each in found.refused],
    }


def _candidate(each: "Probed", best: "Probed") -> dict[str, Any]:
    axes = each.runs[0].escape
    return {
        "candidate": each.candidate.name,
        **{name: each.lineage[name] for name in ("operator", "depth_operator", "arguments", "policies")},
        "locked": each.locked,
        "zero_step_kl": each.zero_step_kl,
        "loss_start": each.runs[0].curve[0]["heldout_loss"],
        "condensation_start": each.condensation._asdict(),
        "loss": each.mean(loss)._asdict(),
        "loss_difference": each.difference(best, loss)._asdict(),
        "area": each.mean(area)._asdict(),
        "area_difference": each.difference(best, area)._asdict(),
        "probe_kl": each.mean(lambda run: run.kl)._asdict(),
        "escape": {axis: each.mean(lambda run, axis=axis: run.escape[axis])._asdict() for axis in axes},  # type: ignore[misc]
        "condensation": {
            "clusters": each.mean(lambda run: run.condensation.clusters)._asdict(),
            "rank": each.mean(lambda run: run.condensation.rank)._asdict(),
        },
        "runs": [_continuation(run) for run in each.runs],
    }


def _continuation(run: "Continuation") -> dict[str, Any]:
    return {
        "seed": run.config.seed,
        "data_seed": run.config.data.seed,
        "first_item": run.config.first_item,
        "curve": list(run.curve),
        "probe_kl": run.kl,
        "escape": run.escape,
        "condensation": run.condensation._asdict(),
    }


def loss(run: "Continuation") -> float:
    """The probe loss."""
    return run.loss


def area(run: "Continuation") -> float:
    """The mean held-out loss over the probe."""
    return run.area


def show(found: "Ranking", regime: "Regime") -> None:
    """The ranking and the other measures for a person, and how they were taken."""
    shape, factors = found.config.model.shape, found.best.lineage
    page = console()
    page.print(f"target: {form(shape)}, {format_count(shape.n_params)} parameters, g = {factors['g_params']:.3g}")
    page.print(f"base: held-out {_unit(found)} {found.base['heldout_loss']:.4f}\n")
    page.print(_losses(found, regime))
    page.print()
    page.print(_measures(found, regime))
    page.print()
    for each in found.candidates:
        if each.locked:
            axes = ", ".join(f"{axis} {share:.0%}" for axis, share in each.locked.items())
            page.print(f"{each.candidate.name} starts locked, with exact twins of {axes}")
    for refused in found.refused:
        page.print(f"{refused.candidate.name} refused: {refused.reason}")
    page.print(_conditions(found, regime))
    _warn_of_warmup(found, regime)


def _warn_of_warmup(found: "Ranking", regime: "Regime") -> None:
    start = found.config.start
    warmup = warmup_steps(found.config)
    if start and start.schedule != "continue" and regime.lag <= warmup:
        note(f"note: all {regime.lag} steps lie in the warm-up of {warmup}, and orders turn later: probe longer.")


def _unit(found: "Ranking") -> str:
    return "loss, nats per token:" if isinstance(found.config.model.shape, ModelShape) else "mean square error:"


def _conditions(found: "Ranking", regime: "Regime") -> str:
    """One line: regime, lag, runs, batch, held-out items."""
    items = "sequences" if isinstance(found.config.model.shape, ModelShape) else "samples"
    return (
        f"{regime.kind} regime ({REGIMES[regime.kind].format(seeds=regime.seeds)}); lag {regime.lag} steps of "
        f"{found.config.batch} {items}; {found.base['heldout_sequences']} held-out {items}"
    )


def _losses(found: "Ranking", regime: "Regime") -> "Table":
    """Held-out losses, best first, and differences to the best with their standard error over runs."""
    rows = []
    for each in found.candidates:
        apart = each.difference(found.best, loss)
        cells = ("", "") if each is found.best else (f"{apart.value:+.4f}", _error(apart))
        losses = [each.mean(loss).value, each.mean(area).value, each.runs[0].curve[0]["heldout_loss"]]
        last, mean, start = (f"{value:.4f}" for value in losses)
        rows.append((each.candidate.name, last, *cells, mean, start))
    heads = ("candidate", f"loss at {regime.lag}", "to best", "s.e.", "mean loss", "loss at 0")
    return table_without_empty(heads, rows)


def _error(mean: "Mean") -> str:
    return "" if mean.se is None else f"{mean.se:.4f}"


def _measures(found: "Ranking", regime: "Regime") -> "Table":
    """Distance from the base, escape and condensation after the probe."""
    what = "KL" if isinstance(found.config.model.shape, ModelShape) else "change"
    rows = [
        (
            each.candidate.name,
            f"{each.zero_step_kl:.2g}",
            f"{each.mean(lambda run: run.kl).value:.3g}",
            f"{each.mean(lambda run: run.escape['joint']).value:.3f}" if each.runs[0].escape else "-",
            f"{each.mean(lambda run: run.condensation.clusters).value:.2f}",
            f"{each.mean(lambda run: run.condensation.rank).value:.2f}",
        )
        for each in found.candidates
    ]
    return table(("candidate", f"{what} at 0", f"{what} at {regime.lag}", "escape", "clusters", "rank"), rows)
