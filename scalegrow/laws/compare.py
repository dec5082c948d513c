"""Which law predicts the difference between growing and scratch best on runs it has not seen?"""

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.forecast import LEVEL
from scalegrow.laws.law import Form
from scalegrow.laws.loss import Loss
from scalegrow.laws.observations import Observations
from scalegrow.laws.paired import fit_paired
from scalegrow.laws.points import FloatArray
from scalegrow.laws.solve import Fixed
from scalegrow.laws.validate import SCHEMES, validate

PAIRED = "paired-difference"


def compare(
    forms: list[Form],
    observations: Observations,
    scheme: str,
    *,
    loss: Loss | None = None,
    fixed: Fixed | None = None,
    draws: int = 500,
    level: float = LEVEL,
) -> pl.DataFrame:
    """One row per rival: error, sign accuracy, coverage and interval score of held-out differences (nats).

    The paired-difference model competes beside the forms; 'no effect' (difference 0) is the control.
    Only cells that every rival could predict are scored, so that all are judged on the same ones.
    """
    scored = {form.name: _by_form(form, observations, scheme, loss, fixed, draws, level) for form in forms}
    scored[PAIRED] = _by_pairs(observations, forms[0].operators, scheme, level)
    cells = [set(_cells(frame)) for frame in scored.values() if not frame.is_empty()]
    shared = set.intersection(*cells) if cells else set()
    if not shared:
        raise InputError(f"no held-out cell of {scheme} could be predicted by every law: give more sizes.")
    kept = {
        name: frame.filter(pl.Series([cell in shared for cell in _cells(frame)], dtype=pl.Boolean))
        for name, frame in scored.items()
        if not frame.is_empty()
    }
    truth = next(iter(kept.values()))
    control = truth.with_columns(predicted=pl.lit(0.0), new_low=pl.lit(None), new_high=pl.lit(None))
    rows = [_summary(name, frame, level) for name, frame in kept.items()]
    return pl.DataFrame([*rows, _summary("no effect", control, level)], infer_schema_length=None).sort("rmse")


def _by_form(
    form: Form,
    observations: Observations,
    scheme: str,
    loss: Loss | None,
    fixed: Fixed | None,
    draws: int,
    level: float,
) -> pl.DataFrame:
    try:
        answer = validate(form, observations, scheme, loss=loss, fixed=fixed, draws=draws, level=level)
    except InputError:
        return pl.DataFrame()
    return answer.differences


def _by_pairs(observations: Observations, operators: tuple[str, ...], scheme: str, level: float) -> pl.DataFrame:
    """The same folds for the paired model, in nats at the observed scratch loss."""
    frames = []
    for name, held_out in SCHEMES[scheme](observations):
        pairs = [(i, j) for i, j in observations.pairs() if held_out[i]]
        try:
            model = fit_paired(observations, operators, ~held_out)
        except InputError:
            continue
        rows, partners = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        points, losses = observations.points.take(rows), np.exp(observations.y)
        predicted, low, high = (losses[partners] * np.expm1(v) for v in model.predict(points, level))
        frames.append(
            pl.DataFrame(
                {
                    "operator": points.operator.astype(object).tolist(),
                    "N": points.N,
                    "tpp": points.D / points.N,
                    "g": points.g,
                    "observed": losses[rows] - losses[partners],
                    "predicted": predicted,
                    "new_low": low,
                    "new_high": high,
                    "fold": [name] * len(points),
                },
                schema_overrides={"operator": pl.String, "fold": pl.String},
            )
        )
    return pl.concat(frames) if frames else pl.DataFrame()


def _cells(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.select("fold", "operator", "N", "tpp", "g").rows() if not frame.is_empty() else []


def _summary(name: str, frame: pl.DataFrame, level: float) -> dict[str, object]:
    observed, predicted = frame["observed"].to_numpy(), frame["predicted"].to_numpy()
    low, high = (frame[c].cast(pl.Float64).to_numpy() for c in ("new_low", "new_high"))
    known = bool(np.isfinite(low).all())
    return {
        "law": name,
        "cells": len(observed),
        "rmse": float(np.sqrt(np.mean((predicted - observed) ** 2))),
        "sign_accuracy": float(np.mean(np.sign(predicted) == np.sign(observed))),
        "coverage": float(np.mean((low <= observed) & (observed <= high))) if known else None,
        "interval_score": float(np.mean(interval_score(low, high, observed, level))) if known else None,
    }


def interval_score(low: FloatArray, high: FloatArray, observed: FloatArray, level: float) -> FloatArray:
    """Width plus 2/(1 - level) times the miss: small is good (Gneiting and Raftery 2007, eq. 43)."""
    miss = np.maximum(low - observed, 0) + np.maximum(observed - high, 0)
    score: FloatArray = high - low + 2 / (1 - level) * miss
    return score
