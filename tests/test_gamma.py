"""The loss against gamma: what the law says exactly, what its intervals hold, and what it refuses."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from gammas import BUDGETS, FLAT, GAMMAS, MIDDLE, MILD, SIZES, law_of, study

from scalegrow.cli.gamma import advice
from scalegrow.errors import InputError
from scalegrow.laws.gamma import NAMES, STANDARD, GammaLaw, curve, curve_gradient
from scalegrow.laws.gamma_fit import Cells, fit_gamma, inflated, weighted_fit
from scalegrow.laws.gamma_rows import gamma_rows
from scalegrow.plan.gamma import GammaChoice, choose_gamma

NOISE = 0.004
STILL = np.array([0.85, 0.0, 0.0, -2.0, 0.0, 0.0, -0.5, 0.6])  # no trend
TWO_WELLS = np.array([0.75, -0.02, -0.03, -2.0, 0.1, -0.8, -2.3, 2.4])  # nearly: u^2 (1 + k u + l u^2)
ASKED = ((6e4, 10.0), (1.2e5, 20.0), (2.4e5, 20.0))  # the last beyond the runs


def with_trend(name: str, value: float) -> np.ndarray:
    theta = STILL.copy()
    theta[NAMES.index(name)] = value
    return theta


def cells(rows: pl.DataFrame) -> Cells:
    return Cells.of(gamma_rows(rows), MIDDLE)


# What it says exactly


@pytest.mark.parametrize(
    "theta",
    [
        MILD,
        STILL,
        TWO_WELLS,
        *(with_trend(name, value) for name in ("gN", "gD", "aN", "aD") for value in (-0.1, 0.1)),
    ],
    ids=lambda theta: ",".join(f"{value:g}" for value in theta),
)
def test_a_law_without_noise_is_found_again(theta: np.ndarray) -> None:
    law = fit_gamma(study(theta), draws=3)
    assert law.middle == pytest.approx(MIDDLE)
    assert law.coefficients == pytest.approx(theta, abs=1e-7)
    assert law.draws == pytest.approx(np.tile(theta, (3, 1)), abs=1e-6)
    assert law.noise < 1e-9
    assert (law.n_runs, law.data) == (63, "simulated")


@pytest.mark.parametrize("seed", range(6))
def test_any_curve_without_noise_is_found_again(seed: int) -> None:
    """Whatever its minimum and shape; where it has two minima, the law may stand on either."""
    rng = np.random.default_rng(seed)
    low, high = (0.45, -0.05, -0.08, -4, -0.3, -1, -2.5, 0.05), (1.35, 0.05, 0.08, 0, 0.3, 0.3, 2.5, 3)
    theta = rng.uniform(low, high)
    law, true = fit_gamma(study(theta), draws=1), law_of(theta)
    for N, tpp in ASKED[:2]:
        found, known = (each.change(np.array(GAMMAS), N, tpp)[0] for each in (law, true))
        assert found == pytest.approx(known, abs=1e-6 * np.abs(known).max())


def test_the_gradient_is_the_curve_s() -> None:
    rows = study(MILD)
    gamma, where = (
        rows["gamma"].to_numpy(),
        np.log([rows["n_params"] / 6e4, rows["tokens"] / rows["n_params"] / 10]),
    )
    exact = curve_gradient(MILD[None], gamma, where)[:, 0]
    for i, step in enumerate(1e-5 * np.eye(len(NAMES))):
        ends = [curve((MILD + side * step)[None], gamma, where)[0] for side in (-1, 1)]
        assert exact[i] == pytest.approx((ends[1] - ends[0]) / 2e-5, abs=1e-9)


def test_the_loss_of_a_cell_is_its_own() -> None:
    """A constant added to every run of one size, budget and seed changes nothing."""
    rows = study(MILD, NOISE)
    moved = rows.with_columns(loss=pl.col("loss") + pl.struct("n_params", "tokens", "seed").rank("dense") % 7)
    ours, theirs = fit_gamma(rows, draws=20), fit_gamma(moved, draws=20)
    assert theirs.coefficients == pytest.approx(ours.coefficients, abs=1e-7)
    assert theirs.draws == pytest.approx(ours.draws, abs=1e-6)
    assert theirs.noise == pytest.approx(ours.noise, rel=1e-9)


def test_names_and_order_of_runs_decide_nothing() -> None:
    rows = study(MILD, NOISE)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    renamed = shuffled.with_columns(run=pl.col("run").hash(3).cast(pl.String))
    assert fit_gamma(renamed, draws=20).to_data() == fit_gamma(rows, draws=20).to_data()


def test_rows_that_tell_nothing_change_nothing() -> None:
    """Mid-run and grown rows, rows without a gamma, and cells of a single gamma."""
    rows = study(MILD, NOISE)
    some = rows.head(30).with_columns(run=pl.lit("other"), loss=pl.lit(9.0))
    grown = some.with_columns(operator=pl.lit("szp"), growth_factor=pl.lit(2.0))
    mid_run, nameless = (
        some.with_columns(annealed=pl.lit(False)),
        some.with_columns(gamma=pl.lit(None, pl.Float64)),
    )
    lone = some.head(3).with_columns(seed=pl.lit(9, pl.Int64))
    more = pl.concat([rows, grown, mid_run, nameless, lone], how="vertical")
    assert fit_gamma(more, draws=20).to_data() == fit_gamma(rows, draws=20).to_data()


def test_nothing_changes_at_the_standard_gamma() -> None:
    law = fit_gamma(study(MILD, NOISE), draws=50)
    value, draws = law.change(np.array([STANDARD]), 3e5, 7.0)
    assert value == 0
    assert (draws == 0).all()


@pytest.mark.parametrize(
    ("kept", "nought"), [({"sizes": SIZES[:1]}, ("gN", "aN")), ({"budgets": BUDGETS[:1]}, ("gD", "aD"))]
)
def test_one_size_or_budget_has_no_trend(kept: dict, nought: tuple[str, ...]) -> None:
    law = fit_gamma(study(MILD, NOISE, **kept), draws=50)
    for name in NAMES:
        i = NAMES.index(name)
        assert ((law.coefficients[i] == 0) & (law.draws[:, i] == 0).all()) == (name in nought)


def test_sizes_that_differ_by_two_have_a_trend_whatever_their_share() -> None:
    """Left out, a size between them would be foretold without doubt, and another size wrongly."""
    rows = study(MILD, sizes=(3e4, 6e4))
    fewer = rows.filter((pl.col("n_params") == 3e4) | (pl.col("seed") == 0))
    for table in (rows, fewer):
        law = fit_gamma(table, draws=3)
        assert law.coefficients[[1, 4]] == pytest.approx(MILD[[1, 4]], abs=1e-6)
    alike = fit_gamma(study(MILD, sizes=(6e4, 6.1e4)), draws=3)
    assert (alike.coefficients[[1, 4]] == 0).all()


# What its intervals rest on


def test_residuals_are_those_of_a_law_without_the_run() -> None:
    """By deleting each run from the linearised problem, an L* for every cell and all, and solving again."""
    rows = study(MILD, NOISE)
    law, told = fit_gamma(rows, draws=1), weighted_fit(cells(rows))[0]
    dummies = (told.cell[:, None] == np.arange(told.cell.max() + 1)).astype(float)
    tangent = curve_gradient(law.coefficients[None], told.gamma, told.where)[:, 0].T
    design, left = told.root[:, None] * np.hstack([tangent, dummies]), told.residuals(law.coefficients)
    stretch = np.sqrt(told.freedom / (told.freedom - 2))
    found = inflated(told, law.coefficients) / stretch
    for run in range(told.n_runs):
        others, mine = told.run != run, told.run == run
        without = sm.OLS(left[others], design[others]).fit()
        assert found[mine] == pytest.approx(left[mine] - without.predict(design[mine]), abs=1e-9)
    assert told.freedom == 63 - 8 - 9


def test_one_loss_a_run_gives_statsmodels_hc3() -> None:
    """HC3 (MacKinnon and White 1985) is CR3 of runs with one row each."""
    rows = study(MILD, NOISE, budgets=(10.0,))
    law, told = fit_gamma(rows, draws=1), weighted_fit(cells(rows))[0]
    dummies = (told.cell[:, None] == np.arange(told.cell.max() + 1)).astype(float)
    tangent = curve_gradient(law.coefficients[None], told.gamma, told.where)[told.free, 0].T
    design = told.root[:, None] * np.hstack([tangent, dummies])
    peer = sm.OLS(told.residuals(law.coefficients), design).fit(cov_type="HC3")
    inverse = np.linalg.pinv(told.jacobian(law.coefficients)[:, told.free])
    ours = inverse * inflated(told, law.coefficients) / np.sqrt(told.freedom / (told.freedom - 2))
    p = int(told.free.sum())
    assert ours @ ours.T == pytest.approx(peer.cov_params()[:p, :p], rel=1e-6, abs=1e-12)


def test_draws_spread_as_the_jackknife_over_runs_says() -> None:
    """Where noise is small the law is nearly linear: the draws' covariance is that of CR3, to their number."""
    rows = study(MILD, NOISE / 10)
    law, told = fit_gamma(rows, draws=1500), weighted_fit(cells(rows))[0]
    moved = np.linalg.pinv(told.jacobian(law.coefficients)) * inflated(told, law.coefficients)
    by_run = np.array([moved[:, told.run == run].sum(1) for run in range(told.n_runs)])
    expected = np.sqrt(np.diag(by_run.T @ by_run))
    assert law.draws.std(0) == pytest.approx(expected, rel=0.1)
    assert law.draws.mean(0) == pytest.approx(law.coefficients, abs=0.2 * expected.max())


