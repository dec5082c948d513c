"""Selecting warm starts: what became of runs, the effects against statsmodels, P(best) against the truth."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats
from selecting import BUDGETS, CELLS, LAG, NAMES, Cell, N, Truth, of_base, simulated, unequal
from sweeping import swept, tiny_study
from training import TINY

from scalegrow.errors import InputError
from scalegrow.growth import OPERATORS, widened_shape, widens
from scalegrow.laws.points import FloatArray
from scalegrow.plan import probed, select
from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC, UNIT, outcomes
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import TERMS, Choice, Effects, Setting, choose, design, predictive
from scalegrow.plan.selection import SCHEMA, Selection, read_selection, write_selection
from scalegrow.runs.table import checked
from scalegrow.shape import MLPShape
from scalegrow.train.operators import plan
from scalegrow.train.sweep import table

AT = Setting(stochastic=False, tpp=10.0, base_tpp=16.0, g=4.0)
NOISY = {"by_base": 0.01, "by_run": 0.01, "by_loss": 0.005}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def covariance(effects: Effects) -> FloatArray:
    """Of a new run on a new base."""
    return effects.noise + effects.doubt(AT)


def noisy(seed: int = 0, **changes: Any) -> pl.DataFrame:
    return simulated(Truth.draw(rng(seed), **NOISY | changes), rng(seed + 1))


# What became of warm starts.


def run_table(*changes: dict[str, Any], without: str = "") -> pl.DataFrame:
    """A base and a run grown from it, watched at steps 4, 8 and 16; each change is another grown run."""
    base = {
        "run": "base", "operator": "scratch", "arm": "scratch", "n_params": 100.0, "tokens": 2000.0, "loss": 2.0,
        "base": None, "base_params": None, "base_tokens": None, "seed": 3, "data_seed": 7, "dropout": 0.0,
        "n_layers": 2, "stage": "20tpp", "step": 20, "annealed": True, "base_budget": None, "data": "text",
    }  # fmt: skip
    grown = base | {
        "run": "grown", "operator": "szp", "arm": "szp:shrink=0.4", "n_params": 400.0, "base": "base",
        "base_params": 100.0, "base_tokens": 1600.0, "base_budget": 20.0, "kl_4": 0.1, "kl_8": 0.2,
    }  # fmt: skip
    way = [(4, 400.0, 3.0), (8, 800.0, 2.6), (16, 1600.0, 2.2)]
    rows = [base]
    for number, change in enumerate(changes or ({},)):
        mine = grown | {"run": f"grown{number}"} | change
        rows += [
            mine | {"stage": "trunk", "step": s, "tokens": t, "loss": x, "annealed": False} for s, t, x in way
        ]
        rows += [mine | {"step": 18, "tokens": 2000.0, "loss": 2.1}]
    return checked(pl.DataFrame(rows, infer_schema_length=None).drop(without or []), "the table")


def test_a_row_for_each_final_loss_with_its_setting() -> None:
    (row,) = outcomes(run_table()).iter_rows(named=True)
    assert row["candidate"] == "szp:shrink=0.4"
    assert (row["group"], row["tpp"], row["growth_factor"], row["loss"]) == (3, 5.0, 4.0, 2.1)
    assert row["base_tpp"] == 16.0, "what the base had seen, whatever its budget"
    assert row["deeper"] is False


def test_losses_at_lags_and_the_area_between_evaluations() -> None:
    (row,) = outcomes(run_table()).iter_rows(named=True)
    assert (row["loss_4"], row["loss_8"], row["kl_4"], row["kl_8"]) == (3.0, 2.6, 0.1, 0.2)
    assert row["area"] == pytest.approx((400 * (3.0 + 2.6) / 2 + 800 * (2.6 + 2.2) / 2) / 1200)


def test_a_run_without_a_trunk_is_watched_in_its_first_budget_s_stage() -> None:
    rows = run_table()
    longer = rows.filter(pl.col("stage") == "trunk").with_columns(
        stage=pl.lit("40tpp"), step=2 * pl.col("step"), tokens=2 * pl.col("tokens"), loss=pl.col("loss") - 1
    )
    first, both = outcomes(rows), outcomes(pl.concat([rows, longer]))
    assert both.select("loss_4", "loss_8", "area").equals(first.select("loss_4", "loss_8", "area"))
    once = outcomes(rows.filter(pl.col("annealed") | (pl.col("step") == 8)))
    assert (once["area"][0], once["loss_8"][0], once["loss_4"][0]) == (None, 2.6, None)


@pytest.mark.parametrize(
    ("change", "regime"),
    [
        ({}, DETERMINISTIC),
        ({"data_seed": 8}, STOCHASTIC),
        ({"dropout": 0.1}, STOCHASTIC),
        ({"dropout": 0.1, "data_seed": 8}, STOCHASTIC),
        ({"seed": 9}, DETERMINISTIC),
    ],
)
def test_a_run_is_deterministic_where_it_keeps_its_base_s_order_and_has_no_dropout(
    change: dict[str, Any], regime: str
) -> None:
    rows = outcomes(run_table(change))
    assert rows["regime"].to_list() == [regime]
    assert rows["group"].to_list() == [3], "the base's seed, not the run's"


def test_tables_that_name_dropout_only_where_runs_differ() -> None:
    told = run_table({}, {"arm": "tile", "dropout": 0.1}).with_columns(
        pl.col("dropout").cast(pl.String).alias("model.dropout")
    )
    found = outcomes(told.drop("dropout", "n_layers")).sort("candidate")
    assert found["regime"].to_list() == [DETERMINISTIC, STOCHASTIC]
    assert found["deeper"].to_list() == [None, None], "such a table does not say"


def test_runs_without_their_base_are_left_out_and_those_with_more_layers_are_told() -> None:
    found = outcomes(run_table({"n_layers": 3}, {"arm": "tile", "base": "gone"}))
    assert found["candidate"].to_list() == ["szp:shrink=0.4"]
    assert found["deeper"].to_list() == [True]


def test_a_part_of_a_study_finds_its_bases_in_the_whole() -> None:
    whole = run_table({}, {"arm": "tile"})
    part = outcomes(whole.filter(arm="tile"), bases=whole)
    assert part.equals(outcomes(whole).filter(candidate="tile"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: run_table(without="arm"), "has no column 'arm'"),
        (lambda: run_table({"data": "novels"}), "losses on other data do not compare"),
        (lambda: run_table({"base": "gone"}), "no final loss of a grown run with its base"),
        (lambda: run_table().filter(pl.col("run") == "base"), "no final loss of a grown run"),
        (lambda: run_table().filter(pl.col("stage") != "20tpp"), "no final loss of a grown run"),
        (lambda: run_table({"base_tokens": 0.0}), "a base that had seen no token"),
        (lambda: run_table({"lr": 0.1}, {"lr": 0.2}), "szp:shrink=0.4 was run more than once"),
    ],
    ids=["arm", "data", "base", "grown", "final", "untrained", "twice"],
)  # fmt: skip
def test_tables_of_no_study_are_refused_in_a_line(table: Callable[[], pl.DataFrame], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        outcomes(table())
    assert "\n" not in str(refused.value)


# Effects.


def test_each_candidate_s_terms_are_those_of_statsmodels() -> None:
    rows = noisy()
    found = Effects.fit(rows)
    data = select.against(rows, "loss", "zero_pad")
    assert found.candidates == ("zero_pad", *sorted({*NAMES} - {"zero_pad"}))
    for number, name in enumerate(found.candidates[1:], 1):
        mine = data.filter(candidate=name)
        x, y, groups = design(mine), mine["y"].to_numpy(), mine["group"].to_numpy()
        theirs = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": groups})
        np.testing.assert_allclose(found.coefficients[number], theirs.params, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.errors[number], theirs.bse, rtol=1e-9)
        plain = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
        moved = found.influence[:, number] / found.n_bases
        np.testing.assert_allclose(moved.sum(0), 0, atol=1e-14)
        np.testing.assert_allclose(moved.T @ moved, plain.cov_params(), rtol=1e-8, atol=1e-15)
    assert (found.n_bases, found.n_runs) == (5, 5 * len(CELLS) * len(NAMES))
    assert not found.coefficients[0].any()
    assert not found.residuals[:, 0].any()


def test_losses_without_noise_give_the_coefficients_back() -> None:
    truth = Truth.draw(rng())
    found = Effects.fit(simulated(truth, rng(1)))
    at = [NAMES.index(name) for name in found.candidates]
    wanted = truth.coefficients[at] - truth.coefficients[0]
    np.testing.assert_allclose(found.coefficients, wanted, atol=1e-12)
    assert np.abs(found.residuals).max() < 1e-12
    choice = choose(found, AT)
    assert choice.best == (wanted @ AT.features).argmin()
    assert choice.p_best[choice.best] == 1


STOCHASTIC_TERMS, BASE_TERMS = ("stochastic", "stochastic x budget"), ("base", "base x budget")


@pytest.mark.parametrize(
    ("cells", "untold"),
    [
        (CELLS[:1], {*STOCHASTIC_TERMS, *BASE_TERMS, "factor"}),
        (CELLS[:2], {*STOCHASTIC_TERMS, "factor"}),
        ((CELLS[0], CELLS[3]), {*BASE_TERMS, "factor"}),
        (  # it snaps
            [(DETERMINISTIC, 4.0, 16.0), (DETERMINISTIC, 4.0, 16.1)],
            {*STOCHASTIC_TERMS, *BASE_TERMS, "factor"},
        ),
        ([(DETERMINISTIC, 4.0, 16.0), (STOCHASTIC, 4.0, 64.0)], {*BASE_TERMS, "factor"}),  # the regime says it
    ],
)
def test_a_term_that_runs_do_not_tell_is_nought_without_an_error(cells: list[Cell], untold: set[str]) -> None:
    rows = simulated(Truth.draw(rng(), **NOISY), rng(1), cells=cells)
    found = Effects.fit(rows)
    missing = [term in untold for term in TERMS]
    assert (np.isnan(found.errors) == missing).all()
    assert not found.coefficients[:, missing].any()
    assert not found.influence[:, :, missing].any()
    assert np.isfinite(covariance(found)).all()


def test_what_candidates_share_changes_nothing() -> None:
    rows = noisy()
    units = rows.select(UNIT).unique(maintain_order=True)
    shift = units.with_columns(shift=pl.Series(rng(5).normal(0, 1, units.height)))
    shifted = rows.join(shift, on=UNIT, maintain_order="left").with_columns(pl.col("loss") + pl.col("shift"))
    assert not np.allclose(shifted["loss"], rows["loss"])
    one, two = Effects.fit(rows), Effects.fit(shifted)
    for name in ("coefficients", "influence", "errors", "residuals"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-9)


def test_another_reference_shifts_every_effect_and_changes_no_choice() -> None:
    """Differences between candidates are the same to rounding; P(best) is, to the noise of its draws."""
    rows = noisy(3)
    one, two = Effects.fit(rows), Effects.fit(rows, reference="tile")
    of_one = one.of(two.candidates)
    apart = two.coefficients - of_one.coefficients
    np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-12)
    assert np.abs(apart).max() > 1e-3
    ours, theirs = choose(of_one, AT), choose(two, AT)
    error = np.sqrt(ours.p_best * (1 - ours.p_best) * 2 / select.DRAWS)
    assert (np.abs(ours.p_best - theirs.p_best) <= 4 * error + 2e-3).all()
    np.testing.assert_allclose(ours.effect, theirs.effect, atol=1e-3)
    assert ours.candidates[ours.best] == theirs.candidates[theirs.best]


def test_in_a_study_of_one_setting_a_new_base_varies_as_bases_do() -> None:
    """Then noise is the sample covariance of the bases' effects, and doubt that of their mean."""
    rows = simulated(Truth.draw(rng(), **NOISY), rng(1), cells=CELLS[:1], budgets=(10.0,))
    found = Effects.fit(rows)
    wide = rows.pivot(on="candidate", index="group", values="loss").select(found.candidates).to_numpy()
    effects = wide - wide[:, :1]
    np.testing.assert_allclose(found.expected(AT), effects.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.noise, np.cov(effects.T), atol=1e-12)
    np.testing.assert_allclose(found.doubt(AT), np.cov(effects.T) / 5, atol=1e-12)


