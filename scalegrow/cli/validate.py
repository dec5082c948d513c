"""`scalegrow validate`: held-out runs against their predictions."""

import math
from typing import Any

import polars as pl

from scalegrow.cli.data import Choice
from scalegrow.cli.render import between, console, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.laws.validate import Validation, calibrate, require_scheme, validate
from scalegrow.units import format_count

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]


def run(choice: Choice, schemes: list[str], draws: int, level: float, *, as_json: bool) -> None:
    """Every scheme in turn: cells, a summary line, and the calibration that follows."""
    for scheme in schemes:
        require_scheme(scheme)
    form, observations, _ = choice.load()
    done: dict[str, Validation] = {}
    refused: list[str] = []
    for scheme in schemes:
        note(f"validating {form.name} by {scheme} ...")
        try:
            done[scheme] = validate(
                form,
                observations,
                scheme,
                loss=choice.loss_function(),
                fixed=choice.fixed(),
                draws=draws,
                level=level,
            )
        except InputError as error:
            refused.append(str(error))
    if not done:
        raise InputError(refused[0])
    for reason in refused:
        note(f"warning: {reason}")
    factors = calibrate(list(done.values()), level)
    if as_json:
        print_json(
            {
                "schema": "scalegrow-validate/1",
                "law": form.name,
                "level": level,
                "schemes": {name: as_data(validation) for name, validation in done.items()},
                "calibration": {"loss": factors.loss, "difference": factors.difference},
            }
        )
        return
    for name, validation in done.items():
        show(name, validation, level)
    console().print(
        f"widening that would have covered {level:.0%}: losses {knots(factors.loss)}; "
        f"differences {knots(factors.difference)}"
    )


def as_data(validation: Validation) -> dict[str, Any]:
    """Rows and summaries."""
    return {
        "losses": validation.losses.to_dicts(),
        "differences": validation.differences.to_dicts(),
        "refused": list(validation.refused),
        "summary": {name: summary(frame) for name, frame in frames(validation).items()},
    }


def frames(validation: Validation) -> dict[str, pl.DataFrame]:
    """The scored frames that hold rows."""
    both = {"losses": validation.losses, "differences": validation.differences}
    return {name: frame for name, frame in both.items() if frame.height}


def summary(frame: pl.DataFrame) -> dict[str, float]:
    """Error, coverage and, for differences, sign accuracy."""
    error = (frame["predicted"] - frame["observed"]).to_numpy()
    data = {
        "cells": float(frame.height),
        "rmse": float((error**2).mean() ** 0.5),
        "bias": float(error.mean()),
        "coverage_new_run": float(frame["covered"].to_numpy().mean()),
        "coverage_mean": float(frame["mean_covered"].to_numpy().mean()),
    }
    if "sign_right" in frame.columns:
        data["sign_accuracy"] = float(frame["sign_right"].to_numpy().mean())
    return data


def show(scheme: str, validation: Validation, level: float) -> None:
    """Cells of differences if there are any, else losses against how far they extrapolate; then summaries."""
    out = console()
    folds = validation.differences["fold"].unique(maintain_order=True).to_list()
    if len(folds) == 1:
        cells = difference_cells(validation.differences, level)
        out.print(table(*cells, title=f"{scheme}, {folds[0]} held out: grown minus scratch, nats"))
    elif folds:
        out.print(
            table(*difference_folds(validation.differences, folds), title=f"{scheme}: grown minus scratch, nats")
        )
    out.print(table(*loss_bins(validation.losses, level), title=f"{scheme}: losses by how far they extrapolate"))
    for name, frame in frames(validation).items():
        s = summary(frame)
        sign = f", sign right {s['sign_accuracy']:.0%}" if "sign_accuracy" in s else ""
        out.print(
            f"{name}: {frame.height} held out, rmse {s['rmse']:.4f}, bias {s['bias']:+.4f}{sign}, "
            f"{level:.0%} new-run intervals cover {s['coverage_new_run']:.0%}, mean's {s['coverage_mean']:.0%}"
        )
    for refused in validation.refused:
        out.print(f"not scored: {refused}")
    out.print()


def difference_cells(frame: pl.DataFrame, level: float) -> Cells:
    """One row per held-out cell."""
    columns = ("operator", "N", "tpp", "g", "true", "predicted", f"{level:.0%} new run", "sign", "covered")
    rows: list[tuple[str, ...]] = [
        (
            r["operator"],
            format_count(r["N"]),
            f"{r['tpp']:.3g}",
            f"{r['g']:.3g}",
            f"{r['observed']:+.4f}",
            f"{r['predicted']:+.4f}",
            between(f"{r['new_low']:+.3f}", f"{r['new_high']:+.3f}"),
            "ok" if r["sign_right"] else "WRONG",
            "yes" if r["covered"] else "NO",
        )
        for r in frame.iter_rows(named=True)
    ]
    return columns, rows


def difference_folds(frame: pl.DataFrame, folds: list[str]) -> Cells:
    """One row per fold."""
    columns = ("held out", "cells", "rmse", "bias", "sign right", "new-run coverage")
    rows: list[tuple[str, ...]] = []
    for fold in folds:
        s = summary(frame.filter(pl.col("fold") == fold))
        rows.append(
            (
                fold,
                f"{s['cells']:.0f}",
                f"{s['rmse']:.4f}",
                f"{s['bias']:+.4f}",
                f"{s['sign_accuracy']:.0%}",
                f"{s['coverage_new_run']:.0%}",
            )
        )
    return columns, rows


def loss_bins(frame: pl.DataFrame, level: float) -> Cells:
    """Error and coverage by how many times the training compute the held-out run took."""
    columns = ("compute / largest fitted", "runs", "rmse", f"{level:.0%} new-run coverage")
    edges = [(0, 1), (1, 2), (2, 5), (5, 10), (10, 100), (100, float("inf"))]
    rows: list[tuple[str, ...]] = []
    for low, high in edges:
        part = frame.filter((pl.col("compute_ratio") > low) & (pl.col("compute_ratio") <= high))
        if part.height:
            s = summary(part)
            rows.append(
                (f"{low:g} to {high:g}", str(part.height), f"{s['rmse']:.4f}", f"{s['coverage_new_run']:.0%}")
            )
    return columns, rows


def knots(points: tuple[tuple[float, float], ...]) -> str:
    """'x 1.1 inside, x 2.0 at 2.3 times outside'."""
    words = [f"x {points[0][1]:.2f} inside the data"]
    words += [f"x {factor:.2f} at {math.exp(distance):.2g} times outside" for distance, factor in points[1:]]
    return ", ".join(words)