def test_gammas_that_scatter_more_weigh_less() -> None:
    """Noise ten times as large at two gammas: their root weight is about a tenth, shrunk by the ridge."""
    rows = study(MILD, NOISE)
    loud = pl.col("gamma") >= 1.3
    noise = pl.Series(np.random.default_rng(1).normal(0, 10 * NOISE, len(rows)))
    told = weighted_fit(cells(rows.with_columns(loss=pl.col("loss") + pl.when(loud).then(noise).otherwise(0))))[0]
    ratio = told.root[told.gamma >= 1.3].mean() / told.root[told.gamma < 1.3].mean()
    assert 0.05 < ratio < 0.3
    assert np.median(told.root) == pytest.approx(1)


SMALL = {"sizes": SIZES[:2]}


def covered(repeats: int, *, by_row: bool = False, draws: int = 80, **kept: object) -> dict[str, float]:
    """Share of studies whose 95 % interval holds the truth, over all places asked; by_row: each row a run."""
    hits = dict.fromkeys(("best", "gain", "critical"), 0.0)
    truth = {asked: choose_gamma(law_of(MILD), *asked) for asked in ASKED}
    for seed in range(repeats):
        rows = study(MILD, NOISE, seed, **kept)
        if by_row:
            rows = rows.with_columns(run=pl.format("row {}", pl.int_range(pl.len())))
        law = fit_gamma(rows, draws, seed)
        for asked, true in truth.items():
            answer = choose_gamma(law, *asked)
            for name in hits:
                low, high = getattr(answer, name).low, getattr(answer, name).high
                hits[name] += low <= getattr(true, name).value <= high
    return {name: count / repeats / len(truth) for name, count in hits.items()}


