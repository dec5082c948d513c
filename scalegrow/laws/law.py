"""A law is a form with its coefficients: a frozen value, whether published or fitted.

Inside the fitter every coefficient is one real number, theta: scales (E, A, B ...) enter as logs,
exponents as they are. N and D may be measured in any units; `change_units` carries theta along.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.points import SCRATCH, FloatArray, Points, Units

Power = tuple[Literal["N", "D"], Literal[-1, 1], str]
LOG_OF_NOTHING = -690.0  # exp() of it is 1e-300: a scale fixed at 0, still finite in log


@dataclass(frozen=True)
class Coefficient:
    """One coefficient of a form: its name, how it is fitted, where it may lie.

    kind "scale": positive, fitted as its log; per: the powers (variable, sign, exponent) whose units
    it carries, so A N^-alpha has per = (("N", -1, "alpha"),). kind "exponent": a real in [lower, upper].
    """

    name: str
    kind: Literal["scale", "exponent"]
    lower: float = 0.0
    upper: float = np.inf
    per: tuple[Power, ...] = ()


def scale(name: str, *per: Power) -> Coefficient:
    """A positive factor, fitted as its log."""
    return Coefficient(name, "scale", per=per)


def exponent(name: str, lower: float = 0.0, upper: float = 4.0) -> Coefficient:
    """A plain number inside wide bounds; ending on a bound is reported, never hidden."""
    return Coefficient(name, "exponent", lower, upper)


class Surface(Protocol):
    """f = ln(prediction) over n fixed points for a batch of M thetas, and sums of its derivatives.

    `state` is whatever `value` computed and the sums can use again.
    """

    def value(self, theta: FloatArray) -> tuple[FloatArray, Any]:
        """f (M, n) at theta (M, p), and the state."""

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """grad f_n of every point at one theta (p,): (n, p)."""

    def gradient(self, state: Any, b: FloatArray) -> FloatArray:
        """sum_n b_n grad f_n, for weights b (M, n): (M, p)."""

    def gram(self, state: Any, a: FloatArray) -> FloatArray:
        """sum_n a_n grad f_n grad f_n', for weights a (M, n): (M, p, p)."""

    def curvature(self, state: Any, b: FloatArray) -> FloatArray:
        """sum_n b_n Hess f_n, for weights b (M, n): (M, p, p)."""


@dataclass(frozen=True)
class Form(ABC):
    """The family of a law: its formula, its coefficients and ln L as a function of them.

    operators: the growth operators that have coefficients of their own (joint laws only).
    """

    operators: tuple[str, ...] = ()

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    response: ClassVar[str] = "loss"
    scales_are_shares: ClassVar[bool] = False  # every scale is a term of the loss, and can vanish

    @property
    @abstractmethod
    def coefficients(self) -> tuple[Coefficient, ...]:
        """The coefficients in the order of theta."""

    @abstractmethod
    def surface(self, points: Points) -> Surface:
        """ln L and its derivatives over these points."""

    @abstractmethod
    def starts(self, points: Points, y: FloatArray) -> FloatArray:
        """Seeds for the fitter, (m, p), from the data alone; y = ln(response)."""

    @property
    def joint(self) -> bool:
        """Whether the form knows grown runs as well as scratch."""
        return "g" in self.variables

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficient names, in the order of theta."""
        return tuple(c.name for c in self.coefficients)

    def index(self, name: str) -> int:
        """Where a coefficient stands in theta."""
        if name not in self.names:
            raise InputError(f"{self.name} has no coefficient '{name}': choose from {', '.join(self.names)}.")
        return self.names.index(name)

    def check(self, points: Points) -> None:
        """Refuse operators that this form has no coefficients for."""
        unknown = sorted(set(points.operator.tolist()) - {SCRATCH, *self.operators})
        if self.joint and unknown:
            known = ", ".join(self.operators) or "no grown runs"
            raise InputError(
                f"operator '{unknown[0]}' is not in this fit, which knows {known}: "
                "choose one of these or fit runs grown by it."
            )

    def check_runs(self, points: Points) -> None:
        """Refuse runs that this form cannot be fitted to at all."""
        self.check(points)

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """Natural coefficient values to theta (p,)."""
        return np.array([to_theta(c, float(values[c.name])) for c in self.coefficients])

    def values(self, theta: FloatArray) -> FloatArray:
        """theta (..., p) to natural coefficient values (..., p)."""
        scales = np.array([c.kind == "scale" for c in self.coefficients])
        return np.where(scales, np.exp(np.where(scales, theta, 0.0)), theta)

    def change_units(self, theta: FloatArray, old: Units, new: Units) -> FloatArray:
        """The same law with N and D measured in other units: A' = A (N_new/N_old)^-alpha."""
        out = np.array(theta, dtype=float)
        ratio = {"N": np.log(new.N / old.N), "D": np.log(new.D / old.D)}
        for i, c in enumerate(self.coefficients):
            for variable, sign, power in c.per:
                out[..., i] += sign * theta[..., self.index(power)] * ratio[variable]
        return out

    def log_predict(self, theta: FloatArray, points: Points) -> FloatArray:
        """ln L (M, n) for a batch of thetas (M, p) in plain units."""
        self.check(points)
        return self.surface(points).value(np.atleast_2d(theta))[0]


def to_theta(coefficient: Coefficient, value: float) -> float:
    """A natural value as the fitter sees it: scales as logs."""
    if coefficient.kind == "exponent":
        return value
    if value < 0 or not np.isfinite(value):
        raise InputError(f"{coefficient.name} = {value} is not possible: give a number >= 0.")
    return float(np.log(value)) if value > 0 else LOG_OF_NOTHING


@dataclass(frozen=True)
class Law:
    """A form with coefficient values; the same type for published and fitted laws."""

    form: Form
    coefficients: tuple[float, ...]

    @classmethod
    def of(cls, form: Form, **values: float) -> "Law":
        """A law from named coefficients: Law.of(Chinchilla(), E=1.69, A=406.4, ...)."""
        if set(values) != set(form.names):
            raise InputError(f"{form.name} needs exactly the coefficients {', '.join(form.names)}.")
        return cls(form, tuple(float(values[name]) for name in form.names))

    @classmethod
    def at(cls, form: Form, theta: FloatArray) -> "Law":
        """A law from theta (p,) in plain units."""
        return cls(form, tuple(float(v) for v in form.values(theta)))

    def __getitem__(self, name: str) -> float:
        return self.coefficients[self.form.index(name)]

    @property
    def theta(self) -> FloatArray:
        """The coefficients as the fitter sees them, (p,)."""
        return self.form.theta(dict(zip(self.form.names, self.coefficients, strict=True)))

    def predict(self, points: Points) -> FloatArray:
        """The predicted loss in nats per token (or the form's response), (n,)."""
        predicted: FloatArray = np.exp(self.form.log_predict(self.theta, points)[0])
        return predicted
