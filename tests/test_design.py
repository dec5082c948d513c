"""Designs of runs to add: what they would tell, what they cost, and that the study says just them."""

import json
import sys
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalegrow.cli import main
from scalegrow.cli.design import other_data
from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.fitted import Calibration, Fit, Noise
from scalegrow.laws.law import Law
from scalegrow.laws.loss import LeastSquares
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import SCRATCH, FloatArray, Points
from scalegrow.laws.store import read_fit
from scalegrow.plan.candidates import Candidate, Grid, candidates, ladder, rows_of
from scalegrow.plan.decide import Question, decide
from scalegrow.plan.design import WORTHS, Design, at_random, design, greedy, joined, right_sign
from scalegrow.plan.information import Belief, Variances
from scalegrow.plan.pool import Chosen, Pool
from scalegrow.runs.branches import decay_start, trained_flops, trained_steps
from scalegrow.runs.config import RunConfig, Schedule
from scalegrow.runs.recipe import Recipe
from scalegrow.runs.shipped import shipped_fit
from scalegrow.runs.study import Block, Study, parse_study
from scalegrow.runs.study_text import study_text

FORM = form_named("fading-capacity", ("szp", "net2net"))
LAW = Law.of(
    FORM,
    **{"E": 0.8, "A": 15.0, "B": 40.0, "alpha": 0.3, "beta": 0.3},
    **{"rho[szp]": 0.03, "kappa[szp]": 0.2, "rho[net2net]": 0.02, "kappa[net2net]": 0.1},
)
SZP = form_named("fading-capacity", ("szp",))
SZP_LAW = Law.of(SZP, **{name: LAW[name] for name in SZP.names})
BASELINE = Recipe("", data="stories", n_layers=4, head_dim=16)
QUESTION = Question(N=1.2e5, g=2.0, D=2.4e6, D_base=0.96e6, operator="szp")
SIZES, TPP, SIGMA, SHARE = (3e4, 6e4, 1.2e5), (5, 10, 20, 40), 0.004, 0.75


def ladder_study() -> tuple[Points, FloatArray]:
    """Scratch runs and runs grown by 2 and 4, three sizes, four budgets each; and the number of each row's run."""
    cells = [(N, t, g) for N in SIZES for g in (1, 2, 4) for t in TPP]
    N, t, g = np.array(cells).T
    operator = np.where(g > 1, "szp", SCRATCH)
    return Points.of(N, t * N, g, np.where(g > 1, 16 * N / g, 0.0), operator), np.repeat(np.arange(9), 4)


def losses(points: Points, run: FloatArray, rng: np.random.Generator) -> FloatArray:
    """By the law, with noise of which three quarters are a run's."""
    shared = rng.normal(size=run.max() + 1)[run]
    noise = np.sqrt(SHARE) * shared + np.sqrt(1 - SHARE) * rng.normal(size=len(run))
    return np.exp(SZP.log_predict(SZP_LAW.theta, points)[0] + SIGMA * noise)


def fitted(points: Points, loss: FloatArray, run: FloatArray) -> Fit:
    observations = Observations.of(points, loss, run)
    made = fit(SZP, observations, loss=LeastSquares(), draws=300, fixed={"E": 0.8})
    return replace(made, calibration=Calibration.flat())


@pytest.fixture(scope="module")
def first() -> Fit:
    """A fit of the simulated ladder."""
    points, run = ladder_study()
    return fitted(points, losses(points, run, np.random.default_rng(0)), run)


def pool_of(fit: Fit, **changes: object) -> list[Candidate]:
    grid = replace(Grid.around(fit, QUESTION, range(3)), **changes)
    return candidates(BASELINE, grid, lambda member: True)


def designed(fit: Fit, flops: float, **changes: object) -> Design:
    return design(fit, QUESTION, flops, BASELINE, pool_of(fit, **changes))


@pytest.fixture(scope="module")
def made(first: Fit) -> Design:
    return designed(first, 3e12)


# What an observation tells


def belief_of(J: FloatArray, sigma: FloatArray, own: float) -> Belief:
    """Of a linear law: rows J theta, the last of them the decision."""
    padded = np.vstack([J, np.zeros(J.shape[1])])
    return Belief(padded @ sigma @ padded.T, own)