def test_intervals_hold_the_truth() -> None:
    """60 studies of 42 runs: nominal 0.95, at least three binomial standard errors (0.028 each) below it."""
    assert min(covered(60, **SMALL).values()) > 0.95 - 0.084


def test_budgets_of_one_run_are_no_runs_of_their_own() -> None:
    """Negative control: with a run for every row the same studies are covered visibly less, by about 0.15."""
    assert np.mean(list(covered(30, by_row=True, **SMALL).values())) < 0.95 - 0.084


@pytest.mark.slow
@pytest.mark.parametrize("kept", [{}, SMALL, {"seeds": 1}], ids=["63 runs", "42 runs", "one seed"])
def test_intervals_hold_the_truth_closely(kept: dict) -> None:
    """300 studies: 0.95, or three standard errors (0.013 each) below it; with few runs more."""
    found = covered(300, draws=300, **kept)
    print(kept, found)
    assert min(found.values()) > 0.91


# What is chosen


def test_the_best_and_the_critical_gamma_lie_between_grid_points() -> None:
    """The minimum is gamma*, and the critical gamma solves change = 0, far closer than the grid is wide."""
    theta = STILL.copy()
    theta[0] = 0.84371
    law = law_of(theta)
    found = choose_gamma(law, *MIDDLE)
    assert found.best.value == pytest.approx(0.84371, abs=1e-4)
    assert found.gain.value == pytest.approx(-curve(theta[None], np.array([0.5]), np.zeros(2))[0, 0], rel=1e-4)
    slope = curve_gradient(theta[None], np.array([found.critical.value]), np.zeros(2))[0, 0, 0]
    assert law.change(np.array([found.critical.value]), *MIDDLE)[0] == pytest.approx(0, abs=1e-4 * abs(slope))
    assert 0.84 < found.critical.value < 1.5
    assert found.inside


