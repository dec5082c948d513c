"""Which warm start ends best: a model of every candidate's effect, and the probability that each is the best.

Symbols: c candidate, L_c its final held-out loss, y_c = L_c - L_0 its effect against the reference candidate,
nats per token; tpp tokens per parameter after growing; g growth factor; G bases, C candidates. Of each candidate

    y_c = a_c + r_c stochastic + s_c ln(tpp / 10) + t_c ln(base tpp / 20) + u_c ln(g / 4)
          + ln(tpp / 10) (v_c stochastic + w_c ln(base tpp / 20)) + error

by least squares, a term left out where the candidate's runs do not tell it. Two things make a new run uncertain:
what runs scatter by about the model, which the residuals of all candidates together say, and what the model does
not know. Runs of one base are not independent, so that the second comes from the influence of whole bases.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.domain import ROUNDING, Domain
from scalegrow.laws.points import FloatArray
from scalegrow.laws.store import rounded
from scalegrow.plan.outcomes import STOCHASTIC, UNIT

TERMS = ("effect", "stochastic", "budget", "base", "factor", "stochastic x budget", "base x budget")
PRODUCT = " x "
PLAIN = TERMS[1:5]  # the variables; other terms are one and their products
ALIKE = math.log(1.5)  # of a variable: nearer than this a candidate's runs speak for themselves
MIDDLE = {"budget": 10.0, "base": 20.0, "factor": 4.0}  # where a term is nought
REFERENCE = "zero_pad"  # takes any widths, and keeps the function
DOMAIN = {"N": "n_params", "tpp": "tpp", "g": "growth_factor", "base_tpp": "base_tpp"}  # and the column of each
FEWEST_BASES = 3
DRAWS = 10_000
EDGES = np.geomspace(1e-6, 1, 101)
SHARES = np.sqrt(EDGES[1:] * EDGES[:-1])  # of an effect that is chance: the middles of steps of 15 %
TINY = 1e-18  # nats squared: of runs that do not scatter


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
        of = {"effect": 1.0, "stochastic": float(self.stochastic)}
        of |= {name: math.log(value / MIDDLE[name]) for name, value in told.items()}
        return np.array([math.prod(of[part] for part in term.split(PRODUCT)) for term in TERMS])


class Fitted(NamedTuple):
    """Least squares of one candidate: (K,), by base (G, K), their errors (K,), and a residual for each run."""

    coefficients: FloatArray
    influence: FloatArray
    errors: FloatArray
    residuals: FloatArray


@dataclass(frozen=True)
class Effects:
    """The fitted effects of C candidates, the first of them the reference, over G bases.

    coefficients (C, K) in the order of the K TERMS; influence (G, C, K), what each base moves them by, summing to
    nought; errors (C, K), cluster-robust by base, nan where a candidate's runs do not tell the term. residuals
    (U, C) of units, each a base (its number in `bases`), setting and budget; nan where a candidate did not run.
    They are as large as errors: divided by what the fit took of them. seen (C, V, 2): the least and largest of
    each of the V PLAIN terms among a candidate's runs. domain: N, tpp, g and base_tpp of all runs.
    """

    candidates: tuple[str, ...]
    coefficients: FloatArray
    influence: FloatArray
    errors: FloatArray
    residuals: FloatArray
    bases: tuple[int, ...]
    seen: FloatArray
    domain: Domain
    n_runs: int

    @classmethod
    def fit(cls, rows: pl.DataFrame, outcome: str = "loss", reference: str = REFERENCE) -> "Effects":
        """Of a column of `outcomes`. Raises InputError where the reference or bases are missing.

        One that is the same at every budget of a run, as a probe's loss, counts once.
        """
        rows = _once(rows, outcome)
        rows = against(rows, outcome, reference)
        groups = rows["group"].unique().sort().to_list()
        names = [reference, *sorted(set(rows["candidate"]) - {reference})]
        parts = [rows.filter(candidate=name) for name in names]
        fitted = [_fit_one(part, groups) for part in parts]
        left = np.concatenate([each.residuals for each in fitted])
        units = (
            pl.concat(parts).with_columns(left=left).pivot(on="candidate", index=UNIT, values="left").sort(UNIT)
        )
        edges = {name: rows[column].to_numpy() for name, column in DOMAIN.items()}
        return cls(
            tuple(names),
            np.stack([each.coefficients for each in fitted]),
            np.stack([each.influence for each in fitted], axis=1),
            np.stack([each.errors for each in fitted]),
            units.select(names).to_numpy(),
            tuple(groups.index(group) for group in units["group"]),
            np.stack([_ends(design(part)) for part in parts]),
            Domain(tuple((name, float(values.min()), float(values.max())) for name, values in edges.items())),
            rows["run"].n_unique(),
        )

    @property
    def n_bases(self) -> int:
        """G."""
        return len(self.influence)

    @property
    def shared_bases(self) -> int:
        """Bases that all candidates ran from: as many tell how they vary together."""
        whole = ~np.isnan(self.residuals).any(1)
        return len(np.unique(np.array(self.bases)[whole]))

    def unseen(self, setting: Setting) -> dict[str, str]:
        """By candidate, where it was not run that others were: a term that its runs do not tell is not nought."""
        features, untold = setting.features, np.isnan(self.errors)
        found = {}
        for c, name in enumerate(self.candidates):
            for place, term in enumerate(PLAIN):
                at = TERMS.index(term)
                low, high = self.seen[c, place]
                near = low - ALIKE <= features[at] <= high + ALIKE
                if untold[c, at] and not (untold[:, at].all() or near):
                    found[name] = term
        return found

    def expected(self, setting: Setting) -> FloatArray:
        """(C,): E[y_c]."""
        return self.coefficients @ setting.features

    @property
    def noise(self) -> FloatArray:
        """(C, C) of how runs scatter about their expected effects: R'R / U, over U units that all candidates have.

        Raises InputError where too few bases have all candidates.
        """
        whole = ~np.isnan(self.residuals).any(1)
        if self.shared_bases < FEWEST_BASES:
            raise InputError(
                f"fewer than {FEWEST_BASES} bases were grown by all of {', '.join(self.candidates)}: name fewer."
            )
        left = self.residuals[whole]
        return left.T @ left / len(left)

    def doubt(self, setting: Setting) -> FloatArray:
        """(C, C) of the expected effects: the sum of m_g m_g' / (G (G - 1)), where base g moves them by m_g."""
        moved = self.influence @ setting.features
        return moved.T @ moved / (self.n_bases * (self.n_bases - 1))

    def of(self, names: Sequence[str]) -> "Effects":
        """The effects of these candidates alone, in this order."""
        at = [self.candidates.index(name) for name in names]
        return replace(
            self,
            candidates=tuple(names),
            coefficients=self.coefficients[at],
            influence=self.influence[:, at],
            errors=self.errors[at],
            residuals=self.residuals[:, at],
            seen=self.seen[at],
        )

    def to_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "candidates": list(self.candidates),
            "terms": list(TERMS),
            "coefficients": [rounded(row) for row in self.coefficients],
            "influence": [[rounded(row) for row in base] for base in self.influence],
            "errors": [_without_nan(row) for row in self.errors],
            "residuals": [_without_nan(row) for row in self.residuals],
            "bases": list(self.bases),
            "seen": [[rounded(ends) for ends in mine] for mine in self.seen],
            "domain": {name: [low, high] for name, low, high in self.domain.ranges},
            "runs": self.n_runs,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Effects":
        """The effects that `to_data` wrote. Raises KeyError, TypeError or ValueError on damage."""
        names, bases = tuple(map(str, data["candidates"])), tuple(map(int, data["bases"]))
        coefficients, influence = (np.array(data[name], dtype=float) for name in ("coefficients", "influence"))
        errors, residuals = (np.array(data[name], dtype=float) for name in ("errors", "residuals"))  # None: nan
        C, G = len(names), len(influence)
        if not (np.isfinite(coefficients).all() and np.isfinite(influence).all()) or np.isinf(residuals).any():
            raise ValueError("coefficients are not finite")
        if list(TERMS) != data["terms"]:
            raise ValueError("its terms are not this version's")
        if (
            not coefficients.shape
            == errors.shape
            == influence.shape[1:]
            == (
                C,
                len(TERMS),
            )
        ):
            raise ValueError("coefficients do not match the candidates")
        if residuals.shape != (len(bases), C) or {*bases} != {*range(G)}:
            raise ValueError("residuals do not match the bases")
        seen = np.array(data["seen"], dtype=float)
        if seen.shape != (C, len(PLAIN), 2) or not np.isfinite(seen).all():
            raise ValueError("what candidates ran does not match them")
        ranges = {name: tuple(map(float, data["domain"][name])) for name in DOMAIN}
        if not all(0 < low <= high < math.inf for low, high in ranges.values()):
            raise ValueError("ranges are out of range")
        domain = Domain(tuple((name, low, high) for name, (low, high) in ranges.items()))
        return cls(names, coefficients, influence, errors, residuals, bases, seen, domain, int(data["runs"]))


