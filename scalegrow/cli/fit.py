"""`scalegrow fit`: a law from a run table, with its certificate, written whole or not at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scalegrow.cli.data import Choice
from scalegrow.cli.render import between, console, note, print_json, table
from scalegrow.errors import InputError
from scalegrow.laws.fit import fit, reached
from scalegrow.laws.fitted import Calibration, Fit
from scalegrow.laws.forecast import quantiles
from scalegrow.laws.law import Form
from scalegrow.laws.observations import Observations
from scalegrow.laws.store import to_json, write_fit
from scalegrow.laws.validate import SCHEMES, Validation, calibrate, validate


def run(
    choice: Choice,
    out: Path | None,
    resampling: str,
    draws: int,
    seed: int,
    *,
    calibrated: bool,
    level: float,
    as_json: bool,
) -> None:
    """Fit, refuse what is not identified, calibrate, write, print."""
    form, observations, data = choice.load()
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"{out.parent} is no folder: make it first or choose another --out.")
    made = fit(
        form,
        observations,
        loss=choice.loss_function(),
        fixed=choice.fixed(),
        resampling=resampling,
        draws=draws,
        seed=seed,
    )
    if not made.status.usable:
        raise InputError(f"{made.status.name}: {made.message} {made.status.value}")
    if calibrated and form.response == "loss":
        made = replace(made, calibration=held_out_calibration(choice, form, observations, seed))
    made = replace(
        made,
        provenance={
            "table": choice.table,
            "rows": choice.rows or "default",
            "drop_highest": str(choice.drop_highest),
            **({"data": data} if data else {}),
            **({"where": "; ".join(choice.where)} if choice.where else {}),
        },
    )
    if out is not None:
        write_fit(made, out)
    if as_json:
        print_json(as_data(made, level))
    else:
        show(made, level)
    if out is not None:
        note(f"written to {out}")


def as_data(made: Fit, level: float) -> dict[str, Any]:
    """The fit for a program: what a file holds without its draws, and each coefficient's interval."""
    low, high = quantiles(made.values(), level)
    told = {key: value for key, value in to_json(made).items() if key not in ("draws", "noise")}
    bounds = zip(made.law.form.names, low, high, strict=True)
    return {**told, "level": level, "intervals": {name: [float(lo), float(hi)] for name, lo, hi in bounds}}


def held_out_calibration(choice: Choice, form: Form, observations: Observations, seed: int) -> Calibration:
    """Every scheme that the table allows; schemes without a fold that can be fitted are said on stderr."""
    done: list[Validation] = []
    for scheme in SCHEMES:
        note(f"calibrating: {scheme} ...")
        try:
            done.append(
                validate(form, observations, scheme, loss=choice.loss_function(), fixed=choice.fixed(), seed=seed)
            )
        except InputError as error:
            note(f"  {error}")
    return calibrate(done) if done else Calibration()


def show(made: Fit, level: float) -> None:
    """Coefficients with intervals, then the certificate."""
    out = console()
    form = made.law.form
    out.print(f"{form.formula}\n{made.n_rows} rows, {made.n_runs} runs, {made.n_clusters} independent groups\n")
    low, high = quantiles(made.values(), level)
    rows = [
        (name, f"{value:.6g}", between(f"{lo:.4g}", f"{hi:.4g}"), held(made.fixed.get(name)))
        for name, value, lo, hi in zip(form.names, made.law.coefficients, low, high, strict=True)
    ]
    out.print(table(("", "estimate", f"{level:.0%} interval", ""), rows))
    c = made.certificate
    out.print(f"\n{made.status.name}: {made.message} {made.status.value}")
    out.print(
        f"certificate: objective {c.objective:.12g}; {reached(c)}; relative decrement {c.decrement:.1e}; "
        f"scaled Hessian eigenvalues {min(c.eigenvalues):.2e} to {max(c.eigenvalues):.2e}; second solver "
        f"{c.second_solver:+.1e}; delta/MAD {c.delta_over_mad:.2g}"
    )
    out.print(
        f"{len(made.draws)} draws by {made.resampling}; residual scale {np.std(made.noise.single):.2%}; "
        f"intervals calibrated on {made.calibration.from_runs}"
    )


def held(value: Any) -> str:
    """How a coefficient that was not fitted was treated."""
    return "" if value is None else "swept" if isinstance(value, tuple) else "held"
