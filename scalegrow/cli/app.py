"""The commands and their options; what they do is in the module named after each."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="scalegrow",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="When growing a smaller checkpoint beats training from scratch, by how much, with error bars.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Level = Annotated[float, typer.Option(help="Confidence level of every interval.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 when the answer lies outside the fitted range.")
]
Table = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="Run table (.csv, .parquet, .jsonl), folder of run logs, or a shipped one."
    ),
]
LawName = Annotated[
    str | None, typer.Option("--law", help="Law to fit (see `scalegrow laws`); default by the table's arms.")
]
Rows = Annotated[
    str | None,
    typer.Option(
        help="annealed, mid-run or all: which losses to use; by default the annealed, where there are others too."
    ),
]
LossName = Annotated[str, typer.Option("--loss", help="huber, lad or l2, on log loss.")]
Delta = Annotated[float, typer.Option(help="Huber's delta, in log loss.")]
Fix = Annotated[
    list[str] | None,
    typer.Option("--fix", help="NAME=VALUE holds a coefficient; NAME=LOW:HIGH sweeps it over the draws."),
]
DropHighest = Annotated[int, typer.Option(help="Leave out this many of the highest losses.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="COLUMN=VALUE[,VALUE]: keep these rows alone, such as operator=scratch,szp; repeatable."),
]
PerRun = Annotated[
    int | None,
    typer.Option(
        help="Losses of each run to use, at most; by default all, of over 2000 rows as many as make 2000."
    ),
]
Draws = Annotated[int, typer.Option(help="Resampled refits behind the intervals.")]
Seed = Annotated[int, typer.Option(help="Seed of the resampling.")]
Resampling = Annotated[str, typer.Option(help="auto, row, cluster, wild-cluster or parametric.")]

BaseParams = Annotated[str, typer.Option(help="Parameters of the base model: 50M, 1.2B.")]
RunBudget = Annotated[str, typer.Option(help="Training budget of the target: 20tpp, 2B tokens, 1e19 flops, 5xC.")]
GrowthFactor = Annotated[float | None, typer.Option(help="Growth factor g = target / base parameters.")]
TargetParams = Annotated[str | None, typer.Option(help="Parameters of the target, instead of --factor.")]
OfFit = Annotated[str | None, typer.Option(help="Growth operator; by default the first that the fit knows.")]
BaseBudget = Annotated[str, typer.Option(help="What the base has seen when it is grown: 20tpp, 1B tokens.")]
WhoPays = Annotated[str, typer.Option(help="Who pays the base: sunk, paid, amortised:K.")]
FitName = Annotated[str, typer.Option(help="A fit: a shipped name or a file from `scalegrow fit`.")]

TargetFactor = Annotated[float | None, typer.Option(help="Parameters of the target over the base's.")]
TargetWidth = Annotated[float | None, typer.Option(help="Width of the target over the base's.")]
TargetLayers = Annotated[int | None, typer.Option(help="Layers of the target.")]
TargetSizes = Annotated[
    list[str] | None,
    typer.Option("--to", help="Any size of the target by name: d_ff=512, n_kv_heads=4, vocab_size=32000."),
]
Untie = Annotated[bool, typer.Option("--untie", help="Give the target a head of its own.")]

Lag = Annotated[int, typer.Option(help="Steps that each candidate is trained for.")]
RegimeName = Annotated[str, typer.Option(help="deterministic (one run, the base's batch order) or stochastic.")]
ProbeSeeds = Annotated[int | None, typer.Option(help="Runs of a stochastic probe, default 3.")]
HeldoutItems = Annotated[
    int | None, typer.Option(help="Held-out sequences (samples); default a quarter of the base's.")
]
GrowthSeed = Annotated[int, typer.Option(help="Seed of copies, shares and noise.")]
Cache = Annotated[Path | None, typer.Option(help="Where packed texts are kept.")]
ProbeDevice = Annotated[str | None, typer.Option(help="cpu (default) or cuda.")]


FACTOR = 2.0  # asked about where neither --factor nor --target is given


def factor_or(default: float, factor: float | None, target: str | None) -> float | None:
    """The factor that was given, or a default where the target was not either."""
    return default if factor is None and target is None else factor


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """When growing a smaller checkpoint beats training from scratch, by how much, with error bars."""
    if version:
        from scalegrow import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def predict(
    base: BaseParams,
    budget: RunBudget,
    factor: GrowthFactor = None,
    target: TargetParams = None,
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    fit: FitName = "warmstart",
    level: Level = 0.95,
    json: Json = False,
    strict: Strict = False,
) -> None:
    """Decide: grow the base, or train the target from scratch?"""
    from scalegrow.cli.predict import Words, run

    words = Words(base, factor, target, budget, operator, base_budget, base_cost)
    run(words, fit, level, as_json=json, strict=strict)


@app.command()
def plan(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the page (.html).")],
    base: Annotated[
        str, typer.Option(help="Parameters of the base at the start; by default amid the fitted sizes.")
    ] = "",
    factor: GrowthFactor = None,
    target: TargetParams = None,
    budget: RunBudget = "20tpp",
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    fit: FitName = "warmstart",
    level: Level = 0.95,
) -> None:
    """Write the planner page: one HTML file with sliders, which needs no network."""
    from scalegrow.cli.plan import run
    from scalegrow.cli.predict import Words

    run(
        Words(base, factor_or(FACTOR, factor, target), target, budget, operator, base_budget, base_cost),
        fit,
        level,
        out,
    )


@app.command()
def fit(
    table: Table,
    law: LawName = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the fit (JSON).")] = None,
    rows: Rows = None,
    loss: LossName = "huber",
    delta: Delta = 1e-3,
    fix: Fix = None,
    drop_highest: DropHighest = 0,
    where: Where = None,
    per_run: PerRun = None,
    resampling: Resampling = "auto",
    draws: Draws = 2000,
    seed: Seed = 0,
    calibrate: Annotated[
        bool, typer.Option(help="Widen intervals by what held-out runs ask for (slower).")
    ] = True,
    level: Level = 0.95,
    json: Json = False,
) -> None:
    """Fit a law to a run table, with a certificate and draws."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.fit import run

    choice = Choice(table, law, rows, loss, delta, fix or [], drop_highest, where or [], per_run)
    run(choice, out, resampling, draws, seed, calibrated=calibrate, level=level, as_json=json)