def test_updates_one_by_one_are_the_posterior_of_all() -> None:
    """Sigma' = (Sigma^-1 + J'J / v)^-1, one rank-one update a row, in any order, and at once."""
    rng = np.random.default_rng(0)
    root, J, v = rng.normal(size=(4, 4)), rng.normal(size=(7, 4)), 0.3
    sigma = root @ root.T
    batch = np.linalg.inv(np.linalg.inv(sigma) + J[:6].T @ J[:6] / v)
    expected = float(J[6] @ batch @ J[6])
    for order in (range(6), reversed(range(6))):
        belief = belief_of(J, sigma, v)
        for row in order:
            belief = belief.observed(row)
        assert belief.variance == pytest.approx(expected, rel=1e-12)
        assert belief.covariance[:7, :7] == pytest.approx(J @ batch @ J.T, rel=1e-9, abs=1e-12)
    before = belief_of(J, sigma, v)
    at_once = before.variance - before.reductions(np.arange(6)[None])[0]
    assert at_once == pytest.approx(expected, rel=1e-12)


def test_one_observation_is_the_textbook_update() -> None:
    """Sigma' = Sigma - Sigma j j' Sigma / (v + j' Sigma j)."""
    sigma, j, d, v = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0]), np.array([0.3, 1.0]), 0.25
    after = sigma - np.outer(sigma @ j, j @ sigma) / (v + j @ sigma @ j)
    assert belief_of(np.array([j, d]), sigma, v).observed(0).variance == pytest.approx(d @ after @ d, rel=1e-14)


def test_what_shares_nothing_with_the_decision_tells_nothing_until_something_joins_them() -> None:
    J = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    belief = belief_of(J, np.eye(2), 0.1)
    alone, joining = belief.reductions(np.array([[0], [1]]))
    assert alone == 0.0
    assert joining > 0.4
    assert belief.observed(1).reductions(np.array([[0]]))[0] > 0.3


def test_a_group_filled_up_with_nothing_tells_the_same() -> None:
    belief = belief_of(np.array([[1.0, 0.2], [0.3, 1.0], [1.0, 0.0]]), np.eye(2), 0.1)
    plain, filled = (belief.reductions(np.array([group]))[0] for group in ([0, 1], [0, 1, belief.nothing]))
    assert plain == pytest.approx(filled, rel=1e-14)


def test_budgets_of_one_run_tell_less_than_two_runs(first: Fit) -> None:
    """Its luck is common to them: a second budget close by lessens it less than a second seed."""
    pool = Pool.of(
        first, QUESTION, pool_of(first, sizes=(1.2e5,), factors=(), budgets=(20.0, 21.0), seeds=(0, 1)), 1e15
    )
    near, seed = pool.rows[1], np.append(pool.rows[0][:1], pool.rows[2][:1])
    two_budgets, two_seeds = pool.belief.reductions(np.array([near, seed]))
    assert two_seeds > 1.1 * two_budgets


def test_noise_is_split_as_it_was_drawn() -> None:
    rng = np.random.default_rng(0)
    cell, own = rng.normal(0, 0.02, 4000), rng.normal(0, 0.01, (2, 4000))
    rows = cell + own
    found = Variances.of(Noise(rows.ravel(), rows[0] - rows[1]))
    assert found.cell == pytest.approx(4e-4, rel=0.1)
    assert found.run + found.own == pytest.approx(1e-4, rel=0.1)
    assert Variances.of(Noise(rows.ravel(), np.array([]))).cell == 0


def crossed(first: Fit) -> Fit:
    """Draws in which only the operators' coefficients vary, each operator's independent of the other's."""
    szp, net2net = (np.random.default_rng(i).normal(0, 0.02, (20, 2)) for i in range(2))
    draws = np.tile(LAW.theta, (400, 1))
    draws[:, 5:7] += np.repeat(szp, 20, axis=0)
    draws[:, 7:9] += np.tile(net2net, (20, 1))
    noise = Noise(first.noise.single, np.array([]))
    return replace(first, law=LAW, draws=draws, noise=noise)


