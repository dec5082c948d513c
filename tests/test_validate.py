"""Held-out scoring and the calibration that follows from it."""

import numpy as np
import polars as pl
import pytest

from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.compare import PAIRED, compare, interval_score
from scalegrow.laws.fitted import Calibration
from scalegrow.laws.observations import Observations
from scalegrow.laws.paired import fit_paired
from scalegrow.laws.points import Points
from scalegrow.laws.validate import (
    SCHEMES,
    Validation,
    calibrate,
    conformal_quantile,
    largest_out,
    rolling,
    validate,
)
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import keep_rows

FLOORS = {"E": (0.402, 1.305)}
OPERATORS = ("szp", "net2net")


@pytest.fixture(scope="module")
def published() -> Observations:
    table = keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")
    return Observations.from_table(table, form_named("fading-capacity", OPERATORS))


@pytest.fixture(scope="module")
def largest(published: Observations) -> Validation:
    return validate(form_named("fading-capacity", OPERATORS), published, "largest-out", fixed=FLOORS)


def test_held_out_287m_targets(largest: Validation) -> None:
    """The claim of the README and docs/log.md: 15 cells, 14 signs, every 95 % interval holds."""
    cells = largest.differences
    assert cells.height == 15
    assert cells["N"].unique().to_list() == [287183360.0]
    assert cells["sign_right"].sum() == 14
    assert cells["covered"].sum() == 15
    assert float(((cells["predicted"] - cells["observed"]) ** 2).mean() ** 0.5) == pytest.approx(0.0190, abs=5e-4)


def test_losses_do_not_extrapolate_and_calibration_says_so(largest: Validation) -> None:
    assert largest.losses["covered"].to_numpy().mean() < 0.8
    calibration = calibrate([largest])
    far = np.array([largest.losses["distance"].max()])
    assert calibration.factor(far, "loss")[0] > 1.2


def test_no_scheme_trains_on_what_it_scores(published: Observations) -> None:
    for scheme in SCHEMES.values():
        for _, held_out in scheme(published):
            assert held_out.any()
            assert not held_out.all()
    (_, mask), *_ = largest_out(published)
    assert published.points.N[~mask].max() < published.points.N[mask].min()
    for _, mask in rolling(published):
        assert published.points.C[~mask].max() < published.points.C[mask].min()


def test_rolling_names_no_fold_twice() -> None:
    N, D = (v.ravel() for v in np.meshgrid([1e7, 2e7, 4e7], [1e9, 2e9, 4e9]))
    folds = [tuple(mask) for _, mask in rolling(Observations.of(Points.of(N, D), np.ones(len(N))))]
    assert len(folds) == len(set(folds))


def test_many_sizes_hold_out_a_tenth() -> None:
    points = Points.of(np.geomspace(1e6, 1e9, 100), 1e9)
    ((_, mask),) = largest_out(Observations.of(points, np.ones(100)))
    assert mask.sum() == 10


def test_unknown_scheme_and_unfittable_folds_are_refused(published: Observations) -> None:
    form = form_named("fading-capacity", OPERATORS)
    with pytest.raises(InputError, match="largest-out"):
        validate(form, published, "coin-toss")
    with pytest.raises(InputError, match="no fold"):
        validate(form, published, "largest-out", draws=20)  # E free: not identified in any fold


def test_calibration_restores_coverage() -> None:
    """Intervals three times too narrow on exchangeable errors: the factor is about three."""
    rng = np.random.default_rng(0)
    half = 1.96 / 3
    scores = np.abs(rng.normal(size=2000)) / half
    factor = conformal_quantile(scores, 0.95)
    assert factor == pytest.approx(3.0, rel=0.06)
    fresh = np.abs(rng.normal(size=20_000)) / half
    assert np.mean(fresh <= factor) == pytest.approx(0.95, abs=0.015)


def test_conformal_quantile_of_few_scores_is_the_largest() -> None:
    assert conformal_quantile(np.array([1.0, 2.0, 5.0]), 0.95) == 5.0


def test_factor_never_narrows_and_grows_beyond_what_was_checked() -> None:
    calibration = Calibration(loss=((0.0, 1.0), (1.0, 2.0)), difference=((0.0, 0.5),))
    assert calibration.factor(np.array([0.0, 0.5, 1.0, 2.0]), "loss") == pytest.approx([1.0, 1.5, 2.0, 4.0])
    assert calibration.factor(np.array([0.0, 1.0]), "difference") == pytest.approx([1.0, 1.5])
    assert Calibration.flat().factor(np.array([0.0, 5.0]), "loss") == pytest.approx([1.0, 1.0])


def test_every_rival_beats_no_effect(published: Observations) -> None:
    forms = [form_named(name, OPERATORS) for name in ("fading-capacity", "fading-transfer")]
    ranked = compare(forms, published, "largest-out", fixed=FLOORS, draws=200)
    assert set(ranked["law"]) == {"fading-capacity", "fading-transfer", PAIRED, "no effect"}
    assert ranked["law"][-1] == "no effect"
    assert ranked["cells"].unique().to_list() == [15]


def test_interval_score_by_hand() -> None:
    low, high = np.zeros(3), np.ones(3)
    found = interval_score(low, high, np.array([0.5, 1.1, -0.2]), 0.9)
    assert found == pytest.approx([1.0, 1.0 + 20 * 0.1, 1.0 + 20 * 0.2])


def test_paired_model_recovers_what_it_simulates() -> None:
    """rho = 0.03, tau = 0.05, noise shared within bases: intervals are for clusters, not rows."""
    rng = np.random.default_rng(3)
    N, D, g = (v.ravel() for v in np.meshgrid([1e8, 2e8, 4e8, 8e8], [2e9, 4e9, 8e9], [1.5, 2.0, 4.0, 8.0]))
    D_base, base = 20 * N / g, np.unique(N / g, return_inverse=True)[1]
    scratch = 1.5 + 400 * N**-0.34 + 400 * D**-0.28
    shock = rng.normal(scale=0.002, size=base.max() + 1)[base] + rng.normal(scale=0.001, size=len(N))
    grown = scratch * np.exp(0.03 * np.log(g) - 0.05 * np.log1p(D_base / D) + shock)
    points = Points.of(
        np.r_[N, N],
        np.r_[D, D],
        np.r_[g, np.ones(len(N))],
        np.r_[D_base, np.zeros(len(N))],
        np.r_[np.full(len(N), "szp"), np.full(len(N), "scratch")],
    )
    observations = Observations.of(
        points, np.r_[grown, scratch], cluster=np.r_[base, np.arange(len(N)) + base.max() + 1]
    )
    model = fit_paired(observations, ("szp",))
    errors = np.sqrt(np.diag(model.covariance))
    assert np.all(np.abs(model.coefficients - [0.03, 0.05]) < 4 * errors)
    assert np.all(errors < 0.01)
    assert model.predict(points.take(np.arange(3)))[0].shape == (3,)


def test_paired_model_needs_pairs(published: Observations) -> None:
    with pytest.raises(InputError, match="pairs"):
        fit_paired(published, OPERATORS, np.arange(len(published)) < 5)


def test_scores_are_frames_without_nulls(largest: Validation) -> None:
    for frame in (largest.losses, largest.differences):
        assert isinstance(frame, pl.DataFrame)
        assert sum(frame.null_count().row(0)) == 0
