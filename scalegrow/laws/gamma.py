"""The loss against gamma, the exponent of the initialisation's std = fan_in^-gamma: its minimum, and how it moves.

Symbols: N parameters, D tokens, tpp = D / N, gamma* the best gamma, u = gamma - gamma*, L loss, nats per token.

    L(gamma; N, D) = L* + A (u^2 + k u^3 + l u^4)
    gamma* = g0 + gN ln(N / N0) + gD ln(tpp / tpp0)      ln A = a0 + aN ln(N / N0) + aD ln(tpp / tpp0)

L* is the loss at gamma*, of which the law says nothing: only differences over gamma count. gamma is that of
arXiv 2606.17945; the form is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalegrow.laws.domain import Domain
from scalegrow.laws.points import FloatArray
from scalegrow.laws.store import rounded
from scalegrow.runs.config import LARGEST_GAMMA

STANDARD = 0.5  # of gamma: std = fan_in^-1/2
NAMES = ("g0", "gN", "gD", "a0", "aN", "aD", "k", "l")
LEAST = np.array([-2.0, -1.0, -1.0, -16.0, -3.0, -3.0, -20.0, 0.0])  # wide bounds of the coefficients
MOST = np.array([4.0, 1.0, 1.0, 6.0, 3.0, 3.0, 20.0, 100.0])


@dataclass(frozen=True)
class GammaLaw:
    """A fitted curve: coefficients (8,) in the order of NAMES, draws (M, 8) of them, and what it rests on.

    middle: N0 and tpp0. gammas: the least and the largest measured. domain: N and tpp of the runs. noise: the
    standard deviation of a run about the curve of its cell, nats per token.
    """

    coefficients: FloatArray
    draws: FloatArray
    middle: tuple[float, float]
    gammas: tuple[float, float]
    domain: Domain
    noise: float
    n_runs: int
    data: str

    def change(self, gamma: FloatArray, N: float, tpp: float) -> tuple[FloatArray, FloatArray]:
        """L(gamma) - L(STANDARD) at every gamma: the estimate [n], and of every draw [M, n]."""
        where = np.log([N / self.middle[0], tpp / self.middle[1]])
        both = np.concatenate([self.coefficients[None], self.draws])
        found = curve(both, gamma, where) - curve(both, np.array([STANDARD]), where)
        return found[0], found[1:]

    @property
    def trendless(self) -> tuple[str, ...]:
        """Of N and tpp, those whose effect is unknown: the runs had one size, or one budget."""
        both = np.concatenate([self.coefficients[None], self.draws])
        trends = (("N", "gN", "aN"), ("tpp", "gD", "aD"))
        return tuple(name for name, *pair in trends if not both[:, [NAMES.index(each) for each in pair]].any())

    def to_data(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "coefficients": dict(zip(NAMES, rounded(self.coefficients), strict=True)),
            "middle": list(self.middle),
            "gammas": list(self.gammas),
            "domain": {name: [low, high] for name, low, high in self.domain.ranges},
            "noise": self.noise,
            "runs": self.n_runs,
            "data": self.data,
            "draws": [rounded(draw) for draw in self.draws],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "GammaLaw":
        """The law that `to_data` wrote. Raises KeyError, TypeError or ValueError on damage."""
        draws = np.array(data["draws"], dtype=float)
        coefficients = np.array([data["coefficients"][name] for name in NAMES], dtype=float)
        if draws.ndim != 2 or draws.shape[1] != len(NAMES):
            raise ValueError("draws do not match the law")
        if not all(np.all((each >= LEAST) & (each <= MOST)) for each in (coefficients, draws)):
            raise ValueError("coefficients are out of range")
        (N0, tpp0), (low, high) = ((float(first), float(last)) for first, last in (data["middle"], data["gammas"]))
        ranges = {name: (float(least), float(most)) for name, (least, most) in data["domain"].items()}
        if not all(0 < least <= most < math.inf for least, most in ((N0, N0), (tpp0, tpp0), *ranges.values())):
            raise ValueError("sizes and budgets are not above nought")
        noise = float(data["noise"])
        if {*ranges} != {"N", "tpp"} or not 0 <= low < high <= LARGEST_GAMMA or not 0 <= noise < math.inf:
            raise ValueError("domain, gammas or noise are out of range")
        domain = Domain(tuple((name, *edges) for name, edges in ranges.items()))
        return cls(
            coefficients, draws, (N0, tpp0), (low, high), domain, noise, int(data["runs"]), str(data["data"])
        )


def curve(theta: FloatArray, gamma: FloatArray, where: FloatArray) -> FloatArray:
    """A (u^2 + k u^3 + l u^4) of M coefficients [M, 8] at gamma [n]: [M, n].

    where: ln N / N0 and ln tpp / tpp0, one place [2] or each gamma's own [2, n].
    """
    A, u, k, l = _parts(theta, gamma, where)  # noqa: E741
    return np.asarray(A * u**2 * (1 + k * u + l * u**2))


def curve_gradient(theta: FloatArray, gamma: FloatArray, where: FloatArray) -> FloatArray:
    """The derivatives of `curve` by each coefficient [8, M, n]."""
    A, u, k, l = _parts(theta, gamma, where)  # noqa: E741
    by_minimum = -A * u * (2 + 3 * k * u + 4 * l * u**2)
    by_height = A * u**2 * (1 + k * u + l * u**2)
    moving = [by * step for by in (by_minimum, by_height) for step in (1.0, *where)]
    return np.stack([*moving, A * u**3, A * u**4])


def _parts(theta: FloatArray, gamma: FloatArray, where: FloatArray) -> tuple[FloatArray, ...]:
    """A and u [M, n], k and l [M, 1]."""
    g0, gN, gD, a0, aN, aD, k, l = (column[:, None] for column in theta.T)  # noqa: E741
    u = gamma - (g0 + gN * where[0] + gD * where[1])
    return np.exp(a0 + aN * where[0] + aD * where[1]), u, k, l
