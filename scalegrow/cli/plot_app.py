"""The commands of `scalegrow plot`, one for each kind of chart, and their options."""

from pathlib import Path
from typing import Annotated

import typer

from scalegrow.cli.app import (
    FACTOR,
    BaseBudget,
    Delta,
    Draws,
    DropHighest,
    FitName,
    Fix,
    GrowthFactor,
    LawName,
    Level,
    LossName,
    OfFit,
    Rows,
    Table,
    TargetParams,
    Where,
    WhoPays,
    app,
    factor_or,
)
from scalegrow.errors import InputError

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
Dropped = Annotated[
    int | None,
    typer.Option(help="Leave out this many of the highest losses; default 5 of chinchilla_epoch, else 0."),
]
SCRATCH, OUTLIERS = "chinchilla_epoch", 5  # highest losses, which Epoch drops too (arXiv 2404.10102, section 3)
MEASURED_BASE, MEASURED = "77M", 1.745  # grown from this by this factor there are runs behind the shipped fit
GROWN = "warmstart_2605_13405_digitised"


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

    words = Words(base, factor_or(FACTOR, factor, target), target, budget, operator, base_budget, base_cost)
    decision_map(Asked(words, fit, level, out), held)


@plot.command()
def loss(
    base: Annotated[
        str | None, typer.Option(help=f"Parameters of the base model; default {MEASURED_BASE}.")
    ] = None,
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    size: Annotated[
        list[str] | None,
        typer.Option(help="Instead of --base and a growth: models of this size from scratch; repeatable."),
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

    grows = bool(base or factor or target)
    if size and grows:
        raise InputError(
            "--size asks for models from scratch, --base, --factor and --target for a growth: give one."
        )
    growing = (factor_or(MEASURED, factor, target), target, budget, operator, base_budget, base_cost)
    words = Words(base or MEASURED_BASE, *growing)
    loss_curves(Asked(words, fit, level, out), size or [], Runs(runs, rows, where or []), grows=grows)


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

    words = Words(base, factor_or(FACTOR, factor, target), target, budget, operator, base_budget, base_cost)
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

    words = Words(base, factor_or(FACTOR, factor, target), target, budget, operator, base_budget, "sunk")
    savings(Asked(words, fit, level, out), base_cost or [])


@plot.command()
def operators(
    base: Annotated[
        str | None, typer.Option(help="Parameters of your base; default the study's own setting, all candidates.")
    ] = None,
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: Budget = "20tpp",
    base_budget: BaseBudget = "20tpp",
    study: Annotated[
        str, typer.Option(help="The fitted study: a file that `scalegrow select` kept.")
    ] = "selection",
    level: Level = 0.95,
    out: Out = Path("operators.html"),
) -> None:
    """Warm starts, ranked, with the probability that each is the best."""
    from scalegrow.cli.plot import ranking
    from scalegrow.cli.predict import Words

    growing = (factor_or(FACTOR, factor, target), target, budget, None, base_budget, "sunk")
    ranking(Words(base, *growing) if base else None, study, level, out)


@plot.command()
def gamma(
    size: Annotated[str | None, typer.Option(help="Parameters of the model; default amid the law's runs.")] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="20tpp, 2M tokens; repeatable, default what the law's runs span.")
    ] = None,
    law: Annotated[str, typer.Option(help="stories, text, or a file that `scalegrow gamma` kept.")] = "text",
    level: Level = 0.95,
    out: Out = Path("gamma.html"),
) -> None:
    """Loss against gamma of the initialisation, with the best gamma of each budget and its interval."""
    from scalegrow.cli.plot import gamma_curves

    gamma_curves(law, size, budget or [], level, out)


@plot.command()
def isoflop(
    table: Table = SCRATCH,
    rows: Rows = None,
    where: Where = None,
    drop_highest: Dropped = None,
    out: Out = Path("isoflop.html"),
) -> None:
    """IsoFLOP parabolas of the runs from scratch, and their minima."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.plot import parabolas

    parabolas(Choice(table, None, rows, "huber", 1e-3, [], _dropped(table, drop_highest), where or []), out)


@plot.command()
def holdout(
    table: Table = GROWN,
    law: LawName = None,
    scheme: Annotated[str, typer.Option(help="largest-out, rolling or base-out.")] = "largest-out",
    rows: Rows = None,
    loss: LossName = "huber",
    delta: Delta = 1e-3,
    fix: Fix = None,
    drop_highest: DropHighest = 0,
    where: Where = None,
    draws: Draws = 500,
    level: Level = 0.95,
    out: Out = Path("holdout.html"),
) -> None:
    """Predicted against true on held-out runs, losses and grown-minus-scratch differences."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.plot import held_out

    kept, fixed = _as_fitted(table, rows, fix)
    choice = Choice(table, law, kept, loss, delta, fixed, drop_highest, where or [])
    held_out(choice, scheme, draws, level, out)


@plot.command()
def residuals(
    table: Table = GROWN,
    law: LawName = None,
    rows: Rows = None,
    loss: LossName = "huber",
    delta: Delta = 1e-3,
    fix: Fix = None,
    drop_highest: DropHighest = 0,
    where: Where = None,
    out: Out = Path("residuals.html"),
) -> None:
    """Residuals of a fit, and how far each run moves it."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.plot import residual_chart

    kept, fixed = _as_fitted(table, rows, fix)
    residual_chart(Choice(table, law, kept, loss, delta, fixed, drop_highest, where or []), out)


@plot.command()
def profile(
    table: Table = SCRATCH,
    law: LawName = None,
    rows: Rows = None,
    loss: LossName = "huber",
    delta: Delta = 1e-3,
    fix: Fix = None,
    drop_highest: Dropped = None,
    where: Where = None,
    draws: Draws = 500,
    level: Level = 0.95,
    out: Out = Path("profile.html"),
) -> None:
    """Profile likelihoods of the coefficients, with their intervals beside those of the draws."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.plot import profiles

    dropped = _dropped(table, drop_highest)
    profiles(Choice(table, law, rows, loss, delta, fix or [], dropped, where or []), draws, level, out)


GROWN_AS_FITTED = (
    "annealed",
    ["E=0.402:1.305"],
)  # rows and --fix of the shipped fit: E is not identified by these runs


def _as_fitted(table: str, rows: str | None, fix: list[str] | None) -> tuple[str | None, list[str]]:
    """Rows and --fix as given; of the default table, where neither is, as the shipped fit has them."""
    if table == GROWN and rows is None and fix is None:
        return GROWN_AS_FITTED
    return rows, fix or []


def _dropped(table: str, given: int | None) -> int:
    """How many of the highest losses to leave out, as given; of the default table as the shipped fit has it."""
    if given is None:
        return OUTLIERS if table == SCRATCH else 0
    return given
