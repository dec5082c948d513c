"""`scalegrow allocate`: compute-optimal parameters and tokens."""

from typing import Any

import typer

from scalegrow.budget import Budget
from scalegrow.cli.predict import load_fit
from scalegrow.cli.render import (
    EXIT_OUTSIDE,
    cells,
    console,
    json_estimate,
    print_json,
    table,
)
from scalegrow.errors import InputError
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.plan.allocate import Allocation, allocate
from scalegrow.units import format_count, format_flops


def run(budget: str, fit_name: str, level: float, *, as_json: bool, strict: bool) -> None:
    """Allocate and print."""
    wanted = Budget.parse(budget)
    if wanted.kind != "flops":
        raise InputError(f"'{budget}' does not fix the compute: write the budget in FLOPs, such as '1e21 flops'.")
    found = allocate(load_fit(fit_name), wanted.value, level)
    if as_json:
        print_json(as_data(fit_name, found))
    else:
        show(fit_name, found)
    if strict and any(ratio != 1 for ratio in found.extrapolation.values()):
        raise typer.Exit(EXIT_OUTSIDE)


def as_data(fit_name: str, found: Allocation) -> dict[str, Any]:
    """The allocation for a program."""
    return {
        "schema": "scalegrow-allocate/1",
        "fit": fit_name,
        "flops": found.flops,
        "level": found.level,
        **{
            name: json_estimate(getattr(found, name)) for name in ("n_params", "tokens", "tpp", "loss", "exponent")
        },
        "extrapolation": {LABELS[k]: v for k, v in found.extrapolation.items()},
    }


def show(fit_name: str, found: Allocation) -> None:
    """The allocation for a person."""
    out = console()
    rows = (
        ("parameters N", *cells(found.n_params, format_count)),
        ("tokens D", *cells(found.tokens, format_count)),
        ("tokens per parameter", *cells(found.tpp, "{:.3g}".format)),
        ("loss, nats", *cells(found.loss, "{:.3f}".format)),
        ("a in N ~ C^a", *cells(found.exponent, "{:.3f}".format)),
    )
    heading = f"compute-optimal at {format_flops(found.flops)}"
    out.print(table((heading, "estimate", f"{found.level:.0%} interval"), rows))
    out.print(f"\nFit: {fit_name}; this question {extrapolation_sentence(found.extrapolation)}.")