def test_what_the_model_misses_makes_a_new_run_uncertain() -> None:
    """A curve in the budget that no term follows: bases agree on it, and it counts all the same."""
    rows = simulated(Truth.draw(rng()), rng(1), budgets=(5.0, 10.0, 20.0))
    bent = pl.when(pl.col("candidate") == "tile", pl.col("tpp") == 10).then(0.03).otherwise(0.0)
    found = Effects.fit(rows.with_columns(pl.col("loss") + bent))
    tile = found.candidates.index("tile")
    assert np.abs(found.influence).max() < 1e-12
    deviation = np.sqrt(found.noise.diagonal())
    assert deviation[tile] == pytest.approx(0.03 * math.sqrt(2) / 3, rel=0.2)
    assert np.delete(deviation, tile).max() < 1e-9


def test_candidates_need_not_have_run_alike() -> None:
    """One ran at a single setting: its noise is told by the units where all ran, and files keep the gaps."""
    rows = noisy()
    some = rows.filter((pl.col("candidate") != "split") | (pl.col("growth_factor") == 3))
    found = Effects.fit(some)
    split = found.candidates.index("split")
    assert np.isnan(found.residuals[:, split]).sum() == 5 * 3 * len(BUDGETS)
    assert np.isfinite(covariance(found)).all()
    again = Effects.from_data(json.loads(json.dumps(found.to_data())))
    np.testing.assert_allclose(again.residuals, found.residuals, rtol=1e-9)
    whole = found.of([name for name in found.candidates if name != "split"])
    np.testing.assert_allclose(covariance(whole), covariance(Effects.fit(rows).of(whole.candidates)), rtol=1e-9)