@app.command()
def validate(
    table: Table,
    law: LawName = None,
    scheme: Annotated[
        list[str] | None, typer.Option(help="largest-out, rolling or base-out; repeat for several.")
    ] = None,
    rows: Rows = None,
    loss: LossName = "huber",
    delta: Delta = 1e-3,
    fix: Fix = None,
    drop_highest: DropHighest = 0,
    where: Where = None,
    per_run: PerRun = None,
    draws: Draws = 500,
    level: Level = 0.95,
    json: Json = False,
) -> None:
    """Hold runs out, predict them, and score errors, signs and coverage."""
    from scalegrow.cli.data import Choice
    from scalegrow.cli.validate import run

    choice = Choice(table, law, rows, loss, delta, fix or [], drop_highest, where or [], per_run)
    run(choice, scheme or ["largest-out", "rolling"], draws, level, as_json=json)


@app.command()
def laws(json: Json = False) -> None:
    """List the laws that can be fitted, and the published ones."""
    from scalegrow.cli.laws import run

    run(as_json=json)


@app.command()
def allocate(
    budget: Annotated[str, typer.Option(help="Compute to spend: 1e21 flops.")],
    fit: FitName = "chinchilla",
    level: Level = 0.95,
    json: Json = False,
    strict: Strict = False,
) -> None:
    """Compute-optimal parameters and tokens for a training run from scratch."""
    from scalegrow.cli.allocate import run

    run(budget, fit, level, as_json=json, strict=strict)


@app.command()
def gamma(
    size: Annotated[str, typer.Option(help="Parameters of the model: 100k, 50M.")],
    budget: RunBudget,
    law: Annotated[str, typer.Option(help="stories, text, or a file that this command kept.")] = "text",
    runs: Annotated[
        str | None, typer.Option(help="Fit this run table (or folder of logs) of runs from scratch instead.")
    ] = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep the law fitted to --runs (JSON).")] = None,
    norm_eps: Annotated[float, typer.Option(help="Epsilon of RMSNorm.")] = 1e-5,
    level: Level = 0.95,
    json: Json = False,
    strict: Strict = False,
) -> None:
    """The loss against gamma, of std = fan_in^-gamma, and the gamma to initialise with."""
    from scalegrow.cli.gamma import Asked, run

    asked = Asked.of(size, budget, norm_eps, level, runs or law)
    run(asked, runs, where or [], out, as_json=json, strict=strict)


