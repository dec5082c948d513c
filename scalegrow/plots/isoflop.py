"""IsoFLOP parabolas: loss against size along 6 N D = C, each with its minimum, and the frontier through these."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.frontier import Frontier, frontier, isoflop_minima, levels
from scalegrow.laws.observations import Observations
from scalegrow.plots.caption import Caption
from scalegrow.units import format_flops

if TYPE_CHECKING:
    import altair as alt

POINTS = 40


@dataclass(frozen=True)
class IsoFlops:
    """runs: level, N, loss. parabolas: the same along those with a minimum. minima: of `isoflop_minima`.

    frontier: N_opt ~ C^a through them, where there are three.
    """

    runs: pl.DataFrame
    parabolas: pl.DataFrame
    minima: pl.DataFrame
    frontier: Frontier | None


def isoflops(observations: Observations, draws: int = 200) -> IsoFlops:
    """Of scratch runs, by levels of compute. Raises InputError where no level has a minimum."""
    minima = isoflop_minima(observations, draws=draws)
    fitted = minima.drop_nulls("n_opt")
    if fitted.is_empty():
        found = ", ".join(minima["status"].unique().sort())
        raise InputError(
            f"no compute level of these runs has a minimum ({found}): give more sizes at one compute."
        )
    named = minima.with_columns(level=pl.col("flops").map_elements(level_name, pl.String))
    runs = pl.concat(
        pl.DataFrame({"level": name, "N": part.points.N, "loss": np.exp(part.y)})
        for name, part in zip(named["level"], levels(observations), strict=True)
    )
    kept = named.drop_nulls("n_opt")
    sizes = {name: part["N"].to_numpy() for (name,), part in runs.group_by("level")}
    parabolas = pl.concat(_parabola(row, sizes[row["level"]]) for row in kept.iter_rows(named=True))
    return IsoFlops(
        runs.filter(pl.col("level").is_in(kept["level"].to_list())),
        parabolas,
        named,
        frontier(minima) if fitted.height >= 3 else None,
    )


def level_name(flops: float) -> str:
    """'3e19'."""
    return format_flops(flops, 2).removesuffix(" FLOPs")


def _parabola(row: dict[str, float], sizes: np.ndarray[tuple[int], np.dtype[np.float64]]) -> pl.DataFrame:
    """ln L = ln L_min + w ln^2(N / N_opt), along the sizes of its runs."""
    N = np.geomspace(sizes.min(), sizes.max(), POINTS)
    loss = row["loss_min"] * np.exp(row["curvature"] * np.log(N / row["n_opt"]) ** 2)
    return pl.DataFrame({"level": [row["level"]] * POINTS, "N": N, "loss": loss})


def caption(data: str, drawn: IsoFlops) -> Caption:
    """What the chart says of itself."""
    fitted = drawn.minima.drop_nulls("n_opt").height
    left = drawn.minima.filter(pl.col("n_opt").is_null())["status"].value_counts(sort=True)
    words = ", ".join(f"{count} {status}" for status, count in left.iter_rows())
    minima = f"{fitted} compute levels with a minimum (crosses, with one standard error)"
    notes = [f"{minima}; left out: {words}." if words else f"{minima}."]
    if found := drawn.frontier:
        interval = f"95% interval {found.low:.3f} to {found.high:.3f}"
        notes.append(f"Frontier through them: N_opt ~ C^{found.exponent:.3f} ({interval}).")
    law = "isoflop-parabola, ln L = ln L_min + w ln^2(N/N_opt), one for each level"
    return Caption("IsoFLOP parabolas", law, data, "No curve EXTRAPOLATES: each ends with its runs.", tuple(notes))


def chart(drawn: IsoFlops) -> "alt.LayerChart":
    """Runs, parabolas and minima, a dash and a shape for each level."""
    import altair as alt

    from scalegrow.plots.curves import ends_of, limits
    from scalegrow.plots.theme import COUNTS, INK, lines, log_x, panel

    names = drawn.minima.drop_nulls("n_opt")["level"].to_list()
    minima = drawn.minima.drop_nulls("n_opt").with_columns(
        low=pl.col("n_opt") * (-pl.col("se_log_n")).exp(), high=pl.col("n_opt") * pl.col("se_log_n").exp()
    )
    x = log_x("N", "parameters", ends_of(drawn.runs["N"]), COUNTS)
    scale = alt.Scale(domain=list(limits(drawn.runs["loss"], drawn.parabolas["loss"])), nice=False, zero=False)
    y = alt.Y("loss:Q", title="loss, nats per token", scale=scale)
    curves = alt.Chart(drawn.parabolas.rename({"level": "curve"})).mark_line(strokeWidth=2)
    runs = alt.Chart(drawn.runs).mark_point(filled=True, size=26, color="#555555", opacity=0.8)
    base = alt.Chart(minima).encode(y="loss_min:Q")
    return panel(
        runs.encode(x=x, y=y, tooltip=drawn.runs.columns),
        curves.encode(x=x, y=y, **lines(names, title="compute, FLOPs")),
        base.mark_rule(strokeWidth=1.5, color=INK, clip=True).encode(x="low:Q", x2="high:Q"),
        base.mark_point(shape="cross", filled=True, size=90, color=INK, opacity=1).encode(x="n_opt:Q"),
    )