def without(candidate: str, base: pl.Expr) -> pl.Expr:
    return (pl.col("candidate") != candidate) | ~base


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (pl.col("candidate") != "zero_pad", "no run of zero_pad"),
        (pl.col("group") < 2, "2 bases of zero_pad tell no interval: grow from 3 seeds or more"),
        (without("tile", pl.col("group") > 0), "1 bases of tile tell no interval"),
        (pl.struct("group", "growth_factor", "base_tpp", "regime", "tpp").is_in([
            {"group": g, "growth_factor": c[1], "base_tpp": c[2], "regime": c[0], "tpp": 5.0}
            for g, c in enumerate((CELLS[0], CELLS[1], CELLS[3]))]), "3 runs of zero_pad cannot tell 3 terms"),
    ],
    ids=["reference", "bases", "one candidate's bases", "terms"],
)  # fmt: skip
def test_studies_that_cannot_tell_are_refused(kept: pl.Expr, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Effects.fit(noisy().filter(kept))


def test_candidates_that_no_bases_share_are_refused_together() -> None:
    rows = simulated(Truth.draw(rng(), **NOISY), rng(1), bases=range(6))
    apart = rows.filter(without("tile", pl.col("group") < 3), without("split", pl.col("group") >= 3))
    found = Effects.fit(apart)
    assert np.isfinite(covariance(found.of(["zero_pad", "tile"]))).all()
    with pytest.raises(InputError, match="fewer than 3 bases were grown by all of tile, split: name fewer"):
        _ = found.of(["tile", "split"]).noise


# The draws of a new run.


def test_with_many_bases_a_new_run_varies_as_theirs() -> None:
    """About the mean of the bases' effects, with their sample covariance times 1 + 1 / G."""
    C, G = 4, 400
    effects = np.array([1.0, -2.0, 3.0, 0.0]) + rng(1).standard_normal((G, C)) @ unequal(rng(2), C).T
    cov, expected = np.cov(effects.T), effects.mean(0)
    draws = predictive(expected, cov, cov / G, G, 50_000, rng(3))
    blind = np.eye(C) - 1 / C
    np.testing.assert_allclose(draws.mean(0), expected - expected.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), blind @ cov @ blind * (1 + 1 / G), atol=0.04 * cov.max())


