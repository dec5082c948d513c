"""The reference study's statistics: simulated studies give back what they were made of, and intervals cover it."""

import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from scipy import stats
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


def study(
    rng: np.random.Generator,
    noise: float = NOISE,
    seeds: int = 3,
    rates: tuple[tuple[float, float], ...] = ((0.005, 0.0), (0.01, 0.05)),
    rise: float = 0.0,
) -> pl.DataFrame:
    """Annealed rows of one size: scratch at rates that cost so much, and SZP at every factor; s = noise g^rise."""
    arms = [*(("scratch", 1.0, *rate) for rate in rates), *(("szp:shrink=0.4", g, 0.005, 0.0) for g in FACTORS)]
    rows = []
    for arm, g, lr, cost in arms:
        for seed in range(seeds):
            shock = rng.normal()  # of a run, shared by its budgets
            for tpp in TPP:
                mean = 2 - 0.1 * np.log(tpp) + cost + (effect(g, tpp) if g > 1 else 0)
                scatter = noise * g**rise * (shock + rng.normal()) / np.sqrt(2)
                rows.append(row(arm, g, lr, seed, tpp, mean + scatter))
    return pl.DataFrame(rows, infer_schema_length=None)


def row(arm: str, g: float, lr: float, seed: int, tpp: int, loss: float) -> dict[str, object]:
    return {
        "run": f"{arm} {g} {lr} {seed}",
        "seed": seed,
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
        "loss": loss,
        "zero_step_kl": g,
    }


Cell = tuple[str, float, float, list[float] | np.ndarray]  # arm, factor, rate, the losses of seeds 0, 1, ..


def rows_of(*cells: Cell) -> pl.DataFrame:
    """The rows of cells at 5 tokens per parameter."""
    told = [row(arm, g, lr, seed, 5, loss) for arm, g, lr, losses in cells for seed, loss in enumerate(losses)]
    return pl.DataFrame(told, infer_schema_length=None)


