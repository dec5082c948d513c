"""Sizes and FLOPs: what people write comes out as the number they mean, and back."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalegrow.errors import InputError
from scalegrow.units import format_count, format_flops, parse_count, parse_flops

POSITIVE = st.floats(min_value=1e-300, max_value=1e300)

COUNTS = {
    "50M": 50e6,
    "50m": 50e6,
    " 50 M ": 50e6,
    "1.2B": 1.2e9,
    "1.2g": 1.2e9,
    "300k": 300e3,
    "300K": 300e3,
    "2T": 2e12,
    "5e7": 5e7,
    "5E+7": 5e7,
    "50_000_000": 50e6,
    "50,000,000": 50e6,
    "1,234.5M": 1234.5e6,
    ".5B": 0.5e9,
    "7": 7.0,
}
NO_COUNTS = [
    *("", " ", "M", "fifty", "50X", "50MB", "50MM", "50M!", "5 0M", "50\nM\nX", "0x10", "٣M"),
    *("-5M", "+5M", "0", "0M", "0e9", "nan", "inf", "-inf", "1e999", "1e-999", "1e6M", "5e"),
    *("1_", "_1", "1__0", "1.2.3", ",500"),
    *("50,00", "5,0000,000"),  # a comma that separates no thousands may be somebody's decimal point
]

FLOPS = {
    "1e19": 1e19,
    "1e19 flops": 1e19,
    "1e19FLOPs": 1e19,
    "1e19 FLOP": 1e19,
    "3.2 EFLOPs": 3.2e18,
    "3.2eflops": 3.2e18,
    "2 ZFLOPs": 2e21,
    "5 Pflop": 5e15,
    "1,000 flops": 1e3,
}
NO_FLOPS = ["", "flops", "-1e19 flops", "0 flops", "1e19 FLOP/s", "3.2 E", "1e3 EFLOPs", "2B flops", "nan flops"]


@pytest.mark.parametrize(("text", "value"), COUNTS.items())
def test_counts_mean_what_people_mean(text: str, value: float) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize("text", NO_COUNTS)
def test_what_is_no_count_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_count(text)
    assert str(refusal.value) == f"{text!r} is not a size: write 50M, 1.2B or 50e6"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e7, "50M"),
        (1.234e9, "1.23B"),
        (999_499, "999k"),
        (999_500, "1M"),
        (999_999, "1M"),
        (1000, "1k"),
        (999, "999"),
        (999.6, "1k"),
        (7, "7"),
        (0.5, "0.5"),
        (2e12, "2T"),
        (999.4e12, "999T"),
        (999.6e12, "1e15"),
        (1.234e15, "1.23e15"),
        (1.234e-9, "1.23e-9"),
        (0, "0"),
        (-1.5e6, "-1.5M"),
    ],
)
def test_counts_are_written_short(value: float, text: str) -> None:
    assert format_count(value) == text


def test_few_digits_keep_the_zeros_before_the_point() -> None:
    assert format_count(123e6, digits=1) == "100M"


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written(x: float) -> None:
    for write in (format_count, format_flops):
        with pytest.raises(InputError, match=f"^{x!r} cannot be written"):
            write(x)


@given(x=POSITIVE, digits=st.integers(1, 17))
def test_a_count_reads_back_to_its_digits(x: float, digits: int) -> None:
    assert parse_count(format_count(x, digits)) == float(f"{x:.{digits - 1}e}")


@given(x=POSITIVE, digits=st.integers(1, 17))
def test_flops_read_back_to_their_digits(x: float, digits: int) -> None:
    assert parse_flops(format_flops(x, digits)) == float(f"{x:.{digits - 1}e}")


def outcome(parse: Callable[[str], float], text: str) -> float | str:
    """The number, or the refusal."""
    try:
        return parse(text)
    except InputError as refusal:
        return str(refusal)


@given(text=st.text(), parse=st.sampled_from([parse_count, parse_flops]))
def test_any_text_gives_a_positive_number_or_one_line(text: str, parse: Callable[[str], float]) -> None:
    found = outcome(parse, text)
    assert len(found.splitlines()) == 1 if isinstance(found, str) else 0 < found < math.inf


@pytest.mark.parametrize(("text", "value"), FLOPS.items())
def test_flops_mean_what_people_mean(text: str, value: float) -> None:
    assert parse_flops(text) == value


@pytest.mark.parametrize("text", NO_FLOPS)
def test_what_is_no_flops_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_flops(text)
    assert str(refusal.value).startswith(f"{text!r} is not a number of FLOPs: write ")


def test_flops_are_written_scientifically() -> None:
    assert [format_flops(x) for x in (1.2e19, 5e7, 9.999e20, 0)] == [
        "1.2e19 FLOPs",
        "5e7 FLOPs",
        "1e21 FLOPs",
        "0e0 FLOPs",
    ]