def test_the_t_is_a_normal_whose_covariance_is_not_known() -> None:
    """Drawn the long way: a covariance from its inverse-Wishart posterior, then a normal of it."""
    G, p = 5, 3
    found = np.diag([1.0, 2.0, 4.0])
    posterior = stats.invwishart(p + 2 + G - 1, np.eye(p) * 7 / 3 + (G - 1) * found)
    sigma = posterior.rvs(40_000, random_state=rng(1))
    normal = np.einsum("nij,nj->ni", np.linalg.cholesky(sigma), rng(2).standard_normal((40_000, p)))
    contrasts = select._contrasts(p + 1)
    noise, sure = contrasts.T @ found @ contrasts, np.zeros((p + 1, p + 1))
    drawn = predictive(np.zeros(p + 1), noise, sure, G, 40_000, rng(3)) @ contrasts.T
    levels = [0.01, 0.1, 0.25, 0.75, 0.9, 0.99]
    np.testing.assert_allclose(np.quantile(drawn, levels, 0), np.quantile(normal, levels, 0), rtol=0.06)


@pytest.mark.parametrize("far", [0.3, 1.0, 2.0, 5.0])
def test_effects_within_doubt_are_drawn_together(far: float) -> None:
    """Two candidates `far` standard errors apart, against the posterior mean by quadrature over w."""
    w = np.linspace(1e-6, 1, 100_001)
    density = np.sqrt(w) * np.exp(-w * far**2 / 2)
    kept = 1 - np.trapezoid(w * density, w) / np.trapezoid(density, w)
    doubt = np.eye(2) / 2  # of a difference 1
    draws = predictive(np.array([0.0, far]), np.zeros((2, 2)), doubt, 10**6, 40_000, rng())
    assert (draws[:, 1] - draws[:, 0]).mean() == pytest.approx(kept * far, abs=0.02)
    elsewhere = np.array([5.0, 1.0])
    moved = predictive(np.array([0.0, far]) + elsewhere, np.zeros((2, 2)), doubt, 10**6, 1000, rng(), elsewhere)
    still = predictive(np.array([0.0, far]), np.zeros((2, 2)), doubt, 10**6, 1000, rng())
    np.testing.assert_allclose(moved - (elsewhere - elsewhere.mean()), still, atol=1e-9)


def test_effects_beyond_doubt_stay() -> None:
    expected, doubt = np.array([0.0, 1.0, -3.0]), 1e-4 * np.eye(3)
    draws = predictive(expected, 1e-4 * np.eye(3), doubt, 5, 20_000, rng())
    np.testing.assert_allclose(draws.mean(0), expected - expected.mean(), atol=2e-3)


@pytest.mark.parametrize("C", [1, 2, 9])
def test_few_bases_still_tell_something(C: int) -> None:
    """Of fewer bases than candidates the sample covariance is singular; without any scatter the draws are sure."""
    effects = rng(C).standard_normal((3, C))
    cov, nought = np.cov(effects.T).reshape(C, C), np.zeros((C, C))
    draws = predictive(effects.mean(0), cov, cov / 3, 3, 2000, rng())
    assert draws.shape == (2000, C)
    assert np.isfinite(draws).all()
    if C > 1:
        assert np.linalg.matrix_rank(np.cov(draws.T)) == C - 1
    sure = predictive(effects.mean(0), nought, nought, 3, 100, rng())
    np.testing.assert_allclose(sure, np.tile(effects.mean(0) - effects.mean(), (100, 1)), atol=1e-5)


def test_draws_know_nothing_of_what_candidates_share() -> None:
    expected, noise, doubt = np.array([0.0, 0.1, 0.3]), np.diag([1.0, 2.0, 3.0]), np.diag([0.3, 0.2, 0.1])
    shared = np.array([1.0, 0.5, 0.2])
    common = shared[:, None] + shared[None]  # of a term that every candidate has
    one = predictive(expected, noise, doubt, 5, 1000, rng(4))
    two = predictive(expected + 7, noise + common, doubt + common, 5, 1000, rng(4), alike=0.0)
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_a_pool_of_one_is_no_choice() -> None:
    choice = choose(Effects.fit(noisy()).of(["tile"]), AT)
    assert (choice.candidates, choice.best) == (("tile",), 0)
    assert (choice.p_best[0], choice.regret[0]) == (1, 0)