def many(count: int, draw: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """So many simulated studies as sizes of one, which share nothing."""
    return pl.concat([draw().with_columns(n_params=pl.lit(float(size))) for size in range(count)], how="vertical")


def delta(reference: ModuleType, rows: pl.DataFrame, *, tuned: bool = False) -> pl.DataFrame:
    """Gains of all grown cells of a simulated study, with their `truth`."""
    found = reference.gains(reference.cells(rows), reference.scratch(rows, tuned=tuned))
    truth = [effect(g, tpp) for g, tpp in zip(found["factor"], found["budget"], strict=True)]
    return found.with_columns(truth=pl.Series(truth))


HELD = pl.col("truth").is_between("low", "high")


def test_without_noise_delta_is_the_effect(reference: ModuleType) -> None:
    found = delta(reference, study(np.random.default_rng(0), noise=1e-9), tuned=True)
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
    found = delta(reference, many(150, lambda: study(rng)))
    off = (pl.col("difference") - pl.col("truth")).abs()
    pretended = off <= (pl.col("high") - pl.col("low")) / 2 * np.sqrt(3 / 40)
    assert 0.93 <= found.select(HELD.mean()).item() <= 0.97
    assert found.select(pretended.mean()).item() < 0.6


@pytest.mark.parametrize(("rise", "least", "most"), [(0.0, 0.92, 0.98), (0.06, 0.92, 0.98), (1.0, 0.6, 0.85)])
def test_pooling_over_factors_bears_the_measured_rise_of_noise(
    reference: ModuleType, rise: float, least: float, most: float
) -> None:
    """At g = 8 with s ~ g^rise: none, about what both studies show over all budgets, and far too much."""
    rng = np.random.default_rng(8)
    found = delta(reference, many(150, lambda: study(rng, rise=rise))).filter(factor=8)
    assert least <= found.select(HELD.mean()).item() <= most


def test_unpooled_intervals_are_those_of_welch(reference: ModuleType) -> None:
    rows = study(np.random.default_rng(9), seeds=4, rates=((0.005, 0.0),)).filter(pl.col("factor") < 1.7)
    rows = rows.filter((pl.col("operator") == "scratch") | (pl.col("seed") < 3))
    for row in delta(reference, rows).iter_rows(named=True):
        grown, scratch = (rows.filter(budget=row["budget"], operator=name)["loss"] for name in ("szp", "scratch"))
        told = stats.ttest_ind(grown.to_numpy(), scratch.to_numpy(), equal_var=False)
        interval = told.confidence_interval(0.95)
        assert row["freedom"] == pytest.approx(told.df)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_the_chance_of_one_run_is_that_of_the_next_pair(reference: ModuleType) -> None:
    """Where 0 is itself the next pair's difference, P is uniform: a new grown run wins as often as P says."""
    rng = np.random.default_rng(10)

    def draw() -> pl.DataFrame:
        """Single runs at g = 2 and from scratch, moved by the next pair; other cells tell s."""
        pair = rng.normal() - rng.normal()
        return rows_of(
            ("szp", 2.0, 0.005, rng.normal(size=1) - pair),
            ("scratch", 1.0, 0.005, rng.normal(size=1)),
            *(("szp", g, 0.005, rng.normal(size=3)) for g in (3.0, 4.0)),
            *(("scratch", 1.0, lr, rng.normal(size=3)) for lr in (0.01, 0.02)),
        )

    found = delta(reference, many(3000, draw)).filter(factor=2)["wins"].to_numpy()
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_operators_that_share_a_base_count_its_seeds_once(reference: ModuleType) -> None:
    """Six operators alike but for a shift, grown from the same three bases, give s two degrees and not twelve."""
    rng = np.random.default_rng(11)

    def draw() -> pl.DataFrame:
        base = rng.normal(size=3)
        copies = [(f"copy{i}", 4.0, 0.005, base + i) for i in range(6)]
        return rows_of(("scratch", 1.0, 0.005, rng.normal(size=3)), *copies)

    found = delta(reference, many(500, draw)).filter(arm="copy0")
    assert set(found["df"]) == {2}
    held = (found["low"] <= 0) & (found["high"] >= 0)
    counted = found["difference"].abs() <= stats.t.ppf(0.975, 14) * found["error"]
    assert held.mean() >= 0.93
    assert counted.mean() < 0.92


def test_a_seeds_rate_is_chosen_by_the_others(reference: ModuleType) -> None:
    slow, fast = np.array([1.0, 1.0, 4.0]), np.array([2.0, 2.0, 2.0])
    found = reference.scratch(rows_of(("scratch", 1.0, 0.01, slow), ("scratch", 1.0, 0.02, fast)))
    # seeds 0 and 1 see 4 among the others at the slow rate and go fast; seed 2 sees only 1 there and pays its 4
    assert found["loss"].item() == pytest.approx((2 + 2 + 4) / 3)
    assert found["n"].item() == 2
    agreed = reference.scratch(rows_of(("scratch", 1.0, 0.01, fast - 1), ("scratch", 1.0, 0.02, fast)))
    assert (agreed["loss"].item(), agreed["n"].item()) == (1.0, 3)


def test_a_seed_that_was_not_run_at_a_rate_takes_the_best_of_its_own(reference: ModuleType) -> None:
    slow, fast = [1.0, 1.1, 1.2], [0.4, 0.5]
    found = reference.scratch(rows_of(("scratch", 1.0, 0.01, slow), ("scratch", 1.0, 0.02, fast)))
    assert found["loss"].item() == pytest.approx((0.4 + 0.5 + 1.2) / 3)
    alone = reference.scratch(rows_of(("scratch", 1.0, 0.01, slow), ("scratch", 1.0, 0.02, fast[:1])))
    assert alone["loss"].item() == pytest.approx(1.1)  # nobody else vouches for the fast rate


def test_tuned_scratch_is_not_judged_by_the_runs_that_chose_its_rate(reference: ModuleType) -> None:
    """Three equal rates: Delta is unbiased and covered; the best cell's mean is low by 0.8 standard errors."""
    rng = np.random.default_rng(12)

    def draw() -> pl.DataFrame:
        grown = ("szp:shrink=0.4", 2.0, 0.005, rng.normal(size=3))
        return rows_of(grown, *(("scratch", 1.0, lr, rng.normal(size=3)) for lr in (0.0025, 0.005, 0.01)))

    rows = many(1500, draw)
    found = delta(reference, rows, tuned=True)
    off = found["loss_scratch"].to_numpy()
    best = reference.cells(rows).filter(operator="scratch").group_by("n_params").agg(pl.col("loss").min())["loss"]
    held = (found["low"] <= 0) & (found["high"] >= 0)
    assert np.mean(off) == pytest.approx(0, abs=3 * np.std(off) / np.sqrt(len(off)))
    assert best.mean() == pytest.approx(-0.85 / np.sqrt(3), abs=0.05)
    assert 0.93 <= held.mean() <= 0.97


def test_a_rate_that_is_surely_best_is_everyones(reference: ModuleType) -> None:
    rows = study(np.random.default_rng(2))
    tuned, told = reference.scratch(rows), reference.scratch(rows, tuned=False)
    assert tuned["loss"].to_numpy() == pytest.approx(told["loss"].to_numpy())
    assert set(told["lr"]) == {0.005}
    worse = rows.with_columns(loss=pl.col("loss") - pl.when(pl.col("lr") > 0.005).then(0.2).otherwise(0.0))
    at_other = reference.cells(worse).filter(operator="scratch", lr=0.01)
    assert reference.scratch(worse)["loss"].to_numpy() == pytest.approx(at_other["loss"].to_numpy())


def test_the_rise_of_noise_with_the_factor_is_measured() -> None:
    """b of s ~ g^b is covered, from cells of three runs at three sizes with budgets that share runs."""
    script = analysis("reliable_factor")
    rng = np.random.default_rng(13)
    held = []
    for _ in range(200):
        rows = [study(rng, rise=0.5).with_columns(n_params=pl.lit(float(size))) for size in (1, 2, 3)]
        b, low, high = script.noise_slope(script.own_deviations(pl.concat(rows)))
        held.append((low <= 0.5 <= high, low <= 0 <= high, b))
    covered, null, value = np.mean(held, axis=0)
    assert 0.91 <= covered <= 0.98
    assert null < 0.6
    assert value == pytest.approx(0.5, abs=0.07)
    assert script.noise_slope(script.own_deviations(rows[0].filter(pl.col("factor") < 1.7))) is None


def test_the_bound_on_the_factor_is_found_and_covered(reference: ModuleType) -> None:
    script = analysis("growth_bound")
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(60):
        found = delta(reference, study(rng)).filter(budget=5).sort("growth_factor")
        answer = script.bound(found, rng)
        covered.append(answer["g_upper_low"] <= 4.0 <= answer["g_upper_high"])
    assert np.mean(covered) >= 0.9
    quiet = delta(reference, study(rng, noise=1e-6)).filter(budget=5).sort("growth_factor")
    answer = script.bound(quiet, rng)
    assert answer["g_upper_middle"] == pytest.approx(4.0, rel=0.02)
    assert answer["g_opt_middle"] == pytest.approx(2.0, rel=0.02)


def test_growing_that_never_wins_has_no_bound(reference: ModuleType) -> None:
    script = analysis("growth_bound")
    rows = study(np.random.default_rng(4), noise=1e-4)
    worse = rows.with_columns(loss=pl.col("loss") + pl.when(pl.col("factor") > 1).then(1.0).otherwise(0.0))
    found = delta(reference, worse).filter(budget=5).sort("growth_factor")
    answer = script.bound(found, np.random.default_rng(0))
    assert answer["g_upper_high"] == 0.0
    beyond = worse.with_columns(loss=pl.col("loss") - pl.when(pl.col("factor") > 1).then(2.0).otherwise(0.0))
    found = delta(reference, beyond).filter(budget=5).sort("growth_factor")
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


@pytest.mark.parametrize("noise", [(1.0, 1.0, 1.0), (0.3, 1.0, 3.0)])
def test_slopes_over_sizes_are_covered_however_their_noise_differs(noise: tuple[float, ...]) -> None:
    """Mean over three sizes: 95 % coverage, neither more (too wide) nor less; pooled freedom alone would miss."""
    script = analysis("gain_by_budget")
    script.DRAWS = 1000
    rng = np.random.default_rng(14)
    covered = []
    for _ in range(600):
        pairs = [(s * rng.normal(size=(3, 2)), s * rng.normal(size=(3, 2))) for s in noise]
        low, high = np.quantile(script.drawn(pairs, rng)[1:, 1], [0.025, 0.975])
        covered.append(low <= 0 <= high)
    assert 0.93 <= np.mean(covered) <= 0.975


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
    found = delta(reference, rows).with_columns(study=pl.lit("simulated"))
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
    found = delta(reference, pl.concat([rows, other])).with_columns(study=pl.lit("simulated"), size=pl.lit("100k"))
    against = script.against_main(found)
    assert set(against["arm"]) == {"net2net"}
    assert against["gap"].to_numpy() == pytest.approx(0.3)
    assert (against["low"] < 0.3).all()
    assert (against["high"] > 0.3).all()


def operators(rng: np.random.Generator, distance: list[float], truth: list[float], noise: float) -> pl.DataFrame:
    """Cells as preservation.py sees them: means of three runs with error `noise`, s of 8 degrees of freedom."""
    k, df = len(distance), 8.0
    s = noise * np.sqrt(3 * rng.chisquare(df) / df)
    y = np.array(truth) + noise * rng.normal(size=k)
    return pl.DataFrame({"distance": distance, "difference": y, "s": s, "n": 3, "df": df, "pool": "other"})


def test_the_chance_of_no_relation_is_exact() -> None:
    script = analysis("preservation")
    ladder = np.arange(5.0)
    assert script.chance(ladder, ladder) == pytest.approx(2 / 120)
    assert script.chance(ladder, -ladder) == pytest.approx(2 / 120)
    tied = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    assert script.chance(tied, ladder) == pytest.approx(2 / 10)  # of the ten ways to deal two ones
    rng = np.random.default_rng(15)
    met = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])  # as at g = 4: three operators preserve
    found = np.array([script.chance(met, rng.normal(size=6)) for _ in range(500)])
    for level in (0.05, 0.1, 0.3):
        assert np.mean(found <= level) <= level + 2 * np.sqrt(level / 500)


