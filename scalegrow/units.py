"""Sizes and FLOPs as people write them: "50M", "1.2B", "3.2 EFLOPs"  <->  numbers."""

import math
import re
from decimal import Decimal

from scalegrow.errors import InputError

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = rf"(?P<digits>{_DIGITS})(?P<exponent>e[+-]?[0-9]+)?"
_COUNT = re.compile(rf"{_NUMBER}\s*(?P<prefix>[kmbgt])?", re.IGNORECASE)
_FLOPS = re.compile(rf"{_NUMBER}\s*(?:(?P<prefix>[kmgtpezyr])?flops?)?", re.IGNORECASE)

_COUNT_POWERS = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
_FLOPS_POWERS = {"k": 3, "m": 6, "g": 9, "t": 12, "p": 15, "e": 18, "z": 21, "y": 24, "r": 27}  # SI
_SUFFIXES = ("", "k", "M", "B", "T")


def parse_count(text: str) -> float:
    """A size above zero: 50M, 1.2B, 300k, 2T, 5e7, 50_000_000 or 50,000,000.

    k, M, B (or G) and T, in either case, are 10^3, 10^6, 10^9 and 10^12. A suffix and an exponent do not
    mix. Raises InputError on anything else.
    """
    return _positive(_COUNT.fullmatch(text.strip()), _COUNT_POWERS, text, "a size: write 50M, 1.2B or 50e6")


def parse_flops(text: str) -> float:
    """FLOPs above zero: 1e19, 1e19 FLOPs or 3.2 EFLOPs, with SI prefixes in either case.

    Raises InputError on anything else, a rate (FLOP/s) among it.
    """
    match = _FLOPS.fullmatch(text.strip())
    return _positive(match, _FLOPS_POWERS, text, "a number of FLOPs: write 1e19 flops or 3.2 EFLOPs")


def format_count(x: float, digits: int = 3) -> str:
    """x to `digits` significant digits: 50M, 1.23B, 999, and 1.2e15 from 10^15 on.

    parse_count reads any positive x back, to those digits. Raises InputError if x is not finite.
    """
    value = _rounded(x, digits)
    power = value.adjusted() if value else 0
    if not -4 < power < 15:
        return _scientific(value)
    group = max(power // 3, 0)
    return _plain(value.scaleb(-3 * group)) + _SUFFIXES[group]


def format_flops(x: float, digits: int = 3) -> str:
    """x to `digits` significant digits, always scientific: 1.2e19 FLOPs.

    parse_flops reads any positive x back, to those digits. Raises InputError if x is not finite.
    """
    return _scientific(_rounded(x, digits)) + " FLOPs"


def _positive(match: re.Match[str] | None, powers: dict[str, int], text: str, hint: str) -> float:
    """The number a match holds, rounded once: 1.1B is the float nearest to 1.1e9."""
    refusal = InputError(f"{text!r} is not {hint}")
    if match is None or (match["exponent"] and match["prefix"]):
        raise refusal
    digits = match["digits"].replace(",", "").replace("_", "")
    exponent = f"e{powers[match['prefix'].lower()]}" if match["prefix"] else match["exponent"] or ""
    value = float(digits + exponent)
    if not 0 < value < math.inf:
        raise refusal
    return value


def _rounded(x: float, digits: int) -> Decimal:
    if not math.isfinite(x):
        raise InputError(f"{x!r} cannot be written as a size: give a finite number")
    return Decimal(f"{x:.{digits - 1}e}")


def _scientific(value: Decimal) -> str:
    power = value.adjusted() if value else 0
    return f"{_plain(value.scaleb(-power))}e{power}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