def test_a_choice_counts_its_draws() -> None:
    draws = np.array([[1.0, 2.0, 4.0], [2.0, 1.0, 4.0], [0.0, 3.0, 1.0], [5.0, 6.0, 9.0]])
    choice = Choice.of(("a", "b", "c"), draws + np.array([[0.0], [10.0], [-3.0], [2.0]]))
    assert choice.p_best.tolist() == [0.75, 0.25, 0]
    assert choice.regret.tolist() == [0.25, 1.25, 2.75]
    assert choice.best == 0
    assert choice.effect.sum() == pytest.approx(0)


# Is it calibrated? Studies of five bases are simulated, and a sixth base is chosen for.


STD = 0.02  # of what a run scatters by, nats
SCATTER = {
    "bases": {"by_base": STD},
    "runs": {"by_run": STD / 2**0.5, "by_loss": STD / 2**0.5},
    "both": {"by_base": STD / 3**0.5, "by_run": STD / 3**0.5, "by_loss": STD / 3**0.5},
}
Decide = Callable[[pl.DataFrame, Setting, dict[str, float]], Choice]


def by_study(rows: pl.DataFrame, at: Setting, losses: dict[str, float]) -> Choice:
    return choose(Effects.fit(rows), at)


def by_study_and_probe(rows: pl.DataFrame, at: Setting, losses: dict[str, float]) -> Choice:
    link = ProbeLink.fit(rows, LAG)
    names = link.probe.candidates
    return link.choose(names, at, np.array([losses[name] for name in names]))


def by_bases_alone(rows: pl.DataFrame, at: Setting, losses: dict[str, float]) -> Choice:
    """The control: as if one run scattered no more than the mean over a base's runs."""
    found = Effects.fit(rows)
    doubt, G = found.doubt(at), found.n_bases
    draws = predictive(found.expected(at), G * doubt, doubt, G, select.DRAWS, rng())
    return Choice.of(found.candidates, draws)


class Judged(NamedTuple):
    """Of every study what was stated of the chosen candidate, and what became of it."""

    p: FloatArray
    hit: FloatArray
    stated: FloatArray
    regret: FloatArray


def judged(decide: Decide, studies: int, spread: float, cells: Sequence[Cell] = CELLS, **scatter: float) -> Judged:
    """Every other study has candidates that vary unequally and not independently."""
    found = []
    for seed in range(studies):
        draw = rng(seed)
        rows = simulated(Truth.draw(draw, spread, alike=seed % 2 == 0, **scatter), draw, range(6), cells)
        cell, tpp = cells[draw.integers(len(cells))], BUDGETS[draw.integers(len(BUDGETS))]
        at = Setting(cell[0] == STOCHASTIC, tpp, cell[2], cell[1])
        choice = decide(rows.filter(pl.col("group") < 5), at, of_base(rows, 5, cell, tpp, f"loss_{LAG}"))
        truth = np.array([of_base(rows, 5, cell, tpp)[name] for name in choice.candidates])
        least, took = truth.min(), truth[choice.best]
        found.append((choice.p_best[choice.best], took == least, choice.regret[choice.best], took - least))
    return Judged(*np.array(found).T)


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each of many studies."""
    for module in (select, probed):
        monkeypatch.setattr(module, "DRAWS", 1000)


@pytest.mark.usefixtures("fewer_draws")
@pytest.mark.parametrize("scatter", SCATTER)
def test_p_best_and_regret_are_calibrated(scatter: str) -> None:
    """P(best) of what is chosen is how often it is the best, among the sure and the unsure; regret alike."""
    found = judged(by_study, 100, 2 * STD, **SCATTER[scatter])
    assert found.p.mean() == pytest.approx(found.hit.mean(), abs=0.09)
    assert found.stated.mean() == pytest.approx(found.regret.mean(), rel=0.25)
    sure = found.p > np.median(found.p)
    for some in (sure, ~sure):
        assert found.p[some].mean() == pytest.approx(found.hit[some].mean(), abs=0.12)
    assert found.hit[sure].mean() > found.hit[~sure].mean() + 0.2, "it knows when it knows"


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
@pytest.mark.parametrize("scatter", SCATTER)
@pytest.mark.parametrize(("spread", "within"), [(STD / 2, 0.11), (STD, 0.08), (2 * STD, 0.05), (4 * STD, 0.05)])
def test_over_many_studies_p_best_is_a_little_too_high_only_where_effects_drown(
    scatter: str, spread: float, within: float
) -> None:
    """spread: the standard deviation of effects, against a run's STD. Numbers are printed, for docs/select.md."""
    found = judged(by_study, 600, spread, **SCATTER[scatter])
    print(f"{scatter} {spread / STD:g}: " + ", ".join(f"{each.mean():.4f}" for each in found))
    assert -0.05 < found.p.mean() - found.hit.mean() < within
    assert 0.65 < found.stated.mean() / found.regret.mean() < 1.25