def test_the_best_gamma_moves_with_size_and_budget_as_the_law_says() -> None:
    law = law_of(MILD)
    for N, tpp in ASKED:
        place = MILD[:3] @ [1, np.log(N / MIDDLE[0]), np.log(tpp / MIDDLE[1])]
        assert choose_gamma(law, N, tpp).best.value == pytest.approx(place, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_flat_curve_keeps_the_standard_gamma(seed: int) -> None:
    law = fit_gamma(study(FLAT, NOISE, seed, sizes=SIZES[:2], budgets=BUDGETS[:2]), draws=100)
    found = choose_gamma(law, *MIDDLE)
    assert found.gain.low < 0 <= found.gain.high
    assert advice(law, found).startswith("keep 0.5")


@pytest.mark.parametrize(("g0", "edge"), [(1.8, 1.5), (0.1, 0.3)])
def test_a_minimum_at_the_edge_is_not_inside(g0: float, edge: float) -> None:
    law = fit_gamma(study(np.array([g0, 0, 0, -1.0, 0, 0, 0, 0.1]), NOISE), draws=50)
    found = choose_gamma(law, *MIDDLE)
    assert found.best.value == edge
    assert not found.inside
    assert found.gain.high < 0
    assert "reaches an end of the measured ones, 0.3 to 1.5" in advice(law, found)
    assert np.isinf(found.critical.value) == (edge == 1.5)


def test_the_critical_gamma_is_never_below_the_standard() -> None:
    """Where every other gamma is worse, it is the standard one itself; where the last is better, there is none."""
    steep, rising = np.array([0.5, 0, 0, 1, 0, 0, 0, 0.1]), np.array([0.1, 0, 0, 1, 0, 0, 0, 0.1])
    for theta in (steep, rising):
        assert choose_gamma(law_of(theta), *MIDDLE).critical.value == pytest.approx(0.5, abs=1e-9)
    falling = choose_gamma(law_of(np.array([1.2, 0, 0, -2, 0, 0, 0, 0.1])), *MIDDLE)
    assert falling.best.value == pytest.approx(1.2, abs=1e-6)
    assert falling.critical.value == falling.critical.low == np.inf


def test_a_sure_gain_is_advised_and_extrapolation_says_so() -> None:
    law = fit_gamma(study(MILD, NOISE), draws=100)
    inside, beyond = choose_gamma(law, *MIDDLE), choose_gamma(law, 1.2e7, 10.0)
    assert advice(law, inside) == f"--set init.gamma={inside.best.value:.2f}."
    assert inside.extrapolation == {"N": 1, "tpp": 1}
    assert beyond.extrapolation == {"N": pytest.approx(100), "tpp": 1}
    assert beyond.best.high - beyond.best.low > 1.5 * (inside.best.high - inside.best.low)
    assert advice(law, beyond).startswith("none: this lies 100 times beyond the runs")
    assert "lies beyond what was measured" in advice(law, replace(inside, extrapolation={"N": 2.0, "tpp": 1.0}))


@pytest.mark.parametrize(
    ("kept", "known", "unknown"),
    [
        ({"sizes": SIZES[1:2]}, (6e4, 30.0), (1.2e5, 10.0)),
        ({"budgets": BUDGETS[1:2]}, (2e5, 10.0), (6e4, 20.0)),
    ],
)
def test_what_the_runs_did_not_vary_is_not_foretold(kept: dict, known: tuple, unknown: tuple) -> None:
    """A trend of nought is no knowledge: beyond the one size or budget that there was, nothing is advised."""
    law = fit_gamma(study(MILD, NOISE, **kept), draws=100)
    assert advice(law, choose_gamma(law, *MIDDLE)).startswith("--set")
    assert advice(law, choose_gamma(law, *known)).startswith(("--set", "none: the best gamma's interval"))
    assert advice(law, choose_gamma(law, *unknown)).startswith("none: runs of one number of ")
    assert fit_gamma(study(MILD, NOISE), draws=10).trendless == ()


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0, float("nan")])
def test_a_level_lies_between_nought_and_one(level: float) -> None:
    with pytest.raises(InputError, match=r"give one between 0 and 1, such as 0\.95"):
        choose_gamma(law_of(MILD), *MIDDLE, level)


def test_a_higher_level_is_wider() -> None:
    law = fit_gamma(study(MILD, NOISE), draws=200)
    narrow, wide = (choose_gamma(law, *MIDDLE, level) for level in (0.5, 0.99))
    for name in ("best", "gain", "critical"):
        inner, outer = getattr(narrow, name), getattr(wide, name)
        assert outer.low < inner.low <= inner.value <= inner.high < outer.high


# What it refuses


