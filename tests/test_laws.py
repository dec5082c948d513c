"""Every registered law through every property."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from scalegrow.errors import InputError
from scalegrow.laws import LAWS, form_named
from scalegrow.laws.fit import fit
from scalegrow.laws.law import Form, Law
from scalegrow.laws.loss import LeastSquares
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import Points, Units
from scalegrow.laws.scratch import Chinchilla
from scalegrow.laws.surfaces import LinearTerms

OPERATORS = ("szp", "net2net")
FORMS = [form_named(name, OPERATORS) for name in LAWS]
JOINT = [form for form in FORMS if form.joint]
FloatArray = npt.NDArray[np.float64]

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
every_joint_form = pytest.mark.parametrize("form", JOINT, ids=lambda form: form.name)

TRUTH = {
    "power-n": {"E": 1.7, "A": 150.0, "alpha": 0.3},
    "power-d": {"E": 1.7, "A": 900.0, "alpha": 0.3},
    "power-c": {"E": 1.7, "A": 2000.0, "alpha": 0.16},
    "kaplan": {"N_c": 8.8e13, "D_c": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    "chinchilla": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    "hernandez-transfer": {"k": 1.9e4, "a": 0.18, "b": 0.38},
    "liew-kato-reuse": {"E": 1.5, "A": 3e4, "alpha_1": 0.3, "alpha_2": 0.45, "alpha_3": 0.012},
    "isoflop-parabola": {"L_min": 2.5, "N_opt": 9e7, "w": 0.01},
}
JOINT_TRUTH = TRUTH["chinchilla"] | {
    "rho[szp]": 0.05,
    "kappa[szp]": 0.2,
    "rho[net2net]": 0.08,
    "kappa[net2net]": 0.15,
}


def truth(form: Form) -> Law:
    return Law.of(form, **(JOINT_TRUTH if form.joint else TRUTH[form.name]))


def design(form: Form) -> Points:
    """A grid of runs that determines every coefficient of the form."""
    if form.name == "isoflop-parabola":
        return Points.of(N := np.geomspace(1e7, 1e9, 15), 1e17 / N)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e6, 5e9, 6), np.geomspace(5e7, 2e11, 6)))
    if not form.joint and "D_base" not in form.variables:
        return Points.of(N, D)
    parts = [Points.of(N, D, 1.0, 3e8 * np.sqrt(N / 1e8) if not form.joint else 0.0)]
    for operator in OPERATORS if form.joint else ():
        for g in (1.5, 2.0, 4.0, 8.0):
            parts.append(Points.of(N, D, g, 20 * N / g, operator))
    return Points(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("N", "D", "g", "D_base", "operator")))


def small(form: Form) -> tuple[Points, FloatArray]:
    """A few random points near 1 and a batch of random thetas."""
    rng = np.random.default_rng(5)
    n = 9
    points = Points.of(
        rng.lognormal(0, 1, n),
        rng.lognormal(0, 1, n),
        np.r_[1.0, 1.0, rng.uniform(1.5, 8, n - 2)],
        rng.lognormal(0, 1, n),
        np.array(["szp", "net2net", *["szp", "net2net"] * 3, "szp"]) if form.joint else "scratch",
    )
    return points, rng.uniform(0.2, 0.9, (4, len(form.names)))


def derivative_errors(form: Form, points: Points, theta: FloatArray) -> tuple[float, float, float]:
    """Analytic gradient, curvature and gram sums against central differences of f."""
    rng = np.random.default_rng(6)
    surface = form.surface(points)
    b = rng.normal(size=(len(theta), len(points)))
    _, state = surface.value(theta)
    steps = 1e-6 * np.eye(theta.shape[1])

    def slope(of: Callable[[FloatArray], FloatArray]) -> FloatArray:
        return np.stack([(of(theta + h) - of(theta - h)) / 2e-6 for h in steps], axis=-1)

    jacobian = slope(lambda t: surface.value(t)[0])
    gradient = np.einsum("mn,mni->mi", b, jacobian)
    curvature = slope(lambda t: surface.gradient(surface.value(t)[1], b))
    gram = np.einsum("mn,mni,mnj->mij", b, jacobian, jacobian)
    pairs = (
        (surface.gradient(state, b), gradient),
        (surface.curvature(state, b), curvature),
        (surface.gram(state, b), gram),
    )
    first, second, third = (float(np.abs(a - n).max()) for a, n in pairs)
    return first, second, third


@every_form
def test_derivatives(form: Form) -> None:
    assert max(derivative_errors(form, *small(form))) < 2e-7


def test_derivative_check_catches_a_wrong_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the same check fails when one sum is off by a part in a thousand."""
    right = LinearTerms.gradient
    monkeypatch.setattr(LinearTerms, "gradient", lambda self, state, b: right(self, state, b) * 1.001)
    assert max(derivative_errors(Chinchilla(), *small(Chinchilla()))) > 1e-4