def test_runs_that_say_nothing_of_the_decision_are_not_chosen(first: Fit) -> None:
    """Neither another operator's, nor any from scratch where the scratch law is known."""
    known = crossed(first)
    pool = Pool.of(known, QUESTION, pool_of(known), 1e14)
    told = pool.belief.reductions(pool.rows)
    arms = np.array([one.member.origin.operator if one.member.origin else SCRATCH for one in pool.candidates])
    assert {*arms} == {SCRATCH, "szp", "net2net"}
    assert told[arms != "szp"] == pytest.approx(0.0, abs=1e-12 * pool.belief.variance)
    assert told[arms == "szp"].min() > 0.01 * pool.belief.variance
    made = designed(known, 1e13)
    assert {factor > 1 for block in made.study.runs for factor in block.factors} == {True}
    assert {block.operators for block in made.study.runs} == {("szp",)}


# What is chosen


def test_more_flops_never_leave_more_and_are_never_overspent(first: Fit) -> None:
    """Exactly on the ladder of budgets; between rungs a greedy choice may be a little worse than one before."""
    pool = pool_of(first, seeds=(0, 1))
    rungs = sorted(Pool.of(first, QUESTION, pool, 4e13).ladder(4e13))[::3]
    between = np.geomspace(3e10, 4e13, 16).tolist()
    left = {}
    for flops in sorted([*rungs, *between]):
        made = design(first, QUESTION, flops, BASELINE, pool)
        assert made.flops <= flops
        left[flops] = made.variance_left
        assert all(left[flops] <= left[rung] * (1 + 1e-9) for rung in rungs if rung <= flops)
    values = np.array(list(left.values()))
    assert np.all(values[1:] <= 1.02 * values[:-1])
    assert values[0] > 0.5 > 0.2 > values[-1] > 0


def test_reported_flops_are_those_of_the_members_as_they_train(made: Design) -> None:
    assert sum(trained_flops(member.config) for member in made.members) == pytest.approx(made.flops, rel=1e-12)
    assert 0.5 * made.budget < made.flops <= made.budget


def test_the_study_reads_back_to_the_chosen_runs(made: Design) -> None:
    again = parse_study(study_text(made.study))
    assert again == made.study
    assert again.members() == made.members
    assert sum(trained_flops(member.config) for member in again.members()) == pytest.approx(made.flops, rel=1e-12)


def test_a_base_is_paid_once_and_shares_its_trunk_with_the_scratch_run_of_its_shape(first: Fit) -> None:
    """120k grown from 60k, then 60k to 40 tokens per parameter: what lies beyond the base's trunk is added."""
    pool = Pool.of(first, QUESTION, pool_of(first, seeds=(0,)), 1e15)
    names = {
        (one.block.sizes[0], one.block.factors[0], len(one.block.budgets)): i
        for i, one in enumerate(pool.candidates)
    }
    grown, other, scratch = names["120k", 2.0, 1], names["120k", 2.0, 4], names["60k", 1.0, 4]
    both = pool.add(pool.add(Chosen(), grown), other)
    assert both.flops == pytest.approx(pool.alone[other])
    base = pool.candidates[grown].member.origin.base
    assert base.key == pool.candidates[scratch].member.key
    more = pool.add(both, scratch).flops - both.flops
    assert more == pytest.approx(pool.alone[scratch] - trained_flops(base.config))


def test_a_greedy_choice_leaves_what_its_runs_at_once_would(first: Fit) -> None:
    pool = Pool.of(first, QUESTION, pool_of(first, seeds=(0,)), 3e12)
    for worth in WORTHS:
        variance, chosen = greedy(pool, worth, 3e12)
        assert len(chosen.picked) > 3
        assert variance / pool.belief.variance == pytest.approx(pool.left(chosen), rel=1e-6)


def test_what_can_still_be_paid_is_not_left_over(first: Fit) -> None:
    """A run that is too dear does not end the choice."""
    pool = Pool.of(first, QUESTION, pool_of(first), 3e12)
    for worth in WORTHS:
        _, chosen = greedy(pool, worth, 3e12)
        missing = pool.added(chosen, np.arange(len(pool.candidates)))
        assert not np.any((missing > 0) & (missing <= 3e12 - chosen.flops))


def test_a_later_seed_never_has_more_budgets_than_the_one_before(made: Design) -> None:
    budgets = {
        (size, factor, seed): len(block.budgets)
        for block in made.study.runs
        for size, factor, seed in product(block.sizes, block.factors, block.seeds)
    }
    assert any(seed for _, _, seed in budgets)
    for (size, factor, seed), count in budgets.items():
        assert seed == 0 or count <= budgets[size, factor, seed - 1]