@app.command()
def design(
    flops: Annotated[str, typer.Option(help="Compute to spend on new runs: 1e16.")],
    base: BaseParams,
    budget: RunBudget,
    factor: GrowthFactor = None,
    target: TargetParams = None,
    operator: OfFit = None,
    base_budget: BaseBudget = "20tpp",
    base_cost: WhoPays = "sunk",
    fit: FitName = "warmstart",
    seeds: Annotated[int, typer.Option(help="Seeds of one run, at most.")] = 3,
    size_min: Annotated[
        str | None, typer.Option(help="Parameters of the smallest run; by default the smallest fitted.")
    ] = None,
    size_max: Annotated[
        str | None, typer.Option(help="Parameters of the largest; by default the largest fitted or the target.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A study whose [baseline] the runs share, and whose seeds they avoid.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the study (TOML) for `scalegrow sweep`.")
    ] = None,
    level: Level = 0.95,
    json: Json = False,
) -> None:
    """Choose the runs that make a decision surest for the FLOPs, as a study to sweep."""
    from scalegrow.cli.design import Room, run
    from scalegrow.cli.predict import Words

    words = Words(base, factor, target, budget, operator, base_budget, base_cost)
    run(fit, flops, words, Room(seeds, size_min, size_max, baseline), out, level, as_json=json)


@app.command()
def train(
    size: Annotated[str | None, typer.Option(help="Parameters of the model: 100k, 1M.")] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="20tpp (default), 2M tokens, 1e13 flops; one trunk serves all."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="stories (default), a text, jsonl or parquet file or folder, hub:owner/name[:split]."),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="A dense network on the regression task, instead of a decoder.")
    ] = False,
    tokenizer: Annotated[str | None, typer.Option(help="bytes, bpe:1024 (default), a tokenizer.json.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of a sequence.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate at muP's base width, default 0.01.")] = None,
    gamma: Annotated[float | None, typer.Option(help="std = fan_in^-gamma: 0.5 standard, 1 small.")] = None,
    parametrisation: Annotated[str | None, typer.Option(help="mup (default) or standard.")] = None,
    schedule: Annotated[str | None, typer.Option(help="wsd (default), cosine, constant.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first weights and of dropout.")] = None,
    data_seed: Annotated[int | None, typer.Option(help="Seed of the order of the data.")] = None,
    config: Annotated[Path | None, typer.Option(help="A recipe in TOML; options here go over it.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint of `scalegrow grow` to train on from, instead of --size.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: optimiser.clip=0.5, model.shape.qk_norm=true.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME.")] = None,
    cache: Cache = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    sharding: Annotated[str | None, typer.Option(help="Under torchrun: ddp or fsdp.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of PyTorch; by default one below 1M parameters.")
    ] = None,
    track: Annotated[list[str] | None, typer.Option(help="wandb, trackio or tensorboard.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")] = False,
    json: Json = False,
) -> None:
    """Train a decoder or a dense network; the same command again goes on where it stopped."""
    from scalegrow.cli.train import Place, recipe_from, run, started

    dials = {
        "size": size,
        "budgets": tuple(budget) if budget else None,
        "kind": "network" if network else None,
        "data": data,
        "tokenizer": tokenizer,
        "context": context,
    }
    named = {
        "optimiser.lr": lr,
        "init.gamma": gamma,
        "parametrisation.kind": parametrisation,
        "schedule.kind": schedule,
        "seed": seed,
        "data.seed": data_seed,
    }
    settings = [f"{name}={value}" for name, value in named.items() if value is not None] + (set_ or [])
    place = Place(out, cache, device, sharding, threads, tuple(track or ()))
    if start:
        run(*started(start, dials | {"config": config}, settings), place, dry=dry_run, as_json=json)
        return
    recipe = recipe_from(config, dials, settings)
    run(recipe.config(), recipe.settings, place, dry=dry_run, as_json=json)


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="Folder of one run, or of many.")],
    out: Annotated[Path | None, typer.Option(help="Where to write it: .parquet, .csv or .jsonl.")] = None,
    json: Json = False,
) -> None:
    """Make a run table of the logs below a folder."""
    from scalegrow.cli.collect import run

    run(folder, out, as_json=json)