@pytest.mark.usefixtures("fewer_draws")
def test_bases_alone_would_be_too_sure() -> None:
    """Where runs scatter by themselves, the spread of bases, which averages over runs, is that of no new run."""
    wide = [(DETERMINISTIC, 4.0, base) for base in (8.0, 16.0, 32.0, 64.0, 128.0)]
    control, ours = (judged(rule, 50, STD, wide, by_loss=STD) for rule in (by_bases_alone, by_study))
    assert control.p.mean() > control.hit.mean() + 0.08
    assert control.stated.mean() < 0.6 * control.regret.mean()
    assert ours.p.mean() == pytest.approx(ours.hit.mean(), abs=0.09)
    assert ours.stated.mean() == pytest.approx(ours.regret.mean(), rel=0.25)


@pytest.mark.usefixtures("fewer_draws")
def test_among_equals_it_is_hardly_surer_than_a_lot() -> None:
    """No candidate is better, and in a study of few bases one looks so."""
    found = judged(by_study, 80, 0.0, **SCATTER["both"])
    assert found.p.mean() < 2 / len(NAMES)
    assert found.hit.mean() == pytest.approx(1 / len(NAMES), abs=0.1)
    assert found.stated.mean() == pytest.approx(found.regret.mean(), rel=0.25)


# What a probe adds.


PROBE = {"probe_base": 0.02, "probe_run": 0.02}


def test_the_slope_is_that_of_statsmodels_with_every_effect_beside_it() -> None:
    """Frisch, Waugh and Lovell: least squares with a constant for each unit and the terms of each candidate."""
    rows = noisy(slope=0.5, **PROBE)
    link = ProbeLink.fit(rows, LAG)
    units = rows.select(pl.struct(UNIT).rank("dense")).to_series().to_numpy()
    candidates, x = rows["candidate"].to_numpy(), design(rows)
    columns = [rows[f"loss_{LAG}"].to_numpy()]
    columns += [(units == unit).astype(float) for unit in np.unique(units)]
    columns += [np.where(candidates == name, term, 0.0) for name in NAMES[1:] for term in x.T]
    theirs = sm.OLS(rows["loss"].to_numpy(), np.stack(columns, 1)).fit()
    assert link.slope == pytest.approx(theirs.params[0], rel=1e-9)
    assert (link.lag, link.n_bases) == (LAG, 5)


def test_slopes_foretell_what_they_are() -> None:
    """The interval holds the true slope in about 95 % of studies, and the mean of slopes is the true one."""
    within = stats.t.ppf(0.975, 4)
    for slope in (0.0, 0.6):
        told = [noisy(seed, slope=slope, spread=0.04, alike=seed % 2 == 0, **PROBE) for seed in range(40)]
        links = [ProbeLink.fit(rows, LAG) for rows in told]
        held = [abs(link.slope - slope) <= within * link.error for link in links]
        assert 0.87 <= np.mean(held) <= 1
        slopes = np.array([link.slope for link in links])
        assert slopes.mean() == pytest.approx(slope, abs=3 * slopes.std() / len(slopes) ** 0.5)


@pytest.mark.usefixtures("fewer_draws")
def test_a_probe_that_foretells_makes_the_choice_surer_and_as_calibrated() -> None:
    told = {"slope": 1.0, "by_run": STD / 2, "by_loss": STD / 2, "probe_base": STD, "probe_run": STD}
    with_probe, alone = (judged(rule, 60, STD, **told) for rule in (by_study_and_probe, by_study))
    assert with_probe.p.mean() > alone.p.mean() + 0.15
    assert with_probe.p.mean() == pytest.approx(with_probe.hit.mean(), abs=0.09)
    assert with_probe.hit.mean() > alone.hit.mean() + 0.15
    assert with_probe.regret.mean() < alone.regret.mean() / 2
    assert with_probe.stated.mean() == pytest.approx(with_probe.regret.mean(), rel=0.35)


@pytest.mark.usefixtures("fewer_draws")
def test_a_probe_that_foretells_nothing_changes_little() -> None:
    told = SCATTER["both"] | {"probe_base": STD, "probe_run": STD}
    with_probe, alone = (judged(rule, 40, 2 * STD, **told) for rule in (by_study_and_probe, by_study))
    assert with_probe.p.mean() == pytest.approx(alone.p.mean(), abs=0.03)
    assert with_probe.p.mean() == pytest.approx(with_probe.hit.mean(), abs=0.1)
    assert with_probe.regret.mean() == pytest.approx(alone.regret.mean(), rel=0.3)


def test_only_differences_between_probe_losses_count() -> None:
    link = ProbeLink.fit(noisy(slope=0.5, **PROBE), LAG)
    names = link.probe.candidates
    losses = 3 + rng(1).normal(0, 0.02, len(names))
    one, two = (link.choose(names, AT, losses + shift) for shift in (0.0, 5.0))
    np.testing.assert_allclose(one.regret, two.regret, atol=1e-9)
    np.testing.assert_array_equal(one.p_best, two.p_best)
    moved = link.choose(names, AT, losses - 0.1 * (np.arange(len(names)) == 2))
    assert moved.p_best[2] > one.p_best[2] + 0.05, "the control: one of them better"
    some = names[1:4]
    assert link.choose(some, AT, losses[1:4]).candidates == some


