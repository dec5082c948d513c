"""Which warm start ends best: a model of every candidate's effect, and the probability that each is the best.

Symbols: c candidate, L_c its final held-out loss, y_c = L_c - L_0 its effect against the reference candidate,
nats per token; tpp tokens per parameter after growing; g growth factor; G bases, C candidates. Of each candidate

    y_c = a_c + r_c stochastic + s_c ln(tpp / 10) + t_c ln(base tpp / 20) + u_c ln(g / 4) + error

by least squares, a term left out where the candidate's runs do not vary it. Runs of one base are not independent:
errors are cluster-robust, and the influence of whole bases gives the covariance of all candidates together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.domain import Domain
from scalegrow.laws.points import FloatArray
from scalegrow.laws.store import rounded
from scalegrow.plan.outcomes import SETTING, STOCHASTIC

FINAL = "loss"  # annealed, at a budget
TERMS = ("effect", "stochastic", "budget", "base", "factor")
MIDDLE = {"budget": 10.0, "base": 20.0, "factor": 4.0}  # where a term is nought
REFERENCE = "zero_pad"  # takes any widths, and keeps the function
AT = ("group", *SETTING, "tpp")
FEWEST_BASES = 3
DRAWS = 10_000


@dataclass(frozen=True)
class Setting:
    """Where a warm start is to be used: regime, tokens per parameter of target and base, growth factor."""

    stochastic: bool
    tpp: float
    base_tpp: float
    g: float

    @property
    def features(self) -> FloatArray:
        """The value of each of TERMS."""
        told = {"budget": self.tpp, "base": self.base_tpp, "factor": self.g}
        logs = [math.log(told[name] / MIDDLE[name]) for name in TERMS[2:]]
        return np.array([1.0, float(self.stochastic), *logs])


@dataclass(frozen=True)
class Effects:
    """The fitted effects of C candidates, the reference's nought, over G bases.

    coefficients (C, 5) in the order of TERMS; influence (G, C, 5), what each base moves them by, summing to
    nought; errors (C, 5), cluster-robust by base, nan where a candidate's runs do not tell the term. domain: N,
    tpp, g and base_tpp of the runs.
    """

    candidates: tuple[str, ...]
    coefficients: FloatArray
    influence: FloatArray
    errors: FloatArray
    domain: Domain
    n_runs: int

    @classmethod
    def fit(cls, rows: pl.DataFrame, outcome: str = FINAL, reference: str = REFERENCE) -> "Effects":
        """Of a column of `outcomes`; one but the final loss is the same at every budget of a run, and counts once.

        Raises InputError where the reference or bases are missing.
        """
        rows = rows if outcome == FINAL else rows.unique("run", keep="first", maintain_order=True)
        rows = against(rows, outcome, reference)
        groups = rows["group"].unique().sort().to_list()
        if len(groups) < FEWEST_BASES:
            raise InputError(f"{len(groups)} bases tell no interval: grow from {FEWEST_BASES} seeds or more.")
        names = [reference, *sorted(set(rows["candidate"]) - {reference})]
        fitted = [_fit_one(rows.filter(pl.col("candidate") == name), groups) for name in names[1:]]
        nought = np.zeros(len(TERMS)), np.zeros((len(groups), len(TERMS))), np.zeros(len(TERMS))
        coefficients, influence, errors = zip(nought, *fitted, strict=True)
        columns = {"N": "n_params", "tpp": "tpp", "g": "growth_factor", "base_tpp": "base_tpp"}
        edges = {name: rows[column].to_numpy() for name, column in columns.items()}
        domain = Domain(tuple((name, float(values.min()), float(values.max())) for name, values in edges.items()))
        return cls(
            tuple(names),
            np.stack(coefficients),
            np.stack(influence, axis=1),
            np.stack(errors),
            domain,
            rows["run"].n_unique(),
        )

    @property
    def n_bases(self) -> int:
        """G."""
        return len(self.influence)

    def by_base(self, setting: Setting) -> FloatArray:
        """(G, C): what each base alone says of the effects, mean `expected`."""
        return (self.coefficients + self.influence) @ setting.features

    def expected(self, setting: Setting) -> FloatArray:
        """(C,): E[y_c]."""
        return self.coefficients @ setting.features

    def of(self, names: Sequence[str]) -> "Effects":
        """The effects of these candidates alone, in this order."""
        at = [self.candidates.index(name) for name in names]
        return replace(
            self,
            candidates=tuple(names),
            coefficients=self.coefficients[at],
            influence=self.influence[:, at],
            errors=self.errors[at],
        )

    def to_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "candidates": list(self.candidates),
            "terms": list(TERMS),
            "coefficients": [rounded(row) for row in self.coefficients],
            "influence": [[rounded(row) for row in base] for base in self.influence],
            "errors": [[None if math.isnan(each) else each for each in rounded(row)] for row in self.errors],
            "domain": {name: [low, high] for name, low, high in self.domain.ranges},
            "runs": self.n_runs,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Effects":
        """The effects that `to_data` wrote. Raises KeyError, TypeError or ValueError on damage."""
        coefficients, influence = (np.array(data[name], dtype=float) for name in ("coefficients", "influence"))
        errors = np.array([[math.nan if each is None else each for each in row] for row in data["errors"]])
        names, shape = tuple(map(str, data["candidates"])), (len(data["candidates"]), len(TERMS))
        whole = np.isfinite(coefficients).all() and np.isfinite(influence).all()
        if not whole or not coefficients.shape == errors.shape == influence.shape[1:] == shape:
            raise ValueError("coefficients do not match the candidates")
        domain = Domain(tuple((name, float(low), float(high)) for name, (low, high) in data["domain"].items()))
        return cls(names, coefficients, influence, errors, domain, int(data["runs"]))


def against(rows: pl.DataFrame, outcome: str, reference: str) -> pl.DataFrame:
    """With y: the outcome minus the reference's of the same base, setting and budget; others are left out."""
    if outcome not in rows.columns:
        raise InputError(f"the table has no {outcome}: sweep with that lag among evaluation.lags.")
    theirs = rows.filter(pl.col("candidate") == reference).group_by(AT).agg(reference=pl.col(outcome).mean())
    found = rows.join(theirs, on=AT).with_columns(y=pl.col(outcome) - pl.col("reference"))
    found = found.filter(pl.col("y").is_not_null())
    if found.is_empty():
        raise InputError(f"no run of {reference}, the candidate that others are compared with: train some.")
    return found