def test_blocks_join_what_differs_in_seed_or_size_alone(first: Fit) -> None:
    pool = pool_of(first, sizes=(6e4, 1.2e5), factors=(2.0,))
    (scratch, grown) = joined(one for one in pool if len(one.block.budgets) == 4)
    assert (scratch.factors, grown.factors) == ((1.0,), (2.0,))
    for block in (scratch, grown):
        assert block.sizes == ("60k", "120k")
        assert block.seeds == (0, 1, 2)


def test_equal_runs_of_the_best_design_beat_random_ones(first: Fit, made: Design) -> None:
    pool = Pool.of(first, QUESTION, pool_of(first), 3e12)
    left = [pool.left(each) for each in at_random(pool, 3e12)]
    assert made.variance_left < min(left)
    assert made.width < made.random_width
    assert all(each.flops <= 3e12 for each in at_random(pool, 3e12))


def test_all_candidates_are_all_there_is(first: Fit) -> None:
    pool = pool_of(first, seeds=(0,))
    everything = design(first, QUESTION, 1e20, BASELINE, pool)
    assert everything.everything
    assert everything.width == pytest.approx(everything.random_width)
    assert not design(first, QUESTION, 1e12, BASELINE, pool).everything


# What is expected


def test_now_is_what_predict_says(first: Fit, warmstart: Fit) -> None:
    published = Question(N=1e8, g=2.0, D=2e9, D_base=1e9, operator="szp")
    for known, question, size in ((first, QUESTION, 6e4), (warmstart, published, 8e7)):
        grid = replace(Grid.around(known, question, range(1)), sizes=(size,), factors=(2.0,))
        now = design(known, question, 1e20, BASELINE, candidates(BASELINE, grid, lambda member: True)).now
        decision = decide(known, question)
        for name in ("value", "low", "high"):
            assert getattr(now.difference, name) == pytest.approx(getattr(decision.difference, name), rel=1e-12)


def test_the_interval_after_is_narrower_by_the_root_of_the_variance_left(made: Design) -> None:
    now, after = made.now.difference, made.after.difference
    assert after.value == now.value
    assert (after.high - after.low) / (now.high - now.low) == pytest.approx(made.variance_left**0.5, rel=1e-3)


def test_the_right_sign_is_that_of_later_estimates_by_simulation() -> None:
    """Draw a truth, an observation of it, the posterior mean; count how often the signs agree."""
    rng = np.random.default_rng(0)
    centre, truth, noise = -0.4, rng.normal(-0.4, 1.0, 400_000), 0.8
    gain = 1 / (1 + noise**2)
    estimate = centre + gain * (truth + rng.normal(0, noise, len(truth)) - centre)
    counted = np.mean(np.sign(estimate) == np.sign(truth))
    assert right_sign(centre, truth - centre, 1 - gain) == pytest.approx(counted, abs=0.003)
    assert right_sign(centre, truth - centre, 1.0) == pytest.approx(np.mean(truth < 0), abs=1e-12)
    assert right_sign(centre, truth - centre, 0.0) == 1.0


def refits(first_seed: int, repeats: int, flops: float) -> FloatArray:
    """Per repeat, in ln: the decision's standard deviation before, as promised, after the designed runs and after
    random ones; and the errors of these two's estimates.
    """
    points, run = ladder_study()
    rng = np.random.default_rng(first_seed)
    found = []
    for _ in range(repeats):
        loss = losses(points, run, rng)
        before = fitted(points, loss, run)
        made = designed(before, flops)
        pool = Pool.of(before, QUESTION, pool_of(before), flops)
        picked = next(at_random(pool, flops)).picked
        random = [pool.candidates[i].member for i in picked]
        deviation, _ = said(before)
        row = [deviation, deviation * made.variance_left**0.5]
        after = [said(refitted(points, loss, run, rows_of(members), rng)) for members in (made.members, random)]
        found.append([*row, *(spread for spread, _ in after), *(error for _, error in after)])
    return np.array(found)