def test_a_probe_without_surprise_leaves_the_study_s_choice() -> None:
    """Probe losses just as expected: the same effects as without a probe, and surer."""
    rows = noisy(slope=0.8, spread=0.3, **PROBE)
    selection = Selection.fit(rows)
    names = {name: name for name in selection.effects.candidates}
    usual = selection.links[LAG].probe.expected(AT)
    told, alone = (selection.choose(names, AT, losses, LAG, 0.95) for losses in (list(usual), None))
    np.testing.assert_allclose(told.effect, alone.effect, atol=1e-3)
    assert (told.high - told.low).mean() < (alone.high - alone.low).mean()


@pytest.mark.parametrize(
    ("slope", "error", "share"),
    [(0.5, 0.0, 1), (0.5, 0.25, 0.75), (-0.5, 0.25, 0.75), (0.2, 0.2, 0), (0.1, 0.3, 0), (0, 0, 0)],
)
def test_a_slope_is_trusted_as_far_as_it_stands_out(slope: float, error: float, share: float) -> None:
    assert probed.trust(slope, error) == pytest.approx(share)


def test_a_slope_that_may_be_chance_leaves_the_study_s_choice() -> None:
    studies = [noisy(seed, **PROBE) for seed in range(9)]
    rows, link = next((rows, link) for rows in studies if not (link := ProbeLink.fit(rows, LAG)).trust)
    names = link.probe.candidates
    found = link.choose(names, AT, 3 + rng(1).normal(0, 0.1, len(names)))
    np.testing.assert_allclose(found.p_best, choose(Effects.fit(rows), AT).p_best, atol=1e-12)


def test_a_probe_s_loss_counts_once_and_final_losses_always() -> None:
    """Probe losses are the same at every budget of a run. Final ones of candidates may be alike, bit for bit."""
    rows = noisy(**PROBE)
    probe, final = Effects.fit(rows, f"loss_{LAG}"), Effects.fit(rows)
    assert len(final.residuals) == len(BUDGETS) * len(probe.residuals)
    twins = rows.with_columns(loss=pl.col("loss").first().over(UNIT))
    assert len(Effects.fit(twins).residuals) == len(final.residuals)


def test_a_probe_that_never_varies_tells_nothing() -> None:
    rows = noisy().with_columns(pl.lit(3.0).alias(f"loss_{LAG}"))
    link = ProbeLink.fit(rows, LAG)
    assert (link.slope, link.error) == (0, 0)


# A study on disk.


def studied(**changes: Any) -> Selection:
    return Selection.fit(noisy(slope=0.5, **PROBE | changes))


def test_a_study_comes_back_from_its_file(tmp_path: Path) -> None:
    first, path = studied(), tmp_path / "study.json"
    write_selection(first, path)
    found = read_selection(path)
    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert (found.regimes, found.deeper, [*found.links]) == ((DETERMINISTIC, STOCHASTIC), False, [LAG])
    assert found.effects.candidates == first.effects.candidates
    for one, two in ((first.effects, found.effects), (first.links[LAG].rest, found.links[LAG].rest)):
        for name in ("coefficients", "influence", "errors", "residuals"):
            np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-9)
        assert (two.domain, two.n_runs, two.bases) == (one.domain, one.n_runs, one.bases)
    names = {name: name for name in first.effects.candidates}
    losses = list(3 + rng(2).normal(0, 0.02, len(names)))
    one, two = (each.choose(names, AT, losses, LAG, 0.9) for each in (first, found))
    np.testing.assert_allclose(two.regret, one.regret, rtol=1e-6)
    write_selection(found, tmp_path / "again.json")
    assert path.read_bytes() == (tmp_path / "again.json").read_bytes(), "digits are kept from then on"


def test_untold_terms_come_back_from_a_file(tmp_path: Path) -> None:
    rows = simulated(Truth.draw(rng(), **NOISY), rng(1), cells=CELLS[:1])
    write_selection(Selection.fit(rows), tmp_path / "study.json")
    found = read_selection(tmp_path / "study.json")
    assert np.isnan(found.effects.errors[1]).sum() == len({*STOCHASTIC_TERMS, *BASE_TERMS, "factor"})
    assert found.regimes == (DETERMINISTIC,)


def spoilt(data: Any) -> list[Any]:
    """The same plain data with one part after another missing, of another kind or out of range."""
    wrong: list[Any] = [None, "x", [], {}, -1, math.inf, [[]], {"x": 1}]
    if isinstance(data, dict):
        cut = [{key: value for key, value in data.items() if key != name} for name in data]
        return cut + [data | {name: bad} for name, value in data.items() for bad in wrong + spoilt(value)]
    if isinstance(data, list) and data:
        return [data[1:], *([bad, *data[1:]] for bad in (None, "x", math.inf))]
    return []


