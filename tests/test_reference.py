"""The reference study's statistics: simulated studies give back what they were made of, and intervals cover it."""

import sys
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from scripts import ANALYSES, analysis

TPP = (5, 10, 20, 40)
NOISE = 0.01
FACTORS = (1.5, 2.0, 3.0, 4.0, 8.0)


@pytest.fixture(autouse=True)
def _scripts_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ANALYSES), *sys.path])


@pytest.fixture(name="reference")
def _reference() -> ModuleType:
    return analysis("reference")


def effect(g: float, tpp: float) -> float:
    """A Delta that is least at g = 2, meets scratch at g = 4, and fades with the budget; 0 from 40 tpp."""
    x = np.log(g)
    return float(
        (x - np.log(1.0)) * (x - np.log(4.0)) / np.log(2.0) ** 2 * 0.05 * (1 - np.log(tpp / 5) / np.log(8))
    )


def study(rng: np.random.Generator, noise: float = NOISE, seeds: int = 3) -> pl.DataFrame:
    """Annealed rows of one size: scratch at two learning rates, the first one best, and SZP at every factor."""
    arms = [("scratch", 1.0, 0.005), ("scratch", 1.0, 0.01), *(("szp:shrink=0.4", g, 0.005) for g in FACTORS)]
    rows = []
    for arm, g, lr in arms:
        for seed in range(seeds):
            shock = rng.normal()  # of a run, shared by its budgets
            for tpp in TPP:
                mean = 2 - 0.1 * np.log(tpp) + (0.05 if lr > 0.005 else 0) + (effect(g, tpp) if g > 1 else 0)
                rows.append(
                    {
                        "run": f"{arm} {g} {lr} {seed}",
                        "operator": arm.partition(":")[0],
                        "arm": arm,
                        "factor": g,
                        "growth_factor": g,
                        "growth_factor_non_embedding": g,
                        "growth_factor_width": g,
                        "base_budget": 20.0 if g > 1 else None,
                        "base_params": 1e5 / g,
                        "base_tokens": 2e6 / g,
                        "n_params": 1e5,
                        "tokens": tpp * 1e5,
                        "budget": tpp,
                        "lr": lr,
                        "loss": mean + noise * (shock + rng.normal()) / np.sqrt(2),
                        "zero_step_kl": g,
                    }
                )
    return pl.DataFrame(rows, infer_schema_length=None)


def test_without_noise_delta_is_the_effect(reference: ModuleType) -> None:
    found = reference.gains(reference.cells(study(np.random.default_rng(0), noise=1e-9)))
    assert found.height == len(FACTORS) * len(TPP)
    for row in found.iter_rows(named=True):
        assert row["difference"] == pytest.approx(effect(row["factor"], row["budget"]), abs=1e-7)
        assert row["low"] <= row["difference"] <= row["high"]


def test_the_pooled_deviation_is_that_of_single_runs_of_a_kind(reference: ModuleType) -> None:
    rows = study(np.random.default_rng(0))
    found = reference.cells(rows).filter(budget=5)
    for kind, cells in ((pl.col("arm") == "scratch", 2), (pl.col("arm") != "scratch", len(FACTORS))):
        by_hand = rows.filter(kind, budget=5).group_by("arm", "factor", "lr").agg(pl.col("loss").var(), pl.len())
        pooled = np.sqrt((by_hand["loss"] * (by_hand["len"] - 1)).sum() / (by_hand["len"] - 1).sum())
        assert found.filter(kind)["s"].to_numpy() == pytest.approx(pooled)
        assert set(found.filter(kind)["df"]) == {2 * cells}


def test_intervals_of_delta_cover_it(reference: ModuleType) -> None:
    """95 % of intervals at the transferred rate hold the truth; and a control that pretends 40 runs misses it."""
    rng = np.random.default_rng(1)
    held, pretended = [], []
    for _ in range(150):
        found = reference.gains(reference.cells(study(rng)), tuned=False)
        truth = [effect(g, tpp) for g, tpp in zip(found["factor"], found["budget"], strict=True)]
        held += list((found["low"] <= pl.Series(truth)) & (pl.Series(truth) <= found["high"]))
        half = (found["high"] - found["low"]) / 2 * np.sqrt(3 / 40)
        pretended += list((found["difference"] - pl.Series(truth)).abs() <= half)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean(pretended) < 0.6


def test_the_best_rate_is_chosen_for_scratch_and_no_other(reference: ModuleType) -> None:
    found = reference.cells(study(np.random.default_rng(2)))
    assert set(reference.scratch(found)["lr"]) == {0.005}
    worse = found.with_columns(loss=pl.col("loss") - pl.when(pl.col("lr") > 0.005).then(0.2).otherwise(0.0))
    assert set(reference.scratch(worse)["lr"]) == {0.01}
    assert set(reference.scratch(worse, tuned=False)["lr"]) == {0.005}


def test_the_bound_on_the_factor_is_found_and_covered(reference: ModuleType) -> None:
    script = analysis("growth_bound")
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(60):
        found = reference.gains(reference.cells(study(rng)), tuned=False).filter(budget=5).sort("growth_factor")
        answer = script.bound(found, rng)
        covered.append(answer["g_upper_low"] <= 4.0 <= answer["g_upper_high"])
    assert np.mean(covered) >= 0.85
    quiet = (
        reference.gains(reference.cells(study(rng, noise=1e-6)), tuned=False)
        .filter(budget=5)
        .sort("growth_factor")
    )
    answer = script.bound(quiet, rng)
    assert answer["g_upper_middle"] == pytest.approx(4.0, rel=0.02)
    assert answer["g_opt_middle"] == pytest.approx(2.0, rel=0.02)