def refitted(points: Points, loss: FloatArray, run: FloatArray, more: object, rng: np.random.Generator) -> Fit:
    """The ladder's fit with more runs, their losses by the same law and noise."""
    names = [each.name for each in fields(Points)]
    joint = Points(*(np.concatenate([getattr(points, name), getattr(more.points, name)]) for name in names))
    return fitted(joint, np.concatenate([loss, losses(more.points, more.run, rng)]), np.append(run, 9 + more.run))


def said(fit: Fit) -> tuple[float, float]:
    """Standard deviation of the decision over draws, and the law's error against the truth."""
    grown = Points.of(QUESTION.N, QUESTION.D, QUESTION.g, QUESTION.D_base, "szp")
    by_fit, by_draws = (
        a - b for a, b in zip(fit.log_predict(grown), fit.log_predict(grown.from_scratch()), strict=True)
    )
    truth = np.log(SZP_LAW.predict(grown) / SZP_LAW.predict(grown.from_scratch()))
    return float(np.std(by_draws)), float((by_fit - truth)[0])


def test_refits_with_the_designed_runs_are_surer_than_with_random_ones() -> None:
    before, promised, kept, random = refits(1, 5, 3e12)[:, :4].mean(axis=0)
    assert kept < 0.92 * random < 0.92 * before
    assert promised == pytest.approx(kept, rel=0.25)


@pytest.mark.slow
def test_refits_keep_what_the_design_promises() -> None:
    """Over many studies: intervals as wide as promised, errors as large as they say, random runs worse."""
    found = refits(2, 40, 3e12)
    _, promised, kept, random = found[:, :4].mean(axis=0)
    designed_error, random_error = np.sqrt((found[:, 4:] ** 2).mean(axis=0))
    assert promised == pytest.approx(kept, rel=0.2)
    assert designed_error == pytest.approx(promised, rel=0.3)
    assert kept < 0.9 * random
    assert designed_error < random_error


# Grids and costs


def test_a_ladder_has_doublings_of_the_question_and_both_ends() -> None:
    assert ladder(5, 40, 20) == (5, 10, 20, 40)
    assert ladder(77, 287, 100) == (77, 100, 200, 287)
    assert ladder(1.7, 20, 2) == (1.7, 2, 4, 8, 20)
    assert ladder(3, 3, 3) == (3,)
    assert ladder(0.99, 4.01, 2) == (1, 2, 4), "a step more or less is no other budget"
    with pytest.raises(InputError, match="smaller one first"):
        ladder(4, 3, 3)


def test_smaller_budgets_are_the_same_ladder_whatever_may_be_spent(first: Fit) -> None:
    small, large, endless = (
        list(Pool.of(first, QUESTION, pool_of(first), flops).ladder(flops)) for flops in (1e12, 1e13, 1e30)
    )
    assert (small[0], large[0], endless[0]) == (1e12, 1e13, 1e30)
    assert small[1:] == large[1 : len(small)] == endless[1 : len(small)]
    assert 1e12 / 2**0.25 <= small[-1] < 1e12
    assert len(endless) < 100


@pytest.mark.parametrize("kind", ["wsd", "cosine", "constant"])
@pytest.mark.parametrize("decay", [0.05, 0.2, 1.0])
def test_steps_of_a_run_are_those_of_its_stages(kind: str, decay: float) -> None:

    from scalegrow.train.stages import stages

    plain = Recipe("50k", budgets=("1tpp", "7tpp", "20tpp")).config()
    config: RunConfig = replace(plain, schedule=Schedule(kind, decay=decay))
    ends = [config.steps(budget) for budget in config.budgets]
    assert trained_steps(config, ends) == sum(stage.end - stage.start for stage in stages(config))
    assert trained_flops(config) == trained_steps(config, ends) * config.tokens_per_step * config.flops_per_token
    assert trained_steps(config, []) == 0


def test_one_trunk_costs_less_than_a_run_for_each_budget() -> None:
    """0.8 x 40 + 0.2 x 75 = 47 tokens per parameter instead of 75."""
    config = Recipe("50k", budgets=("5tpp", "10tpp", "20tpp", "40tpp")).config()
    ends = [config.steps(budget) for budget in config.budgets]
    assert trained_steps(config, ends) / config.steps("1tpp") == pytest.approx(47, rel=0.01)