def test_damaged_studies_are_refused_in_a_line(tmp_path: Path) -> None:
    """Whatever is wrong with a file, it is refused, or it is one that can be chosen by."""
    path = tmp_path / "study.json"
    write_selection(studied(), path)
    whole = json.loads(path.read_text())
    refused = []
    for bad in spoilt(whole):
        path.write_text(json.dumps(bad))
        try:
            found = read_selection(path)
        except InputError as error:
            refused.append(str(error))
        else:
            found.choose({"tile": "tile", "split": "split"}, AT, [3.0, 3.1], LAG, 0.95)
            found.times_outside(AT, N)
    assert len(refused) > 150
    assert all(line.endswith("make one with 'scalegrow select --runs TABLE --out FILE'.") for line in refused)
    assert not any("\n" in line for line in refused)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), ("[]", "is not of schema"), ('{"schema": "scalegrow-fit/1"}', "is not of schema")],
)
def test_other_files_are_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_selection(path)
    with pytest.raises(InputError, match="cannot be opened"):
        read_selection(tmp_path / "gone.json")


def test_probes_of_a_lag_that_the_study_did_not_watch_tell_nothing() -> None:
    selection = studied()
    names = {"mine": "tile", "other": "split"}
    alone, other, told = (
        selection.choose(names, AT, losses, lag, 0.95)
        for losses, lag in ((None, LAG), ([2.0, 3.0], 8), ([2.0, 3.0], LAG))
    )
    assert alone.candidates == ("mine", "other")
    np.testing.assert_array_equal(alone.p_best, other.p_best)
    assert told.p_best[0] > alone.p_best[0]


def test_a_lag_that_some_runs_did_not_reach_has_no_link() -> None:
    rows = noisy(slope=0.5, **PROBE)
    later = rows.with_columns(
        pl.lit(0.1).alias("kl_128"),
        pl.when(pl.col("growth_factor") == 4).then(pl.col(f"loss_{LAG}")).alias("loss_128"),
    )
    assert [*Selection.fit(later).links] == [LAG]


def test_how_far_a_question_lies_outside() -> None:
    selection = studied()
    assert selection.times_outside(AT, N) == {"N": 1, "tpp": 1, "g": 1, "base_tpp": 1}
    far = selection.times_outside(Setting(True, 40.0, 8.0, 6.0), 10 * N)
    assert far == pytest.approx({"N": 10, "tpp": 2, "g": 1.5, "base_tpp": 0.5})


def test_a_swept_study_is_fitted_from_its_table(tmp_path: Path) -> None:
    """Three bases, two warm starts of each: the table says all that a selection needs."""
    study = tiny_study(more="seeds = [0, 1, 2]\n").replace("log_every = 4", "log_every = 4\nevaluation.lags = [4]")
    assert not swept(study, tmp_path).failed
    found = table(tmp_path)
    assert (found["dropout"] == 0).all()
    rows = outcomes(found)
    assert rows["regime"].unique().to_list() == [DETERMINISTIC]
    assert rows["deeper"].to_list() == [False] * 6
    assert rows["base_tpp"].to_list() == pytest.approx((rows["base_tokens"] / rows["base_params"]).to_list())
    assert (rows["base_tpp"] < rows["base_budget"]).all(), "grown before the cool-down"
    early = found.filter(~pl.col("annealed"), step=4).select("run", "loss")
    assert rows.join(early, on="run").select((pl.col("loss_4") == pl.col("loss_right")).all()).item()
    selection = Selection.fit(rows)
    assert selection.effects.candidates == ("zero_pad", "szp")
    assert ([*selection.links], selection.regimes, selection.effects.n_bases) == ([4], (DETERMINISTIC,), 3)
    at = Setting(False, *rows.select("tpp", "base_tpp", "growth_factor").row(0))
    choice = selection.choose({"szp": "szp", "zero_pad": "zero_pad"}, at, None, 4, 0.95)
    assert choice.p_best.sum() == pytest.approx(1)


# Widths.


DECODERS = {
    "tied": TINY,
    "untied": replace(TINY, tied=False),
    "layernorm": replace(TINY, norm="layernorm", positions="learned", mlp="gelu"),
}
NETWORK = MLPShape(12, 3, 4, 2)
TARGETS: list[tuple[Any, Any]] = [
    *((base, widened_shape(base, ratio)) for base in DECODERS.values() for ratio in (2, 3, 1.5, 2.5)),
    *((base, replace(base, d_ff=50)) for base in DECODERS.values()),
    *((NETWORK, replace(NETWORK, width=width)) for width in (24, 18, 13)),
    *(
        (base, replace(widened_shape(base, ratio), n_layers=4))
        for base in DECODERS.values()
        for ratio in (1, 2, 1.5)
    ),
]


@pytest.mark.parametrize("name", OPERATORS)
def test_widths_are_allowed_where_an_operator_can_be_planned(name: str) -> None:
    for base, target in TARGETS:
        try:
            plan(base, target, name)
        except InputError:
            assert not widens(name, base, target), (base, target)
        else:
            assert widens(name, base, target), (base, target)
