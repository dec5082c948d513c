"""How long a run trains (tokens, tokens per parameter, FLOPs) and who pays for its base.

Symbols: N parameters, D tokens, C = 6 N D FLOPs.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from scalegrow.errors import InputError
from scalegrow.shape import FLOPS_PER_PARAM
from scalegrow.units import format_count, format_flops, parse_count, parse_flops

CHINCHILLA_TPP = 20.0  # Hoffmann et al. 2022, table 3: about 20 tokens per parameter are compute-optimal
BudgetKind = Literal["tpp", "tokens", "flops"]
CostMode = Literal["sunk", "paid", "amortised"]

MOST_TOKENS = 1e18  # more than all text there is; beyond, steps and FLOPs no longer count as numbers do
_TPP = re.compile(r"(?P<number>.+?)\s*(?:tpp|tok(?:en)?s?\s*(?:/|per)\s*param(?:eter)?s?)", re.IGNORECASE)
_TOKENS = re.compile(r"(?P<number>.+?)\s*(?:tokens?|toks?)", re.IGNORECASE)
_FLOPS = re.compile(r".*flops?", re.IGNORECASE)
_TIMES_CHINCHILLA = re.compile(r"(?P<number>.+?)\s*x\s*C", re.IGNORECASE)
_WAYS_TO_WRITE = "write 20tpp, 2B tokens, 1e19 flops or 1xC."


@dataclass(frozen=True)
class Budget:
    """A training budget of the trained model: `value` tokens per parameter, tokens, or FLOPs.

    Raises InputError if the value is not positive and finite.
    """

    kind: BudgetKind
    value: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(BudgetKind) or not 0 < self.value < math.inf:
            raise InputError(f"{self.value!r} {self.kind} is no budget: {_WAYS_TO_WRITE}")

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """20tpp, 20 tokens/param, 2B tokens, 1e19 flops or 5xC (5 x 20 tokens per parameter).

        Raises InputError on a bare number and on anything else.
        """
        words = text.strip()
        try:
            if match := _TPP.fullmatch(words):
                return cls("tpp", parse_count(match["number"]))
            if match := _TOKENS.fullmatch(words):
                return cls("tokens", parse_count(match["number"]))
            if _FLOPS.fullmatch(words):
                return cls("flops", parse_flops(words))
            if match := _TIMES_CHINCHILLA.fullmatch(words):
                return cls("tpp", CHINCHILLA_TPP * parse_count(match["number"]))
            parse_count(words)
        except InputError:
            raise InputError(f"{text!r} is not a budget: {_WAYS_TO_WRITE}") from None
        raise InputError(f"{text!r} names no unit: {_WAYS_TO_WRITE}")

    def tokens(self, n_params: float) -> float:
        """D for a model of N parameters: value N, value, or value / (6 N).

        Raises InputError unless N > 0, and where D exceeds MOST_TOKENS.
        """
        if not 0 < n_params < math.inf:
            raise InputError(f"{n_params!r} is no number of parameters: give one above 0, such as 50e6.")
        value = self.value
        ways = {"tpp": value * n_params, "tokens": value, "flops": value / (FLOPS_PER_PARAM * n_params)}
        if (found := ways[self.kind]) > MOST_TOKENS:
            raise InputError(f"{self} is more than {MOST_TOKENS:.0e} tokens: give a smaller budget.")
        return found

    def flops(self, n_params: float) -> float:
        """C = 6 N D."""
        return FLOPS_PER_PARAM * n_params * self.tokens(n_params)

    def tpp(self, n_params: float) -> float:
        """D / N."""
        return self.tokens(n_params) / n_params

    def __str__(self) -> str:
        """The shortest text that parse reads back to this very budget."""
        if self.kind == "flops":
            return _shortest(self.value, format_flops, parse_flops)
        return _shortest(self.value) + {"tpp": "tpp", "tokens": " tokens"}[self.kind]


@dataclass(frozen=True)
class BaseCost:
    """Who pays the base model's own training: sunk (nobody), paid (this run), amortised over `targets` runs.

    Raises InputError if targets is below 1, or above it where nothing is amortised.
    """

    mode: CostMode = "sunk"
    targets: float = 1.0

    def __post_init__(self) -> None:
        fits = 1 <= self.targets < math.inf and (self.mode == "amortised" or self.targets == 1)
        if self.mode not in get_args(CostMode) or not fits:
            raise _no_base_cost(f"{self.mode}:{self.targets:g}")

    @classmethod
    def parse(cls, text: str) -> "BaseCost":
        """sunk, paid or amortised:K with K >= 1 grown models sharing one base. Raises InputError."""
        words = text.strip().lower()
        if words in ("sunk", "paid"):
            return cls("sunk" if words == "sunk" else "paid")
        match = re.fullmatch(r"amorti[sz]ed\s*:(?P<targets>.+)", words)
        try:
            return cls("amortised", parse_count(match["targets"] if match else ""))
        except InputError:
            raise _no_base_cost(text) from None

    @property
    def share(self) -> float:
        """The fraction of the base's training FLOPs charged to one grown run: 0, 1 or 1/K."""
        return 0.0 if self.mode == "sunk" else 1.0 / self.targets

    def charge(self, base_flops: float) -> float:
        """FLOPs charged to one grown run. Raises InputError if base_flops is negative or not finite."""
        if not 0 <= base_flops < math.inf:
            raise InputError(f"{base_flops!r} cannot be the base's FLOPs: give 0 or more.")
        return self.share * base_flops

    def __str__(self) -> str:
        """The text that parse reads back."""
        return f"amortised:{_shortest(self.targets)}" if self.mode == "amortised" else self.mode


def _no_base_cost(text: str) -> InputError:
    return InputError(f"{text!r} is no base cost: write sunk, paid or amortised:4 (one base for 4 models).")


def _shortest(
    value: float,
    write: Callable[[float, int], str] = format_count,
    read: Callable[[str], float] = parse_count,
) -> str:
    """The text with the fewest digits that reads back to the same float; 17 always do."""
    texts = (write(value, digits) for digits in range(1, 18))
    return next(text for text in texts if read(text) == value)
