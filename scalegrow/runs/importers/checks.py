"""What cannot be true of a run, refused with the file, the run and the numbers, and the way out."""

from collections.abc import Callable

import polars as pl

from scalegrow.errors import InputError
from scalegrow.runs.importers.build import RATE_LEFT
from scalegrow.runs.importers.mapping import Mapping, sized
from scalegrow.runs.importers.wishes import LAST, Wishes
from scalegrow.runs.importers.words import told_by, unfit_loss
from scalegrow.runs.table import SCRATCH
from scalegrow.shape import SMALLEST

RISE = 2.0  # a held-out loss that doubles and rises by over RISE_NATS within a run is no training run's
RISE_NATS = 0.5
HIGHEST = 15.0  # nats: above ln of any vocabulary, which guessing reaches
FAR_OFF = 5.0  # times: what counting embeddings, attention or heads differently cannot explain
FEWEST, MOST = 0.01, 1e6  # tokens per parameter at a run's end
FELL = 0.5  # of its peak: a learning rate above has not decayed


def refuse_impossible(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Raise InputError on the first thing that no training run does."""
    for check in CHECKS:
        check(table, mapping, wishes)


def first(table: pl.DataFrame, bad: pl.Expr) -> dict[str, object] | None:
    """The first row that breaks a rule."""
    found = table.lazy().filter(bad).head(1).collect()
    return found.row(0, named=True) if found.height else None


def at(row: dict[str, object]) -> str:
    """'a.csv, run small' as errors begin."""
    return f"{row['file']}, run {row['run']}"


def loss_is_a_number(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """NaN and infinite losses are of diverged runs."""
    if row := first(table, ~pl.col("loss").is_finite()):
        raise InputError(
            f"{at(row)}: the loss at {row['tokens']:.6g} tokens is {row['loss']}: a diverged run is no point "
            "of a law; "
            f"leave it out with --without {row['run']!r}."
        )


def loss_is_above_zero(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A cross-entropy is above 0."""
    if row := first(table, pl.col("loss") <= 0):
        raise InputError(
            f"{at(row)}: the loss at {row['tokens']:.6g} tokens is {row['loss']:.6g}, but a cross-entropy is "
            "above 0: "
            "map another column with --map loss=COLUMN."
        )


def loss_is_in_nats(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A column that is called perplexity or bits needs its unit said."""
    kind = unfit_loss(mapping["loss"].shown) if "loss" in mapping else None
    if kind and "loss" not in wishes.units:
        raise InputError(
            f"{mapping['loss'].shown} is called {kind}, but the run table's loss is in nats per token: add --unit "
            f"loss={kind} (of bits per byte the number of nats per token that 1 is), or map another column."
        )


def loss_is_no_perplexity(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A run that ends above what guessing gives is measured in something else."""
    least = table.group_by("run", maintain_order=True).agg(pl.col("file").first(), pl.col("loss").min())
    if row := first(least, pl.col("loss") > HIGHEST):
        raise InputError(
            f"{at(row)}: the lowest loss is {row['loss']:.4g}, above the {HIGHEST:g} nats that guessing among any "
            "vocabulary costs: a perplexity? say --unit loss=perplexity, or map another column."
        )


def loss_does_not_rise(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Within a run no loss may be twice a lower one before it."""
    before = pl.col("loss").cum_min().over("run")
    bad = (pl.col("loss") > RISE * pl.col("before")) & (pl.col("loss") - pl.col("before") > RISE_NATS)
    if row := first(table.with_columns(before=before), bad):
        raise InputError(
            f"{at(row)}: the loss rises from {row['before']:.4g} to {row['loss']:.4g} at {row['tokens']:.4g} "
            "tokens: "
            f"a diverged run, or another column's numbers; leave it out with --without {row['run']!r}, or map "
            "another column."
        )


def tokens_do_not_fall(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Tokens trained on only grow."""
    if row := first(
        table.with_columns(before=pl.col("tokens").shift(1).over("run")), pl.col("tokens") < pl.col("before")
    ):
        raise InputError(
            f"{at(row)}: tokens fall from {row['before']:.6g} to {row['tokens']:.6g}: are these two runs? "
            "say which "
            "column names the run, --map run=COLUMN, or map the tokens so far with --map tokens=COLUMN."
        )


def tokens_are_counted_up(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Losses that differ at the same tokens: tokens of a batch, or runs under one name."""
    twice = pl.struct("run", "tokens").is_duplicated()
    if row := first(table, twice):
        same = table.filter((pl.col("run") == row["run"]) & (pl.col("tokens") == row["tokens"]))
        raise InputError(
            f"{at(row)}: {same.height} losses at {row['tokens']:.6g} tokens ({same['loss'][0]:.6g}, "
            f"{same['loss'][1]:.6g}, ..): tokens of one batch? say --map tokens_per_step=COLUMN or --map "
            "tokens=COLUMN; "
            "or two runs? say --map run=COLUMN."
        )


def sizes_are_sizes(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Every run has parameters."""
    if row := first(
        table, pl.col("n_params").is_null() | ~(pl.col("n_params") > 0) | ~pl.col("n_params").is_finite()
    ):
        raise InputError(
            f"{at(row)}: its number of parameters is {row['n_params']}: say it, --set n_params=124M or --about "
            f"runs.csv with columns run,n_params, or leave the run out with --without {row['run']!r}."
        )


def sizes_are_of_models(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A size below SMALLEST is no language model's: it counts thousands, millions or billions."""
    if "n_params" in wishes.units or "n_params" in wishes.constants:
        return
    if row := first(table, pl.col("n_params") < SMALLEST):
        raise InputError(
            f"{at(row)}: {row['n_params']:.6g} parameters are fewer than any language model's: in which unit? "
            "say --unit n_params=M (or B, k), and of the tokens too; --unit n_params=1 stands by the number."
        )


def tokens_fit_parameters(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A run of less than a token for every hundred parameters counts in thousands, millions or billions."""
    if 1.0 in (wishes.factor("tokens"), wishes.factor("n_params")):
        return
    share = pl.col("tokens") / pl.col("n_params")
    ends = table.group_by("run", maintain_order=True).last()
    if row := first(ends, (share < FEWEST) | (share > MOST)):
        raise InputError(
            f"{at(row)}: {row['tokens']:.6g} tokens for {row['n_params']:.6g} parameters cannot be: in which "
            "unit? say "
            "--unit tokens=B (or M, k), or --unit n_params=M; --unit tokens=1 stands by the numbers."
        )


def flops_are_6ND(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """Training FLOPs are about 6 N D, unless one of the three is wrong."""
    if "flops" not in table.columns:
        return
    ratio = pl.col("flops") / (6 * pl.col("n_params") * pl.col("tokens"))
    if row := first(table, (ratio > FAR_OFF) | (ratio < 1 / FAR_OFF)):
        count = 6.0 * float(str(row["n_params"])) * float(str(row["tokens"]))
        raise InputError(
            f"{at(row)}: 6 x {sized(float(str(row['n_params'])))} parameters x "
            f"{sized(float(str(row['tokens'])))} tokens "
            f"= {count:.3g} FLOPs, but {mapping['flops'].shown if 'flops' in mapping else 'flops'} says "
            f"{row['flops']:.3g}, {_times(float(str(row['flops'])) / count)}: which is wrong? set a unit, "
            "--unit tokens=10 "
            "or --unit flops=1e15, or map another column (of a mixture of experts the active parameters)."
        )


def names_agree(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """The tokens and sizes that names of files and runs tell are those of the columns."""
    ends = table.group_by("run", maintain_order=True).agg(
        pl.col("file").first(), pl.col("tokens").max(), pl.col("n_params").last()
    )
    most = ends.group_by("file", maintain_order=True).agg(pl.col("run").last(), pl.col("tokens").max())
    for row in most.iter_rows(named=True):
        _agrees(row, "tokens", told_by(str(row["file"]).replace("\\", "/").rpartition("/")[2]).tokens, wishes)
    for row in ends.iter_rows(named=True):
        told = told_by(str(row["run"]))
        _agrees(row, "tokens", told.tokens, wishes)
        _agrees(row, "n_params", told.n_params, wishes)


def _agrees(row: dict[str, object], column: str, told: dict[str, float], wishes: Wishes) -> None:
    value = float(str(row[column]))
    off = [(piece, value / number) for piece, number in told.items() if not 1 / FAR_OFF < value / number < FAR_OFF]
    if not off or len(off) < len(told) or column in wishes.units:
        return
    piece, ratio = off[0]
    raise InputError(
        f"{at(row)}: the name says {piece}, but {column} is {value:.4g}, {_times(ratio)}: set the unit, --unit "
        f"{column}={1 / ratio:.2g}, or --unit {column}=1 where the name means something else."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times that" if ratio >= 1 else f"{1 / ratio:.3g} times less"


def one_size_a_run(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A run has one number of parameters."""
    sizes = table.group_by("run", maintain_order=True).agg(
        pl.col("file").first(), pl.col("n_params").min().alias("low"), pl.col("n_params").max().alias("high")
    )
    if row := first(sizes, pl.col("low") != pl.col("high")):
        raise InputError(
            f"{at(row)}: n_params goes from {row['low']:.6g} to {row['high']:.6g} within one run: which "
            "column names "
            "the run? say --map run=COLUMN (a grown model is a run of its own)."
        )


def annealed_once(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A run that is said to be annealed throughout has one loss; its rate has fallen from its peak."""
    source = mapping.get("annealed")
    if source is None or "annealed" not in table.columns:
        return
    if source.why == "--set" and source.shown != LAST:
        counts = (
            table.filter("annealed").group_by("run", maintain_order=True).agg(pl.col("file").first(), pl.len())
        )
        if row := first(counts, pl.col("len") > 1):
            raise InputError(
                f"{at(row)}: {row['len']} losses of one run cannot all be annealed, a rate decays to its end "
                "once: say "
                "--set annealed=last, --map annealed=COLUMN, or --set run=row where every row is a run of its own."
            )
    rate_stands = pl.col("annealed") & (pl.col(RATE_LEFT) > FELL)
    if RATE_LEFT in table.columns and (row := first(table, rate_stands)):
        raise InputError(
            f"{at(row)}: said to be annealed at {row['tokens']:.4g} tokens, but the learning rate stands at "
            f"{row[RATE_LEFT]:.0%} of its peak ({row['lr']:.3g}): say --set annealed=false, or leave the "
            "run out with "
            f"--without {row['run']!r}."
        )


def rates_are_rates(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """No learning rate is below 0."""
    if "lr" in table.columns and (row := first(table, pl.col("lr") < 0)):
        raise InputError(
            f"{at(row)}: the learning rate at {row['tokens']:.6g} tokens is {row['lr']:.3g}, below 0: map another "
            "column with --map lr=COLUMN."
        )


def bases_are_told(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A grown run needs its base: which, how large, and what it had seen."""
    if "operator" not in table.columns:
        return
    lacks = pl.any_horizontal(
        [pl.col(name).is_null() if name in table.columns else pl.lit(True) for name in ("base_tokens", "base")]
    )
    if row := first(table, (pl.col("operator") != SCRATCH) & lacks):
        if base := row.get("base"):
            raise InputError(
                f"{at(row)}: its base {base} is none of these runs: say how large it is and what it had seen, "
                "--set base_params=50M --set base_tokens=1B, or name one of "
                f"{', '.join(table['run'].unique(maintain_order=True).to_list()[:4])}."
            )
        raise InputError(
            f"{at(row)}: grown by {row['operator']}, but from which base run? say --set base=RUN, or --about "
            "runs.csv with "
            "columns run,operator,base (and base_params,base_tokens where the base is not among these runs)."
        )


def runs_are_named(table: pl.DataFrame, mapping: Mapping, wishes: Wishes) -> None:
    """A row without a run would be a run of its own, with a last loss of its own."""
    if row := first(table, pl.col("run").is_null() | (pl.col("run").str.strip_chars() == "")):
        raise InputError(
            f"{row['file']}: a loss at {row['tokens']:.6g} tokens is of no run: name it, or drop the row."
        )


CHECKS: tuple[Callable[[pl.DataFrame, Mapping, Wishes], None], ...] = (
    runs_are_named,
    sizes_are_sizes,
    sizes_are_of_models,
    loss_is_in_nats,
    loss_is_a_number,
    loss_is_above_zero,
    loss_is_no_perplexity,
    one_size_a_run,
    tokens_do_not_fall,
    tokens_are_counted_up,
    loss_does_not_rise,
    tokens_fit_parameters,
    names_agree,
    flops_are_6ND,
    rates_are_rates,
    annealed_once,
    bases_are_told,
)
