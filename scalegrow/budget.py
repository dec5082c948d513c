"""How long a run trains (tokens, tokens per parameter, FLOPs) and who pays for its base.

Symbols: N parameters, D tokens, C = 6 N D FLOPs.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from scalegrow.errors import InputError
from scalegrow.shape import FLOPS_PER_PARAM
from scalegrow.units import format_count, format_flops, parse_count, parse_flops

CHINCHILLA_TPP = 20.0  # Hoffmann et al. 2022, table 3: about 20 tokens per parameter are compute-optimal
BudgetKind = Literal["tpp", "tokens", "flops"]
CostMode = Literal["sunk", "paid", "amortised"]

_TPP = re.compile(r"(?P<number>.+?)\s*(?:tpp|tokens?\s*(?:/|per)\s*param(?:eter)?s?)", re.IGNORECASE)
_TOKENS = re.compile(r"(?P<number>.+?)\s*(?:tokens?|toks?)", re.IGNORECASE)
_FLOPS = re.compile(r".*flops?", re.IGNORECASE)
_TIMES_CHINCHILLA = re.compile(r"(?P<number>.+?)\s*x\s*C", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """A training budget of the trained model: `value` tokens per parameter, tokens, or FLOPs."""

    kind: BudgetKind
    value: float

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
        except InputError:
            pass
        raise InputError(f"{text!r} is not a budget: write 20tpp, 2B tokens, 1e19 flops or 1xC.")

    def tokens(self, n_params: float) -> float:
        """D for a model of N parameters: value N, value, or value / (6 N)."""
        divide = {"tpp": 1 / n_params, "tokens": 1.0, "flops": FLOPS_PER_PARAM * n_params}
        return self.value / divide[self.kind]

    def flops(self, n_params: float) -> float:
        """C = 6 N D."""
        return FLOPS_PER_PARAM * n_params * self.tokens(n_params)

    def tpp(self, n_params: float) -> float:
        """D / N."""
        return self.tokens(n_params) / n_params

    def __str__(self) -> str:
        if self.kind == "flops":
            return format_flops(self.value, 15)
        return format_count(self.value, 15) + {"tpp": "tpp", "tokens": " tokens"}[self.kind]


@dataclass(frozen=True)
class BaseCost:
    """Who pays the base model's own training: sunk (nobody), paid (this run), amortised over `targets` runs."""

    mode: CostMode = "sunk"
    targets: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "BaseCost":
        """sunk, paid or amortised:K with K >= 1 grown models sharing one base. Raises InputError."""
        mode, colon, targets = text.strip().lower().replace("amortized", "amortised").partition(":")
        if mode in get_args(CostMode) and (mode == "amortised") == bool(colon):
            try:
                count = float(targets) if colon else 1.0
            except ValueError:
                count = 0.0
            if 1 <= count < float("inf"):
                return cls(mode, count)  # type: ignore[arg-type]
        raise InputError(f"{text!r} is no base cost: write sunk, paid or amortised:4 (one base for 4 models).")

    @property
    def share(self) -> float:
        """The fraction of the base's training FLOPs charged to one grown run: 0, 1 or 1/K."""
        return 0.0 if self.mode == "sunk" else 1.0 / self.targets

    def charge(self, base_flops: float) -> float:
        """FLOPs charged to one grown run."""
        return self.share * base_flops

    def __str__(self) -> str:
        return f"amortised:{self.targets:g}" if self.mode == "amortised" else self.mode
