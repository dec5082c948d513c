"""What the page carries: the fit with its draws, the ladder of shapes, and the constants of the decision.

The page computes every number itself, by the same equations as laws/ and plan/; nothing here is an answer.
"""

from typing import Any

import numpy as np

from scalegrow.budget import MOST_TOKENS
from scalegrow.errors import InputError
from scalegrow.laws.domain import LABELS, ROUNDING
from scalegrow.laws.fitted import Fit
from scalegrow.laws.forecast import drawn_noise, paired_noise
from scalegrow.laws.store import rounded
from scalegrow.laws.warmstart import FadingBase, WarmStartForm
from scalegrow.plan.advise import LIKELY, SURE, TOO_FAR
from scalegrow.plan.decide import BUDGETS_TPP, FACTORS, GRID, SAVING_RANGE
from scalegrow.shape import CONTEXT, FF_STEPS, LARGEST, SMALLEST, ModelShape, ladder, rungs

SIZE_TERM = 1  # of WarmStartForm.penalised_term: g^rho stands on A N^-alpha


def fit_data(fit: Fit, name: str) -> dict[str, Any]:
    """The law, its draws by coefficient, noise and calibration. Raises InputError on a law the page cannot ask."""
    form = decidable(fit)
    pairs = paired_noise(fit)
    return {
        "name": name,
        "law": form.name,
        "formula": form.formula,
        "operators": list(form.operators),
        "price": "size" if form.penalised_term == SIZE_TERM else "data",
        "discount": "power" if isinstance(form, FadingBase) else "tokens",
        "theta": fit.law.theta.tolist(),
        "draws": [rounded(column) for column in fit.draws.T],
        "noise": {
            "single": rounded(fit.noise.single),
            "paired": rounded(pairs),
            "single_drawn": drawn(len(fit.noise.single), len(fit.draws)),
            "paired_drawn": drawn(len(pairs), len(fit.draws)),
        },
        "calibration": {"loss": list(fit.calibration.loss), "difference": list(fit.calibration.difference)},
        "domain": [list(edges) for edges in fit.domain.ranges],
        "status": fit.status.name,
        "message": fit.message,
        "runs": fit.n_runs,
        "checked": fit.calibration.from_runs,
        "table": fit.provenance.get("table", ""),
    }


def decidable(fit: Fit) -> WarmStartForm:
    """The law, if it knows grown runs and the fit can carry a decision. Raises InputError otherwise."""
    form = fit.law.form
    if not isinstance(form, WarmStartForm) or not form.operators:
        raise InputError(
            f"{form.name} knows no grown runs, so there is no growth to plan: give a fit of a joint law, "
            "such as fading-capacity, with --fit."
        )
    fit.require_usable()
    return form


def drawn(n: int, M: int) -> list[int]:
    """Which of n residuals goes with each of M draws, as the forecasts pair them."""
    return drawn_noise(np.arange(n, dtype=float), (M, 1))[:, 0].astype(int).tolist()


def ladder_data() -> dict[str, Any]:
    """The rungs that a size snaps to: of a base, and of a target by its base's vocabulary, tying and head size."""
    families = sorted({(rung.vocab_size, rung.tied, rung.head_dim) for rung in ladder()})
    return {
        "smallest": SMALLEST,
        "largest": LARGEST,
        "context": CONTEXT,
        "ff_steps": FF_STEPS,
        "base": [[*family(rung), *sizes(rung)] for rung in ladder()],
        "target": {words(like): [sizes(rung) for rung in rungs(*like)] for like in families},
    }


def family(shape: ModelShape) -> tuple[int, bool, int]:
    """What growth keeps of a shape: vocabulary, tying and head size."""
    return shape.vocab_size, shape.tied, shape.head_dim


def sizes(shape: ModelShape) -> tuple[int, int, int, int]:
    """What growth changes of a shape."""
    return shape.d_model, shape.n_layers, shape.n_heads, shape.d_ff


def words(like: tuple[int, bool, int]) -> str:
    """A family as the page names it: 4096,true,32."""
    vocab_size, tied, head_dim = like
    return f"{vocab_size},{str(tied).lower()},{head_dim}"


def constants() -> dict[str, Any]:
    """The numbers that a decision and its advice are made with."""
    return {
        "budgets_tpp": BUDGETS_TPP,
        "factors": FACTORS,
        "grid": GRID,
        "saving_range": SAVING_RANGE,
        "rounding": ROUNDING,
        "labels": LABELS,
        "most_tokens": MOST_TOKENS,
        "sure": SURE,
        "likely": LIKELY,
        "too_far": TOO_FAR,
    }