def test_growing_that_never_wins_has_no_bound(reference: ModuleType) -> None:
    script = analysis("growth_bound")
    rows = study(np.random.default_rng(4), noise=1e-4)
    worse = rows.with_columns(loss=pl.col("loss") + pl.when(pl.col("factor") > 1).then(1.0).otherwise(0.0))
    found = reference.gains(reference.cells(worse), tuned=False).filter(budget=5).sort("growth_factor")
    answer = script.bound(found, np.random.default_rng(0))
    assert answer["g_upper_high"] == 0.0
    beyond = worse.with_columns(loss=pl.col("loss") - pl.when(pl.col("factor") > 1).then(2.0).otherwise(0.0))
    found = reference.gains(reference.cells(beyond), tuned=False).filter(budget=5).sort("growth_factor")
    assert script.bound(found, np.random.default_rng(0))["g_upper_low"] == np.inf


def test_the_slope_and_break_even_come_from_runs_not_rows() -> None:
    script = analysis("gain_by_budget")
    rng = np.random.default_rng(5)
    slopes, covered = [], []
    for _ in range(60):
        by_run = script.lines(study(rng).filter(pl.col("lr") == 0.005))
        runs = {key: part.select("level", "slope").to_numpy() for key, part in by_run.group_by("factor")}
        draws = script.drawn([(runs[(2.0,)], runs[(1.0,)])], rng)
        slopes.append(draws[0, 1])
        low, high = np.quantile(draws[1:, 1], [0.025, 0.975])
        covered.append(low <= -effect(2.0, 5) / 3 <= high)
    assert np.mean(slopes) == pytest.approx(-effect(2.0, 5) / 3, rel=0.1)
    assert np.mean(covered) >= 0.88
    level, slope = np.array([-0.02, -0.02, 0.02]), np.array([0.01, -0.01, -0.01])
    assert list(script.break_even(level, slope)) == [pytest.approx(2 ** (script.MIDDLE + 2)), np.inf, 0.0]


def test_the_crossing_is_the_first_and_needs_a_win() -> None:
    crossing = analysis("growth_bound").crossing
    x = np.linspace(0, 2, 201)
    curves = np.stack([np.cos(np.pi * (x + 0.5)), x + 1, -np.ones_like(x)])
    first, none, always = crossing(x, curves)
    assert first == pytest.approx(1.0, abs=0.02)
    assert none == -np.inf
    assert always == np.inf


def test_a_paid_base_costs_what_its_tokens_would_have_taught(reference: ModuleType) -> None:
    """Scratch falls by 0.1 a ln(D): charged for a share s, Delta rises by 0.1 ln(1 + s N_b D_b / (N D))."""
    script = analysis("base_cost")
    rows = study(np.random.default_rng(6), noise=1e-9)
    found = reference.gains(reference.cells(rows)).with_columns(study=pl.lit("simulated"))
    script.finals = lambda study: rows
    charged = script.charged("simulated", found)
    assert charged.filter(budget=40)["payer"].unique().to_list() == ["sunk"]  # beyond scratch's budgets: left out
    for row in charged.iter_rows(named=True):
        more = script.SHARES[row["payer"]] * row["base_params"] * row["base_tokens"] / (1e5 * row["tokens"])
        if row["budget"] < 40 and row["tokens"] * (1 + more) <= 4e6:
            expected = effect(row["factor"], row["budget"]) + 0.1 * np.log(1 + more)
            assert row["gap"] == pytest.approx(expected, abs=2e-4)


def test_operators_are_compared_with_the_main_one_at_the_same_place(reference: ModuleType) -> None:
    script = analysis("simple_operators")
    rows = study(np.random.default_rng(7))
    other = rows.filter(pl.col("arm") == "szp:shrink=0.4").with_columns(
        arm=pl.lit("net2net"), operator=pl.lit("net2net"), loss=pl.col("loss") + 0.3, run=pl.col("run") + " n"
    )
    found = reference.gains(reference.cells(pl.concat([rows, other]))).with_columns(
        study=pl.lit("simulated"), size=pl.lit("100k")
    )
    against = script.against_main(found)
    assert set(against["arm"]) == {"net2net"}
    assert against["gap"].to_numpy() == pytest.approx(0.3)
    assert (against["low"] < 0.3).all()
    assert (against["high"] > 0.3).all()


def test_preservation_is_told_from_its_opposite() -> None:
    script = analysis("preservation")
    kl = [0.0, 0.1, 0.2, 0.5, 1.0, 5.0]
    for sign in (1.0, -1.0):
        cell = pl.DataFrame(
            {"zero_step_kl": kl, "difference": [sign * x for x in range(6)], "s": [0.01] * 6, "n": [3] * 6}
        )
        value, low, high = script.tau(cell, np.random.default_rng(0))
        assert (value, low, high) == pytest.approx((sign, sign, sign))
    noisy = cell.with_columns(s=pl.lit(50.0))
    value, low, high = script.tau(noisy, np.random.default_rng(0))
    assert low < 0 < high