@every_form
def test_units_do_not_change_the_law(form: Form) -> None:
    points, theta = small(form)
    units = Units(3.0, 7.0)
    there = form.change_units(theta, Units(), units)
    assert np.allclose(
        form.surface(points.measured_in(units)).value(there)[0], form.surface(points).value(theta)[0], atol=1e-13
    )
    assert np.allclose(form.change_units(there, units, Units()), theta, atol=1e-13)


@every_form
def test_values_and_theta_are_inverse(form: Form) -> None:
    law = truth(form)
    assert form.values(law.theta) == pytest.approx(law.coefficients, rel=1e-12)
    assert Law.at(form, law.theta).coefficients == pytest.approx(law.coefficients, rel=1e-12)


@every_form
def test_noise_free_data_give_the_coefficients_back(form: Form) -> None:
    law, points = truth(form), design(form)
    made = fit(form, Observations.of(points, law.predict(points)), loss=LeastSquares(), draws=2)
    assert made.certificate.objective < 1e-14
    assert made.law.coefficients == pytest.approx(law.coefficients, rel=1e-4)


@every_form
def test_losses_are_positive_and_finite_far_outside(form: Form) -> None:
    points = Points.of([1.0, 1e15], [1e18, 1.0], 1.0, [1e3, 1e12])
    predicted = truth(form).predict(points)
    assert np.all(predicted > 0)
    if form.name != "isoflop-parabola":
        assert np.all(np.isfinite(predicted))


@every_form
def test_forms_describe_themselves(form: Form) -> None:
    assert "=" in form.formula
    assert form.source
    assert len(set(form.names)) == len(form.names)
    with pytest.raises(InputError, match="choose from"):
        form.index("no such coefficient")
    with pytest.raises(InputError, match="needs exactly"):
        Law.of(form)


@every_joint_form
def test_scratch_is_chinchilla(form: Form) -> None:
    points = Points.of(np.geomspace(1e6, 1e11, 7), np.geomspace(1e8, 1e13, 7))
    base = Law.of(Chinchilla(), **TRUTH["chinchilla"])
    assert truth(form).predict(points) == pytest.approx(base.predict(points), rel=1e-14)


@every_joint_form
@pytest.mark.parametrize("operator", OPERATORS)
def test_growing_by_nothing_is_continued_training(form: Form, operator: str) -> None:
    N, D, D_base = np.geomspace(1e6, 1e11, 5), np.geomspace(1e8, 1e12, 5), 7e9
    base = Law.of(Chinchilla(), **TRUTH["chinchilla"])
    grown = truth(form).predict(Points.of(N, D, 1.0, D_base, operator))
    assert grown == pytest.approx(base.predict(Points.of(N, D + D_base)), rel=1e-14)


@every_joint_form
@pytest.mark.parametrize("operator", OPERATORS)
def test_gain_fades_with_budget(form: Form, operator: str) -> None:
    law, D = truth(form), np.geomspace(1e8, 1e13, 40)
    gain = law.predict(Points.of(1e8, D)) - law.predict(Points.of(1e8, D, 2.0, 1e9, operator))
    assert gain[0] > 0
    assert np.all(np.diff(gain)[: int(np.argmax(gain < 0)) or None] < 0)
    assert gain[-1] <= 0


@every_joint_form
@pytest.mark.parametrize("operator", OPERATORS)
def test_too_large_a_factor_loses(form: Form, operator: str) -> None:
    g = np.geomspace(1.5, 100, 40)
    law = truth(form)
    gain = law.predict(Points.of(1e8, 2e9)) - law.predict(Points.of(1e8, 2e9, g, 20 * 1e8 / g, operator))
    assert gain[0] > 0 > gain[-1]


@every_joint_form
def test_unknown_operators_are_named(form: Form) -> None:
    with pytest.raises(InputError, match="szp, net2net"):
        truth(form).predict(Points.of(1e8, 2e9, 2.0, 1e9, "stack"))


def test_unknown_laws_are_refused() -> None:
    with pytest.raises(InputError, match="chinchilla"):
        form_named("astrology")