def test_a_grown_row_has_the_base_s_tokens_before_its_decay(first: Fit) -> None:
    one = next(one for one in pool_of(first) if one.member.origin)
    rows, base = rows_of([one.member]), one.member.origin.base.config
    start = decay_start(base, base.steps(base.budgets[0]))
    assert rows.points.D_base.max() == start * base.tokens_per_step
    assert start / base.steps(base.budgets[0]) == pytest.approx(0.8, abs=0.01)
    asked, n_params = QUESTION.D_base / QUESTION.N_base, base.model.shape.n_params
    assert rows.points.D_base.max() / n_params == pytest.approx(asked, rel=0.01), "seen, not trained to"
    assert rows.points.grown.tolist() == [True, False]  # its base is a scratch run like any
    small = rows_of([one.member], smallest=one.member.config.model.shape.n_params)
    assert small.points.grown.tolist() == [True]


def test_bases_without_a_trunk_are_grown_annealed(first: Fit) -> None:
    cosine = replace(BASELINE, settings={"schedule.kind": "cosine"})
    grid = Grid.around(first, QUESTION, (0,))
    grown = [one.member for one in candidates(cosine, grid, lambda member: True) if one.member.origin]
    assert all(member.origin.annealed for member in grown)
    constant = replace(BASELINE, settings={"schedule.kind": "constant"})
    with pytest.raises(InputError, match="none of its losses annealed"):
        candidates(constant, replace(grid, factors=(2.0,)), lambda member: member.origin is not None)


# Studies as text

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SCALARS = TEXTS | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans()
NAMES = st.lists(TEXTS.filter(lambda part: part and "." not in part), min_size=1, max_size=3).map(".".join)
SETTINGS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=1)


@given(data=TEXTS, over=SETTINGS, base=SETTINGS, values=st.lists(SCALARS, min_size=1), seed=st.integers(0, 2**60))
def test_any_study_reads_back(
    data: str, over: dict[str, object], base: dict[str, object], values: list, seed: int
) -> None:
    block = Block(("30k",), (1.0, 2.5), seeds=(0, seed), data=(data,), settings=over, base_settings=base)
    study = Study(
        replace(BASELINE, data=data, budgets=("5tpp", data), settings=over),
        (Block(("1M", data)), replace(block, vary={"optimiser.lr": values}, base_stage="annealed", gammas=(0.5,))),
    )
    assert parse_study(study_text(study)) == study


# Refusals


def test_what_cannot_be_designed_is_refused(first: Fit, chinchilla: Fit) -> None:
    pool = pool_of(first)
    refused = {
        "knows no grown runs": (chinchilla, QUESTION, 1e12),
        "operator 'tile' is not in this fit": (first, replace(QUESTION, operator="tile"), 1e12),
        "50 draws are too few": (replace(first, draws=first.draws[:50]), QUESTION, 1e12),
        "same difference": (replace(first, draws=np.tile(first.law.theta, (200, 1))), QUESTION, 1e12),
        "residuals are all 0": (replace(first, noise=Noise(np.zeros(3), np.zeros(3))), QUESTION, 1e12),
    }
    for words, (known, question, flops) in refused.items():
        with pytest.raises(InputError, match=words):
            design(known, question, flops, BASELINE, pool)


def test_too_few_flops_are_told_the_price_which_is_enough(first: Fit) -> None:
    pool = pool_of(first)
    cheapest = min(
        sum(trained_flops(each.config) for each in [one.member]) for one in pool if not one.member.origin
    )
    with pytest.raises(InputError, match=f"29.9k from scratch to 5tpp, costs {cheapest:.2e}".replace("e+", "e")):
        design(first, QUESTION, 0.99 * cheapest, BASELINE, pool)
    assert design(first, QUESTION, cheapest, BASELINE, pool).flops == cheapest


def test_candidates_that_no_operator_makes_are_refused(first: Fit) -> None:
    with pytest.raises(InputError, match="off the ladder"):
        pool_of(first, sizes=(100.0,))
    assert not [
        one
        for one in candidates(BASELINE, Grid.around(first, QUESTION, (0,)), lambda m: not m.origin)
        if one.member.origin
    ]


# The command