@pytest.mark.parametrize(
    "setting", ["lr", "model.norm_eps", "model.shape.gate", "model.dropout", "init.embedding"]
)
def test_runs_that_differ_in_another_setting_are_refused(setting: str) -> None:
    rows, column = study(MILD), pl.col("seed").cast(pl.Float64) + 1
    mixed = rows.with_columns(column.alias(setting))
    with pytest.raises(InputError) as refused:
        fit_gamma(mixed)
    said = str(refused.value)
    assert said.startswith(f"runs differ in {setting} (1.0, 2.0, 3.0)")
    assert said.endswith(f"--where {setting}=1.0.")
    assert "\n" not in said
    one = mixed.filter(pl.col(setting) == 1)
    assert fit_gamma(one, draws=1).n_runs == 21
    # What rows that are not fitted hold matters as little as how a base was grown.
    aside = rows.with_columns(pl.when(pl.col("tokens") > 2e6).then(2.0).otherwise(1.0).alias(setting))
    aside = aside.with_columns(annealed=pl.col(setting) == 1)
    assert fit_gamma(aside, draws=1).n_runs == 63


def test_gamma_itself_and_how_a_start_was_made_are_no_other_settings() -> None:
    rows = study(MILD).with_columns(pl.col("gamma").cast(pl.String).alias("init.gamma"))
    rows = rows.with_columns(pl.col("run").alias("start.sha256"), pl.col("run").alias("arm"))
    assert fit_gamma(rows, draws=1).n_runs == 63


def test_a_setting_that_some_rows_do_not_name_is_another() -> None:
    rows = study(MILD).with_columns(pl.when(pl.col("seed") > 0).then(pl.lit("none")).alias("model.shape.gate"))
    with pytest.raises(InputError, match=r"model\.shape\.gate \(none, None\).*--where model\.shape\.gate=none\."):
        fit_gamma(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop("gamma"), "no column 'gamma'"),
        (lambda rows: rows.drop("seed"), "no column 'seed'"),
        (lambda rows: rows.with_columns(annealed=pl.lit(False)), "0 different gammas among annealed losses"),
        (lambda rows: rows.with_columns(operator=pl.lit("szp")), "0 different gammas among annealed losses"),
        (lambda rows: rows.filter(pl.col("gamma") < 1), "4 different gammas among annealed losses from scratch"),
        (lambda rows: rows.filter(pl.col("gamma").rank("dense") == pl.col("seed") + 1), "0 different gammas"),
        (lambda rows: rows.filter(pl.col("gamma") > 0.5), "gammas of 0.7 to 1.5 leave out 0.5"),
        (lambda rows: rows.with_columns(data=pl.col("seed").cast(pl.String)), "losses on other data"),
        (lambda rows: rows.with_columns(n_params_counts=pl.col("seed").cast(pl.String)), "convert to one count"),
        (lambda rows: rows.with_columns(gamma=pl.lit("small")), "'gamma' holds more than numbers"),
        (lambda rows: rows.with_columns(gamma=pl.lit(float("nan"))), "gamma = nan is out of range"),
        (lambda rows: rows.with_columns(gamma=pl.col("gamma") * 10), "gamma = 5 is out of range"),
    ],
)
def test_tables_that_tell_no_curve_are_refused(change, said: str) -> None:
    with pytest.raises(InputError) as refused:
        fit_gamma(change(study(MILD)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "kept", [{"seeds": 1, "sizes": SIZES[:1]}, {"gammas": GAMMAS[:5], "seeds": 1, "sizes": SIZES[:2]}]
)
def test_too_few_runs_for_an_interval_are_refused(kept: dict) -> None:
    """Their residuals would be nought, and the intervals with them."""
    with pytest.raises(InputError, match=r"\d+ runs cannot determine \d coefficients .* sweep more"):
        fit_gamma(study(MILD, NOISE, **kept))


# What a file keeps


def test_a_law_comes_back_from_its_data() -> None:
    law = fit_gamma(study(MILD, NOISE), draws=30)
    back = GammaLaw.from_data(law.to_data())
    assert back.coefficients == pytest.approx(law.coefficients, rel=1e-9)
    assert back.draws == pytest.approx(law.draws, rel=1e-9)
    same = ("middle", "gammas", "domain", "noise", "n_runs", "data")
    assert all(getattr(back, name) == getattr(law, name) for name in same)


def shown(choice: GammaChoice) -> list[float]:
    return [
        value
        for each in (choice.best, choice.gain, choice.critical)
        for value in (each.value, each.low, each.high)
    ]


def test_a_law_from_its_data_answers_alike() -> None:
    law = fit_gamma(study(MILD, NOISE), draws=30)
    back = GammaLaw.from_data(law.to_data())
    for asked in ASKED:
        assert shown(choose_gamma(back, *asked)) == pytest.approx(shown(choose_gamma(law, *asked)), rel=1e-7)
