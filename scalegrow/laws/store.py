"""A fit on disk: one JSON file that predicts without the data, written whole or not at all."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scalegrow import __version__
from scalegrow.atomic import output_file
from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.document import require_ours
from scalegrow.laws.domain import LABELS, Domain
from scalegrow.laws.fitted import Calibration, Fit, FitStatus, Noise
from scalegrow.laws.law import Law
from scalegrow.laws.solve import Certificate

SCHEMA = "scalegrow-fit/1"
DIGITS = 10  # of each draw: far beyond what draws know, and half the file


def to_json(fit: Fit) -> dict[str, Any]:
    """The fit as plain JSON values; coefficients and draws by name of form and order of its coefficients."""
    form = fit.law.form
    return {
        "schema": SCHEMA,
        "version": __version__,
        "law": form.name,
        "formula": form.formula,
        "operators": list(form.operators),
        "coefficients": dict(zip(form.names, fit.law.coefficients, strict=True)),
        "status": fit.status.name,
        "message": fit.message,
        "certificate": {name: finite(value) for name, value in asdict(fit.certificate).items()},
        "loss": fit.loss,
        "resampling": fit.resampling,
        "rows": fit.n_rows,
        "runs": fit.n_runs,
        "clusters": fit.n_clusters,
        "fixed": {name: list(v) if isinstance(v, tuple) else v for name, v in fit.fixed.items()},
        "domain": {name: [low, high] for name, low, high in fit.domain.ranges},
        "calibration": asdict(fit.calibration),
        "provenance": dict(fit.provenance),
        "noise": {"single": rounded(fit.noise.single), "paired": rounded(fit.noise.paired)},
        "draws": [rounded(row) for row in fit.draws],
    }


def finite(value: Any) -> Any:
    """Infinity as None, since JSON has none: least squares has no delta to set against the residuals."""
    return None if value == math.inf else value


def from_json(data: Mapping[str, Any]) -> Fit:
    """The fit that `to_json` wrote. Raises InputError on another schema; KeyError and the like on damage."""
    if data.get("schema") != SCHEMA:
        raise InputError(f"schema {data.get('schema')!r} is not {SCHEMA!r}: fit the table again.")
    form = form_named(data["law"], tuple(data["operators"]))
    certificate: dict[str, Any] = dict(data["certificate"])
    certificate["eigenvalues"] = tuple(certificate["eigenvalues"])
    certificate |= {name: math.inf for name, value in certificate.items() if value is None}
    knots = {k: tuple((x, y) for x, y in data["calibration"][k]) for k in ("loss", "difference")}
    draws = np.array(data["draws"], dtype=float)
    domain = Domain(tuple((name, low, high) for name, (low, high) in data["domain"].items()))
    noise = Noise(np.array(data["noise"]["single"], dtype=float), np.array(data["noise"]["paired"], dtype=float))
    if draws.ndim != 2 or len(draws) < 2 or draws.shape[1] != len(form.names) or not np.isfinite(draws).all():
        raise ValueError("draws do not match the law")
    if not len(noise.single) or not np.isfinite(np.concatenate([noise.single, noise.paired])).all():
        raise ValueError("noise is empty or not finite")
    if strange := [name for name, _, _ in domain.ranges if name not in LABELS]:
        raise ValueError(f"no law knows the variable {strange[0]}")
    if not isinstance(data["provenance"], dict):
        raise ValueError("provenance is no table of facts")
    if not all(knots.values()) or (form.joint and "g" not in domain):
        raise ValueError("domain or calibration is empty")
    return Fit(
        law=Law.of(form, **data["coefficients"]),
        draws=draws,
        status=FitStatus[data["status"]],
        message=data["message"],
        certificate=Certificate(**certificate),
        domain=domain,
        noise=noise,
        loss=data["loss"],
        resampling=data["resampling"],
        n_rows=data["rows"],
        n_runs=data["runs"],
        n_clusters=data["clusters"],
        fixed={k: tuple(v) if isinstance(v, list) else v for k, v in data["fixed"].items()},
        calibration=Calibration(**knots, from_runs=data["calibration"]["from_runs"]),
        provenance=data["provenance"],
    )


def rounded(values: np.ndarray[Any, Any]) -> list[float]:
    """Floats short enough to keep files small."""
    return [float(f"{v:.{DIGITS}g}") for v in values]


def write_fit(fit: Fit, path: Path) -> None:
    """Readers see the old file or the new one, never half of one. Raises InputError where it cannot be written."""
    require_ours(path)
    text = json.dumps(to_json(fit), indent=None, separators=(",", ":"), allow_nan=False)
    head, draws = text.split('"draws":', 1)
    body = f'{head}\n"draws":{draws.replace("],[", "]," + chr(10) + "[")}\n'
    with output_file(path) as partial:
        partial.write_text(body, encoding="utf-8")


def read_fit(path: Path) -> Fit:
    """Raises InputError when the file is missing, not a fit, damaged or of another schema."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: write one with 'scalegrow fit TABLE --out {path}'.") from None
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path} is no fit: make one with 'scalegrow fit TABLE --out mine.json'.") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is JSON but no fit: write one with 'scalegrow fit TABLE --out FILE'.")
    try:
        return from_json(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is a damaged fit ({error}): fit the table again.") from None
