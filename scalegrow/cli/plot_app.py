"""The commands of `scalegrow plot`, one for each kind of chart, and their options."""

from pathlib import Path
from typing import Annotated

import typer

from scalegrow.cli.app import (
    BaseBudget,
    FitName,
    GrowthFactor,
    Level,
    OfFit,
    Rows,
    TargetParams,
    Where,
    WhoPays,
    app,
)

plot = typer.Typer(
    name="plot",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw a chart: .html (one file, no network), .png, .svg, .pdf or .json (Vega-Lite).",
)
app.add_typer(plot)

Out = Annotated[Path, typer.Option("-o", "--out", help="Where to write it: .html, .png, .svg, .pdf or .json.")]
Base = Annotated[str, typer.Option(help="Parameters of the base model: 50M, 1.2B.")]
Budget = Annotated[str, typer.Option(help="Training budget of the target: 20tpp, 2B tokens, 1e19 flops, 5xC.")]
RunsBeside = Annotated[
    str | None, typer.Option("--runs", help="Run table of measured losses; default what a shipped fit rests on.")
]
FACTOR = 2.0  # asked about where neither --factor nor --target is given


@plot.command("map")
def map_(
    base: Base = "50M",
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    held: Annotated[
        str, typer.Option(help="What stays the same along g: target (of bases N / g) or base (to targets g N).")
    ] = "target",
    fit: FitName = "warmstart",
    level: Level = 0.95,
    out: Out = Path("map.html"),
) -> None:
    """The decision map: probability that growing wins over g and tokens per parameter, and your question on it."""
    from scalegrow.cli.plot import Asked, decision_map
    from scalegrow.cli.predict import Words

    words = Words(base, _factor(factor, target), target, budget, operator, base_budget, base_cost)
    decision_map(Asked(words, fit, level, out), held)


@plot.command()
def loss(
    base: Base = "77M",
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    size: Annotated[
        list[str] | None,
        typer.Option(help="Instead of a growth: models of this size from scratch; repeatable."),
    ] = None,
    runs: RunsBeside = None,
    rows: Rows = None,
    where: Where = None,
    fit: FitName = "warmstart",
    level: Level = 0.95,
    out: Out = Path("loss.html"),
) -> None:
    """Loss against compute: fitted curves, bands of the mean and of one new run, and measured runs."""
    from scalegrow.cli.plot import Asked, Runs, loss_curves
    from scalegrow.cli.predict import Words

    words = Words(base, _factor(factor, target, MEASURED), target, budget, operator, base_budget, base_cost)
    loss_curves(Asked(words, fit, level, out), size or [], Runs(runs, rows, where or []))


@plot.command()
def factor(
    base: Base = "50M",
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    fit: FitName = "warmstart",
    level: Level = 0.95,
    out: Out = Path("factor.html"),
) -> None:
    """Loss against the growth factor, with the best and the largest useful one and their intervals."""
    from scalegrow.cli.plot import Asked, factor_curves
    from scalegrow.cli.predict import Words

    words = Words(base, _factor(factor, target), target, budget, operator, base_budget, base_cost)
    factor_curves(Asked(words, fit, level, out))


@plot.command()
def saving(
    base: Base = "50M",
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: Annotated[
        list[str] | None,
        typer.Option(help="Who pays the base: sunk, paid, amortised:K; repeatable, default all three."),
    ] = None,
    fit: FitName = "warmstart",
    level: Level = 0.95,
    out: Out = Path("saving.html"),
) -> None:
    """Compute saved by growing against the budget, by who pays the base."""
    from scalegrow.cli.plot import Asked, savings
    from scalegrow.cli.predict import Words

    words = Words(base, _factor(factor, target), target, budget, operator, base_budget, "sunk")
    savings(Asked(words, fit, level, out), base_cost or [])


MEASURED = 1.745  # grown from 77M parameters by this factor there are runs behind the shipped fit


def _factor(factor: float | None, target: str | None, default: float = FACTOR) -> float | None:
    """The factor that was given, or a default where the target was not either."""
    return default if factor is None and target is None else factor
