"""Does a law predict runs it has not seen? Held-out scoring, coverage, and the calibration that follows.

largest-out   fit without the largest N (at least a tenth of the runs), predict it
rolling       fit on the runs up to a compute level, predict all beyond; one fold per level
base-out      fit without one base and its runs, predict them: how intervals do inside the data
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Calibration, Fit
from scalegrow.laws.forecast import LEVEL, Forecast, forecast, forecast_difference
from scalegrow.laws.law import Form
from scalegrow.laws.loss import Loss
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points
from scalegrow.laws.solve import Fixed
from scalegrow.units import format_count

Mask = npt.NDArray[np.bool_]
ROLLING_LEVELS = 5
INSIDE = 0.05  # ln units outside the data that still count as inside


@dataclass(frozen=True)
class Validation:
    """One row per held-out loss and per held-out grown-scratch difference; refused: folds not fitted."""

    losses: pl.DataFrame
    differences: pl.DataFrame
    refused: tuple[str, ...]


def largest_out(observations: Observations) -> Iterator[tuple[str, Mask]]:
    """Hold out the runs of the largest N; where sizes are many, the largest tenth of the runs."""
    N = observations.points.N
    smallest = min(np.quantile(N, 0.9), N.max() * (1 - 1e-6))
    yield f"N >= {format_count(smallest)}", smallest <= N


def rolling(observations: Observations) -> Iterator[tuple[str, Mask]]:
    """Hold out all compute beyond each of a few levels, from the middle of the data upwards."""
    C = observations.points.C
    levels = np.quantile(C, np.linspace(0.4, 0.9, ROLLING_LEVELS), method="lower")  # ties name one fold, not two
    for level in np.unique(levels):
        yield f"C > {level:.3g}", level < C


def base_out(observations: Observations) -> Iterator[tuple[str, Mask]]:
    """Hold out one cluster at a time; at most 40 folds, clusters grouped beyond that."""
    fold = observations.cluster % min(observations.n_clusters, 40)
    for k in np.unique(fold):
        yield f"fold {k + 1}", fold == k


SCHEMES: dict[str, Callable[[Observations], Iterator[tuple[str, Mask]]]] = {
    "largest-out": largest_out,
    "rolling": rolling,
    "base-out": base_out,
}


def require_scheme(scheme: str) -> None:
    """Raise InputError on a name that is no scheme."""
    if scheme not in SCHEMES:
        raise InputError(f"'{scheme}' is no validation scheme: choose one of {', '.join(SCHEMES)}.")


def validate(
    form: Form,
    observations: Observations,
    scheme: str,
    *,
    loss: Loss | None = None,
    fixed: Fixed | None = None,
    draws: int = 500,
    level: float = LEVEL,
    seed: int = 0,
) -> Validation:
    """Fit each fold's training rows and score its held-out rows; folds that cannot be fitted are named."""
    require_scheme(scheme)
    losses, differences, refused = [], [], []
    for name, held_out in SCHEMES[scheme](observations):
        if not held_out.any() or held_out.all():
            continue
        try:
            fold = fit(form, observations.take(~held_out), loss=loss, fixed=fixed, draws=draws, seed=seed)
            if not fold.status.usable:
                raise InputError(f"{fold.status.name}: {fold.message}")
            fold = replace(fold, calibration=Calibration.flat())
            losses.append(score_losses(fold, observations, held_out, level).with_columns(fold=pl.lit(name)))
            pairs = score_differences(fold, observations, held_out, level)
            differences.append(pairs.with_columns(fold=pl.lit(name)))
        except InputError as error:
            refused.append(f"{name}: {error}")
    if not losses:
        why = refused[0].rstrip(".") if refused else "all runs are alike: give runs of more sizes and budgets"
        raise InputError(f"no fold of {scheme} can be fitted ({why}).")
    return Validation(pl.concat(losses), pl.concat(differences), tuple(refused))


def score_losses(fold: Fit, observations: Observations, held_out: Mask, level: float) -> pl.DataFrame:
    """Predicted and observed losses of the held-out rows."""
    points = observations.points.take(held_out)
    trained = observations.points.take(~held_out)
    observed = np.exp(observations.y[held_out])
    frame = _scored(points, forecast(fold, points, level), observed)
    return frame.with_columns(compute_ratio=pl.Series(points.C / trained.C.max()))


def score_differences(fold: Fit, observations: Observations, held_out: Mask, level: float) -> pl.DataFrame:
    """Predicted and observed grown-minus-scratch differences where the grown run is held out."""
    pairs = [(i, j) for i, j in observations.pairs() if held_out[i]] if fold.law.form.joint else []
    rows, partners = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    grown, losses = observations.points.take(rows), np.exp(observations.y)
    observed = losses[rows] - losses[partners]
    answer = forecast_difference(fold, grown, level=level)
    return _scored(grown, answer, observed).with_columns(
        probability=pl.Series(answer.wins),
        sign_right=pl.Series(np.sign(observed) == np.sign(answer.value)),
    )


def _scored(points: Points, answer: Forecast, observed: npt.NDArray[np.float64]) -> pl.DataFrame:
    """One row per point: where, predicted, observed, intervals, and whether they held."""
    half = np.where(observed > answer.value, answer.new_high - answer.value, answer.value - answer.new_low)
    return pl.DataFrame(
        {
            "operator": points.operator.astype(object).tolist(),
            "N": points.N,
            "tpp": points.D / points.N,
            "g": points.g,
            "observed": observed,
            "predicted": answer.value,
            "low": answer.low,
            "high": answer.high,
            "new_low": answer.new_low,
            "new_high": answer.new_high,
            "covered": (answer.new_low <= observed) & (observed <= answer.new_high),
            "mean_covered": (answer.low <= observed) & (observed <= answer.high),
            "score": np.abs(observed - answer.value) / np.maximum(half, 1e-12),
            "distance": answer.distance,
        },
        schema_overrides={"operator": pl.String},
    )


def calibrate(validations: list[Validation], level: float = LEVEL) -> Calibration:
    """The factors that would have made new-run intervals cover at the level (split conformal).

    One factor from held-out rows inside the data, one from those outside, at their mean distance.
    """
    knots = {
        what: conformal_knots(pl.concat([getattr(v, frame) for v in validations]), level)
        for what, frame in (("loss", "losses"), ("difference", "differences"))
    }
    counts = [sum(getattr(v, frame).height for v in validations) for frame in ("losses", "differences")]
    return Calibration(**knots, from_runs=f"{counts[0]} held-out losses, {counts[1]} held-out differences")


def conformal_knots(scored: pl.DataFrame, level: float) -> tuple[tuple[float, float], ...]:
    """((0, factor inside), (mean distance, factor outside)); 1 where nothing was held out."""
    inside = scored.filter(pl.col("distance") <= INSIDE)["score"].to_numpy()
    outside = scored.filter(pl.col("distance") > INSIDE)
    first = max(1.0, conformal_quantile(inside, level))
    if outside.is_empty():
        return ((0.0, first),)
    beyond = max(first, conformal_quantile(outside["score"].to_numpy(), level))
    return ((0.0, first), (float(outside["distance"].to_numpy().mean()), beyond))


def conformal_quantile(scores: npt.NDArray[np.float64], level: float) -> float:
    """The ceil((n + 1) level)-th smallest score, the largest if there are too few (Vovk et al. 2005)."""
    if not len(scores):
        return 1.0
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return float(np.sort(scores)[rank - 1])