def design(rows: pl.DataFrame) -> FloatArray:
    """(n, 5): the value of each of TERMS."""
    settings = rows.select(pl.col("regime") == STOCHASTIC, "tpp", "base_tpp", "growth_factor").rows()
    return np.array([Setting(*row).features for row in settings])


def _fit_one(rows: pl.DataFrame, groups: Sequence[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coefficients, influence by group and errors of one candidate."""
    from statsmodels.api import OLS

    x, mine = design(rows), rows["group"].to_numpy()
    told = np.array([True, *(np.ptp(x[:, 1:], axis=0) > 1e-9)])
    found = OLS(rows["y"].to_numpy(), x[:, told]).fit(cov_type="cluster", cov_kwds={"groups": mine})
    scores = x[:, told] * found.resid[:, None] @ found.normalized_cov_params
    coefficients, errors = np.zeros(len(TERMS)), np.full(len(TERMS), math.nan)
    coefficients[told], errors[told] = found.params, found.bse
    influence = np.zeros((len(groups), len(TERMS)))
    influence[:, told] = [len(groups) * scores[mine == group].sum(0) for group in groups]
    return coefficients, influence, errors


def predictive(values: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """(n, C) effects on a new base, given what each of G bases said (G, C).

    Normal with unknown mean and covariance over bases, under the conjugate prior (normal-inverse-Wishart;
    Gelman et al., Bayesian Data Analysis, 3.6) of the fewest degrees of freedom that have a mean, and with the
    mean that candidates vary alike and independently. Where G is below C the sample covariance is singular.
    """
    G, C = values.shape
    contrasts = _contrasts(C)  # (C - 1, C): orthonormal, blind to what all candidates share
    z = values @ contrasts.T
    mean, residuals = z.mean(0), z - z.mean(0)
    alike = np.eye(C - 1) * max(float((residuals**2).sum()) / ((G - 1) * (C - 1)), 1e-18)
    scale, freedom = alike + residuals.T @ residuals, C + 1 + G - 1
    precise = rng.standard_normal((n, freedom, C - 1)) @ np.linalg.cholesky(np.linalg.inv(scale)).T
    sigma = np.linalg.inv(precise.transpose(0, 2, 1) @ precise)  # the inverse of a Wishart draw
    noise = np.linalg.cholesky(sigma) @ rng.standard_normal((n, C - 1, 1))
    return (mean + math.sqrt(1 + 1 / G) * noise[..., 0]) @ contrasts


def _contrasts(C: int) -> FloatArray:
    """(C - 1, C) orthonormal rows, each summing to nought (Helmert)."""
    rows = np.array([[1.0] * i + [-float(i)] + [0.0] * (C - i - 1) for i in range(1, C)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class Choice:
    """The candidates of a pool at one setting, on a new base: one number each, in their order.

    p_best: how often its loss is the least. regret: by how much it lies above the least on average, nats per
    token. effect, low, high: its loss minus the pool's mean, with its interval.
    """

    candidates: tuple[str, ...]
    p_best: FloatArray
    regret: FloatArray
    effect: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, candidates: tuple[str, ...], draws: FloatArray, level: float = 0.95) -> "Choice":
        """From draws (n, C) of their losses, whatever they share."""
        draws = draws - draws.mean(1, keepdims=True)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        p_best = np.bincount(draws.argmin(1), minlength=len(candidates)) / len(draws)
        regret = (draws - draws.min(1, keepdims=True)).mean(0)
        return cls(candidates, p_best, regret, draws.mean(0), low, high)

    @property
    def best(self) -> int:
        """The number of the one to take: the least regret."""
        return int(self.regret.argmin())


def choose(effects: Effects, setting: Setting, level: float = 0.95, seed: int = 0) -> Choice:
    """What the study alone says of its candidates at a setting."""
    draws = predictive(effects.by_base(setting), DRAWS, np.random.default_rng(seed))
    return Choice.of(effects.candidates, draws, level)
