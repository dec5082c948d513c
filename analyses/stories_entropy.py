"""Does a fitted floor find the exact entropy of the story language? Chinchilla's law on data/stories_ladder.csv.

    python analyses/stories_entropy.py

E free against the exact E; exponents against what the quantisation model predicts from the language's own Zipf
exponent a (alpha = a in parameters, beta = a / (1 + a) in tokens); and the largest size held out. The shortest
budget makes 488 steps and is limited by them, so fits are shown with and without it. Every run shares one held-out
set: the fitted E is compared with the entropy of that set; the language's own differs by its sampling noise.
"""

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import forecast, quantiles
from scalegrow.laws.observations import Observations
from scalegrow.laws.scratch import Chinchilla
from scalegrow.runs.shipped import DATA
from scalegrow.runs.table import read_table
from scalegrow.train.stories import Grammar, Stories

CONTEXT, LEVEL, DRAWS = 128, 0.95, 2000
TABLE = "stories_ladder.csv"
FEWEST_TOKENS = 500 * 8 * CONTEXT  # 500 steps of the ladder's 8 sequences


def fitted(table: pl.DataFrame, **fixed: float) -> Fit:
    form = Chinchilla()
    return fit(form, Observations.from_table(table, form), fixed=fixed, draws=DRAWS)


def interval(made: Fit, name: str) -> tuple[float, float, float]:
    index = made.law.form.names.index(name)
    low, high = quantiles(made.values(), LEVEL)
    return float(made.law.coefficients[index]), float(low[index]), float(high[index])


def show_excess(out: Console, table: pl.DataFrame) -> None:
    """Mean loss above the entropy over seeds, nats: sizes by budgets."""
    sizes = sorted(set(table["n_params"]))
    shown = Table("tokens \\\\ parameters", *(f"{size / 1e3:.0f}k" for size in sizes), box=None)
    for tokens, part in table.sort("tokens").group_by("tokens", maintain_order=True):
        means = [part.filter(pl.col("n_params") == size)["excess"].mean() for size in sizes]
        shown.add_row(f"{float(str(tokens[0])) / 1e6:.1f}M", *(f"{mean:.3f}" for mean in means))
    out.print("loss above the entropy, nats, mean of two seeds", shown, "")


def show_fit(out: Console, name: str, made: Fit, exact: float) -> None:
    """Coefficients with intervals, and whether E is inside."""
    E, low, high = interval(made, "E")
    verdict = "inside" if low <= exact <= high else "OUTSIDE"
    out.print(f"{name}: {made.status.name}, residual scale {np.std(made.noise.single):.2%}")
    out.print(f"  E = {E:.3f} ({low:.3f} to {high:.3f}); exact {exact:.4f}: {verdict}")
    a = Grammar().exponent
    for coefficient, predicted in (("alpha", a), ("beta", a / (1 + a))):
        value, low, high = interval(made, coefficient)
        out.print(f"  {coefficient} = {value:.2f} ({low:.2f} to {high:.2f}); quantisation model {predicted:.2f}")


def show_held_out(out: Console, table: pl.DataFrame, exact: float) -> None:
    """The largest size predicted by fits on the others, with E free and with the exact E."""
    largest = table["n_params"].max()
    known, held = table.filter(pl.col("n_params") < largest), table.filter(pl.col("n_params") == largest)
    for name, fixed in (("E free", {}), ("E exact", {"E": exact})):
        made = fitted(known, **fixed)
        at = forecast(made, Observations.from_table(held, Chinchilla()).points, LEVEL)
        error = at.value - held["loss"].to_numpy()
        inside = (at.new_low <= held["loss"].to_numpy()) & (held["loss"].to_numpy() <= at.new_high)
        rms = float(np.sqrt(np.mean(error**2)))
        share = rms / float(held["excess"].mean())
        out.print(
            f"held out, {name}: rms error {rms:.4f} nats, {share:.0%} of what is above the entropy; "
            f"{inside.sum()} of {len(held)} new-run intervals cover"
        )


def main() -> None:
    out = Console(highlight=False)
    table = read_table(DATA / TABLE)
    exact = float(table["entropy"][0])
    show_excess(out, table)
    language = Stories(CONTEXT).entropy
    out.print(f"entropy of the language {language:.4f}, of the held-out set {exact:.4f} nats per token\n")
    long = table.filter(pl.col("tokens") > FEWEST_TOKENS)
    for runs, which in ((long, "budgets of 500 steps or more"), (table, "all budgets")):
        inner = runs.with_columns(n_params=pl.col("n_params_non_embedding"), flops=pl.lit(None))
        show_fit(out, f"{which}, all parameters", fitted(runs), exact)
        show_fit(out, f"{which}, non-embedding parameters", fitted(inner), exact)
    out.print("")
    show_held_out(out, long, exact)


if __name__ == "__main__":
    main()