def _without_nan(values: FloatArray) -> list[float | None]:
    """For JSON, which has none."""
    return [None if math.isnan(each) else each for each in rounded(values)]


def against(rows: pl.DataFrame, outcome: str, reference: str) -> pl.DataFrame:
    """With y: the outcome minus the reference's of the same unit; runs without that are left out."""
    if outcome not in rows.columns:
        raise InputError(f"the table has no {outcome}: sweep with that lag among evaluation.lags.")
    theirs = rows.filter(pl.col("candidate") == reference).select(*UNIT, _theirs=pl.col(outcome))
    found = rows.join(theirs, on=UNIT).with_columns(y=pl.col(outcome) - pl.col("_theirs")).drop("_theirs")
    found = found.filter(pl.col("y").is_not_null())
    if found.is_empty():
        raise InputError(f"no run of {reference}, the candidate that others are compared with: train some.")
    return found


def _ends(x: FloatArray) -> FloatArray:
    """(len(PLAIN), 2): the least and largest of each variable of a design."""
    values = x[:, [TERMS.index(term) for term in PLAIN]]
    return np.stack([values.min(0), values.max(0)], axis=1)


def _once(rows: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """A row a run, where every run has the same outcome at all of its budgets."""
    if outcome not in rows.columns or rows.group_by("run").agg(pl.col(outcome).n_unique())[outcome].max() != 1:
        return rows
    return rows.unique("run", keep="first", maintain_order=True)


def design(rows: pl.DataFrame) -> FloatArray:
    """(n, K): the value of each of TERMS."""
    settings = rows.select(pl.col("regime") == STOCHASTIC, "tpp", "base_tpp", "growth_factor").rows()
    return np.array([Setting(*row).features for row in settings])


def _fit_one(rows: pl.DataFrame, groups: Sequence[int]) -> Fitted:
    """Of one candidate's runs, over the study's bases. Raises InputError where they are too few."""
    from statsmodels.api import OLS

    x, y = design(rows), rows["y"].to_numpy()
    bases = np.array([groups.index(group) for group in rows["group"]])
    told = _told(x)
    n, k, G = len(x), len(told), len(np.unique(bases))
    _require_enough(rows["candidate"][0], n, k, G)
    found = OLS(y, x[:, told]).fit(cov_type="cluster", cov_kwds={"groups": bases})
    bread, residuals, variances = found.normalized_cov_params, found.resid, np.diag(found.cov_params())
    coefficients, errors = np.zeros(len(TERMS)), np.full(len(TERMS), math.nan)
    coefficients[told], errors[told] = found.params, np.sqrt(np.maximum(variances, 0))
    moved = np.zeros((len(groups), len(TERMS)))  # by each base's runs
    moved[:, told] = _sums(x[:, told] * residuals[:, None] @ bread, bases, len(groups))
    # The fit takes a share k / n of what is each run's own, and 1 / G of what a base's runs have in common.
    free = min(n - k, n * (1 - 1 / G))
    # A candidate of G of the study's bases: the sum of squares over them is to be G / (G - 1) of what they move.
    scale = math.sqrt(len(groups) * (len(groups) - 1) * G / (G - 1))
    return Fitted(coefficients, scale * moved, errors, residuals * math.sqrt(n / free))


def _require_enough(name: str, n: int, k: int, G: int) -> None:
    """Raise InputError where n runs of G bases cannot tell k terms and their errors."""
    if G < FEWEST_BASES:
        raise InputError(f"{G} bases of {name} tell no interval: grow from {FEWEST_BASES} seeds or more.")
    if n <= k:
        raise InputError(f"{n} runs of {name} cannot tell {k} terms of its effect: grow from more seeds.")


def _sums(values: FloatArray, groups: npt.NDArray[np.int64], count: int) -> FloatArray:
    """(count, k): the rows of (n, k), summed by group."""
    return np.stack([values[groups == group].sum(0) for group in range(count)])


def _told(x: FloatArray) -> list[int]:
    """Which terms vary by more than sizes snap, beyond what those before them say."""
    told = [0]
    for term in range(1, len(TERMS)):
        by_others = x[:, told] @ np.linalg.lstsq(x[:, told], x[:, term], rcond=None)[0]
        if np.abs(x[:, term] - by_others).max() > ROUNDING:
            told.append(term)
    return told


def predictive(
    expected: FloatArray,
    noise: FloatArray,
    doubt: FloatArray,
    n_bases: int,
    n: int,
    rng: np.random.Generator,
    alike: FloatArray | float = 0.0,
) -> FloatArray:
    """(n, C) effects of one new run each, on a new base: theta + noise, with theta about what is expected.

    doubt: the covariance of `expected`. Both covariances are known as far as n_bases tell: a multivariate t, under
    the conjugate prior (inverse-Wishart; Gelman et al., Bayesian Data Analysis, 3.6) of the fewest degrees of
    freedom that have a mean, and with the mean that candidates vary alike and independently, which fills them up
    where bases are fewer than candidates. Of theta the prior is Zellner's, N(alike, doubt (1 - w) / w) with w
    uniform (hyper-g; Liang et al. 2008): a flat one would take the luckiest candidate for the best. Differences
    well beyond doubt stay as they are. Draws are without what candidates share.
    """
    contrasts = _contrasts(len(expected))  # (C - 1, C): orthonormal, blind to what all candidates share
    noise, doubt = (_filled(contrasts @ each @ contrasts.T, n_bases) for each in (noise, doubt))
    freedom = n_bases + 2
    scale = freedom / rng.chisquare(freedom, (n, 1))
    beyond = contrasts @ (expected - alike)
    kept = 1 - _shrunk(beyond @ np.linalg.solve(doubt, beyond) / scale, len(beyond), rng)
    ours, theirs = (rng.standard_normal((n, len(beyond))) @ np.linalg.cholesky(each).T for each in (noise, doubt))
    drawn = kept * beyond + np.sqrt(scale) * (ours + np.sqrt(kept) * theirs)
    return (contrasts @ expected - beyond + drawn) @ contrasts


def _filled(covariance: FloatArray, n_bases: int) -> FloatArray:
    """The t's scale of a covariance that n_bases tell, with the prior's share of candidates that vary alike."""
    alike = max(float(covariance.trace()) / max(len(covariance), 1), TINY) * np.eye(len(covariance))
    return (alike + (n_bases - 1) * covariance) / (n_bases + 2)


def _shrunk(q: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """(n, 1) draws of w from its posterior w^(k / 2) exp(-q w / 2) on (0, 1), q (n, 1) the square of k effects."""
    logs = (k / 2 + 1) * np.log(SHARES) - q * SHARES / 2  # one more for steps that grow with w
    weights = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
    return SHARES[(weights > weights[:, -1:] * rng.random(q.shape)).argmax(1), None]


def _contrasts(C: int) -> FloatArray:
    """(C - 1, C) orthonormal rows, each summing to nought (Helmert)."""
    rows = np.array([[1.0] * i + [-float(i)] + [0.0] * (C - i - 1) for i in range(1, C)]).reshape(C - 1, C)
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


def foretold(
    effects: Effects, setting: Setting, rng: np.random.Generator, alike: FloatArray | float = 0.0
) -> FloatArray:
    """(DRAWS, C) effects at a setting, of one new run each."""
    known = effects.expected(setting), effects.noise, effects.doubt(setting), effects.shared_bases
    return predictive(*known, DRAWS, rng, alike)


def choose(effects: Effects, setting: Setting, level: float = 0.95, seed: int = 0) -> Choice:
    """What the study alone says of its candidates at a setting."""
    return Choice.of(effects.candidates, foretold(effects, setting, np.random.default_rng(seed)), level)