def test_operators_are_told_apart_jointly() -> None:
    """Of equal operators no pair is told apart in 95 % of studies; single intervals would tell some in more."""
    script = analysis("preservation")
    rng = np.random.default_rng(16)
    distance = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    quiet = [sum(script.told_apart(operators(rng, distance, [0.0] * 7, 1.0))[1:]) == 0 for _ in range(300)]
    assert np.mean(quiet) >= 0.95
    script.LEVEL = 1 - (1 - 0.95) * 18  # as if every one of the 18 pairs stood alone
    alone = [sum(script.told_apart(operators(rng, distance, [0.0] * 7, 1.0))[1:]) == 0 for _ in range(300)]
    assert np.mean(alone) < 0.8


@pytest.mark.parametrize(("sign", "told"), [(1, (18, 18, 0)), (-1, (18, 0, 18))])
def test_preservation_is_told_from_its_opposite(sign: int, told: tuple[int, int, int]) -> None:
    distance = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    truth = [sign * 100.0 * x for x in distance]
    assert analysis("preservation").told_apart(operators(np.random.default_rng(17), distance, truth, 1.0)) == told


def test_no_resampling_covers_the_true_tau() -> None:
    """Why preservation.py prints no interval: noise added to noisy means mostly misses the true tau of 1."""
    rng = np.random.default_rng(18)
    signs = analysis("preservation").signs
    truth, error, pairs = np.arange(7.0), 1.2, 21
    y = truth + error * rng.normal(size=(200, 7))
    drawn = signs(y[:, None] + error * rng.normal(size=(200, 200, 7))) @ signs(truth) / pairs
    assert np.mean(signs(y) @ signs(truth) / pairs) < 0.85
    assert np.mean(np.quantile(drawn, 0.975, axis=1) >= 1) < 0.5