ASKED = (
    "design",
    "--base",
    "60k",
    "--factor",
    "2",
    "--budget",
    "20tpp",
    "--size-min",
    "30k",
    "--size-max",
    "120k",
)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code, in this process: importing torch takes longer than a design."""
    monkeypatch.setattr(sys, "argv", ["scalegrow", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_study_that_sweep_plans_for_the_same_flops(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.joinpath("study.toml").write_text(
        '[baseline]\ndata = "stories"\nn_layers = 4\nsettings.optimiser.lr = 0.005\n'
        '[[runs]]\nsizes = ["30k"]\nseeds = [4, 6]\n'
    )
    asked = (*ASKED, "--flops", "1e13", "--out", "next.toml", "--baseline", "study.toml", "--json")
    assert command(monkeypatch, *asked) == 0
    data = json.loads(capsys.readouterr().out)
    documented = Path(__file__).parents[1].joinpath("docs", "json.md").read_text()
    schema = documented.split("## scalegrow-design/1")[1].split("##")[0]
    assert all(field == "schema" or field in schema for field in data)
    assert data["study"] == folder.joinpath("next.toml").read_text()
    assert {each["seed"] for each in data["runs"]} <= {7, 8, 9}
    assert command(monkeypatch, "sweep", "next.toml", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)["runs"]
    assert sorted(each["key"] for each in planned) == sorted(each["key"] for each in data["runs"])
    assert sum(each["flops"] for each in planned) == pytest.approx(data["flops"], rel=1e-12)
    assert data["flops"] <= data["budget_flops"] == 1e13
    assert data["width"] < data["random_width"]
    assert data["now"]["probability_sign_right"] < data["expected"]["probability_sign_right"]


def test_the_command_prints_runs_and_expectations(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *ASKED, "--flops", "1e12") == 0
    out = capsys.readouterr().out
    for words in (
        "szp x",
        "seeds",
        "now",
        "expected with them",
        "Random runs",
        "--out next.toml",
        "Recipe: data stories; all else",
        "EXTRAPOLATES",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80
    assert not list(folder.iterdir())


def test_runs_of_other_data_than_the_fitted_ones_are_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    novel, plain = folder / "novel.txt", Recipe("", data="stories")
    fitted = replace(read_fit(shipped_fit("reference")), provenance={"data": "stories 0"})
    assert other_data(fitted, plain) == other_data(fitted, Recipe("")) == ""
    assert "the fitted runs learned stories 0, these regression" in other_data(fitted, Recipe("", kind="network"))
    assert "these novel.txt" in other_data(fitted, Recipe("", data="novel.txt"))
    assert other_data(replace(fitted, provenance={}), Recipe("", data="novel.txt")) == "", "not known"
    study = folder / "study.toml"
    study.write_text(f'[baseline]\ndata = "{novel}"\ntokenizer = "bytes"\n[[runs]]\nsizes = ["30k"]\n')
    assert command(monkeypatch, *ASKED, "--flops", "1e12", "--baseline", str(study)) == 2
    assert f"{novel}, the data of {study}, is not there" in capsys.readouterr().err


def test_sizes_that_the_operator_cannot_grow_are_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below 10k parameters there is no base."""
    asked = (*ASKED[:7], "--size-min", "12k", "--size-max", "15k")
    assert command(monkeypatch, *asked, "--flops", "1e12", "--json") == 0
    out, error = capsys.readouterr()
    assert {each["arm"] for each in json.loads(out)["runs"]} == {"scratch"}
    assert "note: szp can grow none of these sizes" in error


BAD = [
    (("--flops", "1e5"), "costs"),
    (("--flops", "lots"), "is not a number of FLOPs"),
    (("--flops", "1e12", "--seeds", "0"), "give 1 to 100"),
    (("--flops", "1e12", "--size-max", "10k"), "smaller one first"),
    (("--flops", "1e12", "--fit", "chinchilla"), "knows no grown runs"),
    (("--flops", "1e12", "--operator", "stack"), "szp, net2net"),
    (("--flops", "1e12", "--baseline", "nowhere.toml"), "cannot be opened"),
    (("--flops", "1e12", "--level", "1"), "interval level"),
    (("--flops", "1e12", "--out", "no/such/folder.toml"), "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, *ASKED, *arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("scalegrow: ")
    assert error.count("\n") == 1, error
    assert words in error
    assert not list(folder.iterdir())
