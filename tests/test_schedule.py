"""Schedules, stages and groups as functions of the config."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training import tiny_config

from scalegrow.errors import InputError
from scalegrow.runs.branches import decay_start, warmup_steps
from scalegrow.runs.config import RunConfig, Schedule
from scalegrow.train.optim import relative_rate
from scalegrow.train.stages import stages


def config_with(kind: str, **changes: object) -> RunConfig:
    return tiny_config(schedule=Schedule(kind, warmup="480 tokens", **changes))


def test_wsd_is_flat_then_falls_in_a_line() -> None:
    """480 tokens of 96 a step: 5 steps of warm-up; 40 steps, the last 8 falling from 1 to 1/8."""
    config = config_with("wsd")
    rates = [relative_rate(config, step, 40) for step in range(40)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:33] == [1.0] * 28
    assert rates[32:] == pytest.approx([1 - i / 8 for i in range(8)])


def test_the_trunk_never_falls() -> None:
    config = config_with("wsd")
    assert [relative_rate(config, step, None) for step in range(5, 400, 50)] == [1.0] * 8


@given(st.sampled_from(("wsd", "cosine")), st.integers(10, 500), st.floats(0, 1), st.floats(0.05, 1))
def test_rates_stay_between_final_and_one(kind: str, end: int, final: float, decay: float) -> None:
    config = config_with(kind, final=final, decay=decay)
    rates = [relative_rate(config, step, end) for step in range(end)]
    assert all(0 < rate <= 1 for rate in rates)
    after = rates[max(decay_start(config, end), warmup_steps(config)) :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))
    assert not after or after[-1] >= final - 1e-12


def test_branches_leave_the_trunk_where_their_decay_starts() -> None:
    trunk, short, long = stages(config_with("wsd"))
    assert (trunk.name, trunk.start, trunk.end, trunk.annealed) == ("trunk", 0, 32, False)
    assert {16, 32} <= trunk.keep, "a pre-decay checkpoint for every budget"
    assert (short.start, short.end, short.parent) == (16, 20, "trunk")
    assert (long.start, long.end, long.horizon, long.annealed) == (32, 40, 40, True)


def test_one_trunk_costs_less_than_a_run_a_budget() -> None:
    """5, 10, 20 and 40 tpp: 1.2 x the longest run instead of 1.9 (architecture: one trunk, many budgets)."""
    budgets = ("5tpp", "10tpp", "20tpp", "40tpp")
    config = replace(config_with("wsd"), budgets=budgets)
    steps = sum(stage.end - stage.start for stage in stages(config))
    longest = config.steps("40tpp")
    assert steps / longest == pytest.approx(0.8 + 0.2 * (1 + 1 / 2 + 1 / 4 + 1 / 8), abs=0.01)
    alone = sum(config.steps(budget) for budget in budgets) / longest
    assert alone == pytest.approx(1.875, abs=0.01)


def test_cosine_trains_each_budget_from_the_start() -> None:
    found = stages(config_with("cosine"))
    assert [(stage.start, stage.end, stage.horizon) for stage in found] == [(0, 20, 20), (0, 40, 40)]


def test_constant_is_a_trunk_that_is_never_annealed() -> None:
    (trunk,) = stages(config_with("constant"))
    assert (trunk.end, trunk.annealed) == (40, False)
    assert {20, 40} <= trunk.keep


def test_warm_up_does_not_depend_on_the_budgets() -> None:
    """Or a branch would not be the run that its budget would have been alone."""
    long, short = (tiny_config(budgets=budgets) for budgets in (("20tpp",), ("96 tokens", "20tpp")))
    assert warmup_steps(long) == warmup_steps(short)


@pytest.mark.parametrize(
    "budgets", [(), ("20tpp", "10tpp"), ("10tpp", "10tpp"), ("1 tokens", "2 tokens"), ("much",)]
)
def test_budgets_must_ascend(budgets: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        tiny_config(budgets=budgets)


@pytest.mark.parametrize(
    "wrong", [{"kind": "linear"}, {"decay": 0.0}, {"decay": 2.0}, {"final": -1.0}, {"warmup": "soon"}]
)
def test_impossible_schedules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Schedule(**wrong)
