"""Decisions: estimates agree with one another and with the law they are read off."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from scalegrow.budget import BaseCost
from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fitted import Calibration, Fit, FitStatus
from scalegrow.laws.law import Law
from scalegrow.laws.points import Points
from scalegrow.plan.advise import advice, too_far
from scalegrow.plan.decide import Question, decide, first_crossing, grown_points
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import keep_rows

HUNDRED_MILLION = Question(N=1e8, g=2.0, D=2e9, D_base=1e9, operator="szp")


def exact(fit: Fit, **changes: float) -> Fit:
    """The fit with every draw equal to one known law: intervals shrink to it."""
    form = form_named("fading-transfer", ("szp",))
    values = {"E": 1.5, "A": 400.0, "B": 400.0, "alpha": 0.34, "beta": 0.28, "rho[szp]": 0.02, "kappa[szp]": 0.0}
    law = Law.of(form, **(values | changes))
    return replace(fit, law=law, draws=np.tile(law.theta, (50, 1)), calibration=Calibration.flat())


def test_estimates_lie_inside_their_intervals(warmstart: Fit) -> None:
    d = decide(warmstart, HUNDRED_MILLION)
    for name in (
        "loss_scratch",
        "loss_grown",
        "difference",
        "probability_growing_wins",
        "compute_saved",
        "break_even_budget",
        "largest_useful_factor",
        "best_factor",
    ):
        estimate = getattr(d, name)
        assert estimate.low <= estimate.value <= estimate.high, name


def test_one_new_run_is_less_certain_than_the_mean(warmstart: Fit) -> None:
    d = decide(warmstart, HUNDRED_MILLION)
    for estimate in (d.loss_scratch, d.loss_grown, d.difference):
        assert estimate.new_high - estimate.new_low > estimate.high - estimate.low


def test_difference_is_the_difference_of_the_losses(warmstart: Fit) -> None:
    d = decide(warmstart, HUNDRED_MILLION)
    assert d.difference.value == pytest.approx(d.loss_grown.value - d.loss_scratch.value, abs=1e-12)


def test_break_even_is_where_a_known_law_crosses(warmstart: Fit) -> None:
    """With kappa = 0: g^rho D^beta = (D + D_base)^beta, so D = D_base / (g^(rho/beta) - 1)."""
    d = decide(exact(warmstart), HUNDRED_MILLION)
    crossing = 1e9 / (2 ** (0.02 / 0.28) - 1) / 1e8
    assert d.break_even_budget.value == pytest.approx(crossing, rel=1e-3)
    assert d.break_even_budget.low == pytest.approx(d.break_even_budget.high)


def test_compute_saved_reaches_the_same_loss_from_scratch(warmstart: Fit) -> None:
    fit = exact(warmstart)
    d = decide(fit, HUNDRED_MILLION)
    D_scratch = 2e9 / (1 - d.compute_saved.value)
    reached = fit.law.predict(Points.of(1e8, D_scratch))[0]
    assert reached == pytest.approx(d.loss_grown.value, rel=1e-5)  # interpolated between scan points


def test_largest_useful_factor_is_where_the_gain_ends(warmstart: Fit) -> None:
    fit = exact(warmstart, **{"rho[szp]": 0.05})
    g = decide(fit, HUNDRED_MILLION).largest_useful_factor.value
    at_edge = replace(HUNDRED_MILLION, g=g, D_base=20 * 1e8 / g)
    assert decide(fit, at_edge).difference.value == pytest.approx(0.0, abs=1e-4)


def test_scans_that_find_no_end_say_so(warmstart: Fit) -> None:
    always = decide(exact(warmstart, **{"rho[szp]": -0.1}), HUNDRED_MILLION)
    never = decide(exact(warmstart, **{"rho[szp]": 60.0}), HUNDRED_MILLION)
    assert always.break_even_budget.value == np.inf
    assert always.largest_useful_factor.value == np.inf
    assert never.break_even_budget.value == 0.0
    assert never.largest_useful_factor.value == 1.0


def test_growing_that_costs_nothing_and_knows_everything_wins_with_certainty(warmstart: Fit) -> None:
    fit = exact(warmstart, **{"rho[szp]": -1.0})
    d = decide(fit, HUNDRED_MILLION)
    assert d.probability_growing_wins.value == 1.0
    assert advice(fit, d).startswith("Grow:")


def test_paying_for_the_base_costs_tokens_and_chances(warmstart: Fit) -> None:
    sunk, shared, paid = (
        decide(warmstart, replace(HUNDRED_MILLION, base_cost=BaseCost.parse(mode)))
        for mode in ("sunk", "amortised:4", "paid")
    )
    assert sunk.question.D_grown > shared.question.D_grown > paid.question.D_grown
    assert sunk.difference.value < shared.difference.value < paid.difference.value
    assert sunk.probability_growing_wins.value > paid.probability_growing_wins.value
    assert paid.question.D_grown == pytest.approx(2e9 - 0.5e9)


def test_amortising_over_one_target_is_paying(warmstart: Fit) -> None:
    one, paid = (
        decide(warmstart, replace(HUNDRED_MILLION, base_cost=BaseCost.parse(mode)))
        for mode in ("amortised:1", "paid")
    )
    assert one.difference == paid.difference


def test_gain_fades_with_budget_and_large_factors_lose(warmstart: Fit) -> None:
    """The published findings, read back from the default fit."""
    differences = [decide(warmstart, replace(HUNDRED_MILLION, D=t * 1e8)).difference.value for t in (10, 20, 30)]
    assert differences == sorted(differences)
    large = replace(HUNDRED_MILLION, g=16.0, D_base=20 * 1e8 / 16)
    assert decide(warmstart, large).difference.value > 0 > differences[0]


def test_intervals_widen_with_distance(warmstart: Fit) -> None:
    widths = []
    for N in (1e8, 1e9, 1e10):
        d = decide(warmstart, replace(HUNDRED_MILLION, N=N, D=20 * N, D_base=10 * N))
        widths.append(d.difference.high - d.difference.low)
        assert (d.distance > 0) == (N > 3e8)
    assert widths == sorted(widths)


def test_what_cannot_be_decided_is_refused(warmstart: Fit, chinchilla: Fit) -> None:
    with pytest.raises(InputError, match="knows no grown runs"):
        decide(chinchilla, HUNDRED_MILLION)
    with pytest.raises(InputError, match="szp, net2net"):
        decide(warmstart, replace(HUNDRED_MILLION, operator="stack"))
    with pytest.raises(InputError, match="larger --budget"):
        decide(warmstart, replace(HUNDRED_MILLION, D=1e8, base_cost=BaseCost("paid")))
    with pytest.raises(InputError, match="NOT_IDENTIFIED"):
        decide(replace(warmstart, status=FitStatus.NOT_IDENTIFIED), HUNDRED_MILLION)


def test_probability_is_the_share_of_simulated_pairs(warmstart: Fit) -> None:
    """The chance that one grown run ends below one scratch run, counted by brute force."""
    flat = replace(warmstart, calibration=Calibration.flat())
    rng = np.random.default_rng(1)
    _, grown = flat.log_predict(grown_points(HUNDRED_MILLION))
    _, scratch = flat.log_predict(Points.of(1e8, 2e9))
    ratio = (grown - scratch)[:, 0]
    centre = np.log(flat.law.predict(grown_points(HUNDRED_MILLION)) / flat.law.predict(Points.of(1e8, 2e9)))
    pairs = centre + rng.choice(ratio - np.median(ratio), 200_000) + rng.choice(flat.noise.paired, 200_000)
    chance = decide(flat, HUNDRED_MILLION).probability_growing_wins.value
    assert chance == pytest.approx(np.mean(pairs < 0), abs=0.005)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ([-1.0, -1, 1, 1], 1.5),
        ([1.0, 1, 1, 1], -9),
        ([-1.0, -1, -1, -1], 9),
        ([1.0, -1, 1, 1], 1.5),
        ([-1.0, 3, 3, 3], 0.25),
        ([-1.0, 1, -1, 1], 0.5),
    ],
)
def test_first_crossing(ratio: list[float], expected: float) -> None:
    found = first_crossing(np.array([ratio]), np.arange(4.0), before=-9, after=9)
    assert found[0] == pytest.approx(expected)


def test_far_outside_there_is_no_advice_to_follow(warmstart: Fit) -> None:
    """Ten times beyond the largest fitted size nothing is advised; within, it is, with a warning."""
    largest = warmstart.domain["N"][1]
    within, beyond = (
        decide(
            warmstart,
            Question(
                N=times * largest, g=2.0, D=20 * times * largest, D_base=10 * times * largest, operator="szp"
            ),
        )
        for times in (5.0, 20.0)
    )
    assert "check it with a small run" in advice(warmstart, within)
    assert advice(warmstart, beyond).startswith("Too far to say: this lies 20 times outside")


def test_a_verdict_that_the_runs_do_not_settle_says_so(warmstart: Fit) -> None:
    """Its probability's interval holds both sides of one half; "too close to call" says so by itself."""
    unsettled, close = (
        advice(warmstart, decide(warmstart, Question(N=100e6, g=2.0, D=tpp * 100e6, D_base=1e9, operator="szp")))
        for tpp in (10.0, 20.0)
    )
    assert unsettled.startswith("Lean towards growing: ")
    assert "the runs do not settle it, more could turn it" in unsettled
    assert close.startswith("Too close to call")
    assert "settle" not in close


def test_the_limit_that_is_told_of_net2net_is_there(warmstart: Fit) -> None:
    """docs/limits.md: every published net2net run ends above scratch, where the law expects the opposite."""
    runs = keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")
    scratch = runs.filter(pl.col("operator") == "scratch").select(
        "n_params", "tokens", pl.col("loss").alias("scratch")
    )
    grown = runs.filter(pl.col("operator") == "net2net").join(scratch, on=["n_params", "tokens"])
    assert grown.height == 21
    assert (grown["loss"] > grown["scratch"]).all()
    told = Question(N=134.6e6, g=1.745, D=1.346e9, D_base=20 * 77.1e6, operator="net2net")
    expected = decide(warmstart, told)
    assert expected.difference.value < 0
    assert not too_far(expected.extrapolation)