@app.command(name="import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Log files or folders: tables, and what trackers and trainers leave.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write it: .parquet, .csv or .jsonl.")] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="COLUMN=NAME in the logs: loss=eval/loss, tokens=train/tokens."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="COLUMN=VALUE for every run: n_params=124M, annealed=last.")
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option(help="COLUMN=UNIT: tokens=B, loss=bits, loss=perplexity, flops=1e15.")
    ] = None,
    about: Annotated[
        Path | None, typer.Option(help="A table of facts by run: run,n_params,operator,base,annealed ...")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave this run out; * stands for anything; repeatable.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Of a folder with logs of several formats.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a run table of the logs of other trainers and trackers."""
    from scalegrow.cli.import_logs import run
    from scalegrow.runs.importers.wishes import Wishes

    wishes = Wishes.of(map_ or [], set_ or [], unit or [], about)
    run(paths, out, wishes, format_, without or [], as_json=json)


@app.command()
def grow(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A checkpoint of ours, RUN/STAGE/checkpoints/step_N, or a Hugging Face directory."),
    ],
    path_out: Annotated[Path | None, typer.Argument(help="Where to grow a directory to; or --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the grown checkpoint.")] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="Growth operator, docs/growth.md, by default szp, or zero_pad where nothing widens; settings "
            "after colons: szp:shrink=0.4:moments=reset."
        ),
    ] = None,
    depth_operator: Annotated[
        str | None, typer.Option(help="How layers are added; default zero_insert or stack, as the operator.")
    ] = None,
    factor: TargetFactor = None,
    width: TargetWidth = None,
    layers: TargetLayers = None,
    to: TargetSizes = None,
    untie: Untie = False,
    shrink: Annotated[float, typer.Option(help="SZP's lambda.")] = 0.4,
    noise: Annotated[
        float | None,
        typer.Option(help="Relative std of the noise: szp 1, tile_noise and perturbative_copy 0.1 unless told."),
    ] = None,
    norm_rescale: Annotated[bool, typer.Option("--norm-rescale", help="SZP: gains as in zero_pad.")] = False,
    share: Annotated[float, typer.Option(help="structured_non_clone: what readers take from mixtures.")] = 0.25,
    learn_steps: Annotated[int, typer.Option(help="Steps in which LiGO learns its maps.")] = 100,
    gamma: Annotated[
        float | None,
        typer.Option(help="The new block's, of std = fan_in^-gamma; default the base's."),
    ] = None,
    moments: Annotated[
        str, typer.Option(help="carry, raw, asymmetric or reset; auto: as the operator's authors do.")
    ] = "auto",
    counter: Annotated[str, typer.Option(help="Adam's steps: keep, zero, or auto, as the moments.")] = "auto",
    schedule: Annotated[str, typer.Option(help="Learning rate: restart, rewarm or continue.")] = "restart",
    data: Annotated[str, typer.Option(help="continue behind what the base has seen, or restart.")] = "continue",
    rates: Annotated[
        str,
        typer.Option(help="LR, decay and epsilon per group: the target's parametrisation's, or carried."),
    ] = "parametrisation",
    seed: GrowthSeed = 0,
    text: Annotated[
        Path | None, typer.Option(help="Of a directory: the text to compare base and grown on.")
    ] = None,
    text_tokens: Annotated[int, typer.Option(help="How many of its first tokens.")] = 512,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Grow a checkpoint: weights and moments into a wider or deeper model."""
    from scalegrow.cli.grow import Target, candidate, run
    from scalegrow.cli.grow_hf import Comparison, is_directory, one_place
    from scalegrow.cli.grow_hf import run as run_directory

    arguments = {"shrink": shrink, "noise": noise, "norm_rescale": norm_rescale}
    arguments |= {"seed": seed, "share": share, "learn_steps": learn_steps, "gamma": gamma}
    policies = {"moments": moments, "counter": counter, "schedule": schedule, "data": data, "rates": rates}
    target = Target(factor, width, layers, tuple(to or ()), untie)
    place = one_place(out, path_out)
    operators, comparison = (operator, depth_operator), Comparison(text, text_tokens)
    operators, arguments, policies = candidate(operators, arguments, policies)
    if is_directory(checkpoint, comparison):
        run_directory(checkpoint, place, target, operators, arguments, policies, comparison, as_json=json)
        return
    run(checkpoint, place, target, operators, arguments, policies, cache, as_json=json)


@app.command()
def probe(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of ours: RUN/STAGE/checkpoints/step_N.")],
    operators: Annotated[
        str,
        typer.Option(help="Candidates between commas, settings after colons: szp:shrink=0.8,tile:moments=reset."),
    ] = "tile, tile_noise, asymmetric_reset, structured_non_clone, szp, zero_pad, scratch",
    lag: Lag = 16,
    regime: RegimeName = "deterministic",
    seeds: ProbeSeeds = None,
    sequences: HeldoutItems = None,
    factor: TargetFactor = None,
    width: TargetWidth = None,
    layers: TargetLayers = None,
    to: TargetSizes = None,
    untie: Untie = False,
    schedule: Annotated[str, typer.Option(help="Learning rate: restart, rewarm or continue.")] = "restart",
    seed: GrowthSeed = 0,
    cache: Cache = None,
    device: ProbeDevice = None,
    json: Json = False,
) -> None:
    """Rank candidate warm starts of a checkpoint by some steps of training each."""
    from scalegrow.cli.grow import Target
    from scalegrow.cli.probe import run

    target = Target(factor, width, layers, tuple(to or ()), untie)
    chosen = {"kind": regime, "lag": lag, "seeds": seeds, "sequences": sequences}
    run(checkpoint, target, operators, chosen, schedule, seed, cache, device, as_json=json)


@app.command()
def select(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint of ours: RUN/STAGE/checkpoints/step_N.")
    ] = None,
    budget: Annotated[str, typer.Option(help="What the target will be trained for: 20tpp, 2B tokens.")] = "20tpp",
    operators: Annotated[
        str | None, typer.Option(help="Candidates between commas, as `scalegrow probe`; default the study's.")
    ] = None,
    study: Annotated[str, typer.Option(help="The fitted study: a file that this command kept.")] = "selection",
    runs: Annotated[
        str | None, typer.Option(help="Instead of a checkpoint: fit the run table of a study of your own.")
    ] = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep the study fitted to --runs (JSON).")] = None,
    probe: Annotated[bool, typer.Option(help="Train every candidate for the lag first.")] = True,
    lag: Lag = 16,
    regime: RegimeName = "deterministic",
    seeds: ProbeSeeds = None,
    sequences: HeldoutItems = None,
    factor: TargetFactor = None,
    width: TargetWidth = None,
    layers: TargetLayers = None,
    to: TargetSizes = None,
    seed: GrowthSeed = 0,
    cache: Cache = None,
    device: ProbeDevice = None,
    level: Level = 0.95,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Choose the warm start of a checkpoint, by a study of many and a probe of this one."""
    from scalegrow.cli.grow import Target
    from scalegrow.cli.select import fit, one_of, run
    from scalegrow.cli.select_question import Question

    one_of(checkpoint, runs, where, out)
    if checkpoint is None:
        fit(str(runs), where or [], out, as_json=json)
        return
    target = Target(factor, width, layers, tuple(to or ()))
    chosen = {"kind": regime, "lag": lag, "seeds": seeds, "sequences": sequences}
    question = Question(checkpoint, target, budget, operators, seed, level)
    run(study, question, chosen, cache, device, probing=probe, as_json=json, strict=strict)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of ours: RUN/STAGE/checkpoints/step_N.")],
    out: Annotated[Path, typer.Argument(help="Folder for transformers to load.")],
    format_: Annotated[
        str,
        typer.Option("--format", help="granite keeps muP's multipliers; llama and qwen3 fold them; auto chooses."),
    ] = "auto",
    json: Json = False,
) -> None:
    """Write a checkpoint as a Hugging Face directory with the same logits."""
    from scalegrow.cli.export import run

    run(checkpoint, out, format_, as_json=json)


@app.command()
def sweep(
    study: Annotated[Path, typer.Argument(help="A study in TOML: [baseline] and [[runs]] (docs/sweep.md).")],
    out: Annotated[Path | None, typer.Option(help="Folder of the study; by default runs/NAME.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Where to write the run table: .parquet, .csv or .jsonl.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one a core, or --per-gpu a GPU.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of PyTorch of each worker.")] = 1,
    device: Annotated[str, typer.Option(help="cpu (default) or cuda.")] = "cpu",
    per_gpu: Annotated[int, typer.Option(help="Runs that share a GPU.")] = 4,
    ray: Annotated[str | None, typer.Option(help="Run on Ray: the address of a cluster, auto, or local.")] = None,
    retries: Annotated[int, typer.Option(help="How often a run whose worker died is tried again.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and what it costs, and stop.")] = False,
    json: Json = False,
) -> None:
    """Train every run of a study, each base once; the same command again goes on where it stopped."""
    from scalegrow.cli.sweep import Machine, run

    run(study, out, table, Machine(workers, threads, device, per_gpu, ray, retries), dry=dry_run, as_json=json)
