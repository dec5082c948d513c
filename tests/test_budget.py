"""Budgets and base costs: every way to write one, the C = 6 N D they imply, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalegrow.budget import BaseCost, Budget
from scalegrow.errors import InputError

POSITIVE = st.floats(min_value=1e-100, max_value=1e100)

BUDGETS = {
    "20tpp": Budget("tpp", 20),
    "20 TPP": Budget("tpp", 20),
    "20 tokens/param": Budget("tpp", 20),
    "20 tokens per parameter": Budget("tpp", 20),
    "0.5 tok/param": Budget("tpp", 0.5),
    "5xC": Budget("tpp", 100),
    " 1 x c ": Budget("tpp", 20),
    "2B tokens": Budget("tokens", 2e9),
    "2Btok": Budget("tokens", 2e9),
    "2e9 tokens": Budget("tokens", 2e9),
    "1e19 flops": Budget("flops", 1e19),
    "1e19FLOPs": Budget("flops", 1e19),
    "3.2 EFLOPs": Budget("flops", 3.2e18),
}
TOO_MANY = ["1e300tpp", "1e11tpp", "2e18 tokens", "1e28 flops"]
NO_BUDGETS = [
    *("", "tpp", "tokens", "xC", "flops"),
    *("0tpp", "-20tpp", "nan tpp", "inf tokens", "1e999 tokens"),
    *("20 epochs", "20tppx", "1e19 FLOP/s", "20xD", "2B tokens flops", "20tpp\ntokens"),
]
NO_COSTS = [
    *("", "free", "sunk:2", "paid:1", "paid\nsunk", "amortised"),
    *(f"amortised:{targets}" for targets in ("", "0", "0.5", "-4", "nan", "inf", "all", "4:4")),
]
BARE_NUMBERS = ["20", "2B", "1e19", "50_000"]


@pytest.mark.parametrize(("text", "budget"), BUDGETS.items())
def test_budgets_mean_what_people_mean(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", NO_BUDGETS)
def test_what_is_no_budget_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        Budget.parse(text)
    assert str(refusal.value) == f"{text!r} is not a budget: write 20tpp, 2B tokens, 1e19 flops or 1xC."


@pytest.mark.parametrize("text", BARE_NUMBERS)
def test_a_bare_number_is_told_that_it_lacks_a_unit(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        Budget.parse(text)
    assert str(refusal.value) == f"{text!r} names no unit: write 20tpp, 2B tokens, 1e19 flops or 1xC."


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_positive_and_finite(value: float) -> None:
    with pytest.raises(InputError, match=r"^.+ tokens is no budget: write 20tpp"):
        Budget("tokens", value)
    with pytest.raises(InputError, match=r"^20 epochs is no budget: write 20tpp"):
        Budget("epochs", 20)  # type: ignore[arg-type]


def test_one_budget_in_three_units() -> None:
    for text in ("20tpp", "1xC", "1B tokens", "3e17 flops"):
        budget = Budget.parse(text)
        assert budget.tokens(50e6) == pytest.approx(1e9)
        assert budget.flops(50e6) == pytest.approx(3e17)
        assert budget.tpp(50e6) == pytest.approx(20)


@pytest.mark.parametrize("n_params", [0, -5e7, float("nan"), float("inf")])
def test_tokens_need_a_model(n_params: float) -> None:
    for text in ("20tpp", "1B tokens", "3e17 flops"):
        with pytest.raises(InputError, match=r"is no number of parameters: give one above 0, such as 50e6\.$"):
            Budget.parse(text).tokens(n_params)


@pytest.mark.parametrize("text", ["20tpp", "2.5tpp", "2B tokens", "1e19 FLOPs", "123456789 FLOPs"])
def test_budgets_are_written_as_people_write_them(text: str) -> None:
    assert str(Budget.parse(text)) == text.replace("123456789", "1.23456789e8")


@given(st.sampled_from(["tpp", "tokens", "flops"]), POSITIVE)
def test_a_budget_reads_back_exactly(kind: str, value: float) -> None:
    budget = Budget(kind, value)  # type: ignore[arg-type]
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "share"),
    [("sunk", 0), ("paid", 1), (" Paid ", 1), ("amortised:4", 0.25), ("amortized: 8", 0.125), ("amortised:1", 1)],
)
def test_a_base_is_charged_by_its_share(text: str, share: float) -> None:
    cost = BaseCost.parse(text)
    assert cost.share == share
    assert cost.charge(8e18) == share * 8e18


@pytest.mark.parametrize("text", NO_COSTS)
def test_what_is_no_base_cost_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        BaseCost.parse(text)
    assert str(refusal.value).startswith(f"{text!r} is no base cost: write sunk, paid or amortised:4")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(("mode", "targets"), [("sunk", 2), ("paid", 0.5), ("amortised", 0), ("free", 1)])
def test_a_base_cost_is_checked_however_it_is_made(mode: str, targets: float) -> None:
    with pytest.raises(InputError, match=f"^'{mode}:{targets:g}' is no base cost"):
        BaseCost(mode, targets)  # type: ignore[arg-type]


@pytest.mark.parametrize("base_flops", [-1, float("nan"), float("inf")])
def test_only_flops_are_charged(base_flops: float) -> None:
    with pytest.raises(InputError, match="cannot be the base's FLOPs"):
        BaseCost("paid").charge(base_flops)


@given(st.sampled_from(["sunk", "paid"]) | st.floats(1, 1e9))
def test_a_base_cost_reads_back_exactly(what: str | float) -> None:
    cost = BaseCost.parse(what) if isinstance(what, str) else BaseCost("amortised", what)
    assert BaseCost.parse(str(cost)) == cost


@pytest.mark.parametrize("text", TOO_MANY)
def test_more_tokens_than_there_are_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is more than 1e\+18 tokens: give a smaller budget"):
        Budget.parse(text).tokens(1e8)
    assert Budget("tokens", 1e18).tokens(1e8) == 1e18
