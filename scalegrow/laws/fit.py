"""fit(form, observations) -> Fit: the one fitter, for every law."""

import numpy as np

from scalegrow.errors import InputError
from scalegrow.laws.domain import Domain
from scalegrow.laws.fitted import Fit, FitStatus, Noise
from scalegrow.laws.law import Form, Law
from scalegrow.laws.loss import Huber, Loss
from scalegrow.laws.observations import Observations
from scalegrow.laws.points import FloatArray, Units
from scalegrow.laws.solve import Certificate, Fixed, Optimum, Setup, solve, spectrum
from scalegrow.laws.uncertainty import Draws, draw

FLAT = 1e-9  # smallest scaled eigenvalue of a Hessian that still tells coefficients apart
CERTIFIED = 1e-8  # relative decrement and second-solver gain below which an optimum is one
LOOSE = 1e3  # ends of a 95 % interval farther apart than this times say that a coefficient is hardly known
OFTEN = 0.05  # a coefficient that vanishes in this share of draws is not identified
FEWEST_DRAWS = 2
MAX_NOISE = 1000  # residuals kept in a fit: enough for any quantile that is asked


def fit(
    form: Form,
    observations: Observations,
    *,
    loss: Loss | None = None,
    fixed: Fixed | None = None,
    resampling: str = "auto",
    draws: int = 2000,
    seed: int = 0,
) -> Fit:
    """The coefficients that minimise sum_n rho(ln L_n - ln L_hat_n), with draws, status and certificate.

    fixed: {name: value} holds a coefficient; {name: (low, high)} sweeps it evenly over the draws, for
    coefficients that the data cannot tell. Where the runs themselves do not tell one, few draws are made. Raises
    InputError when there are fewer runs than coefficients.
    """
    loss = loss or Huber()
    if draws < FEWEST_DRAWS:
        raise InputError(f"{draws} draws make no interval: ask for at least {FEWEST_DRAWS}, better 1000 or more.")
    setup = Setup.of(form, observations, loss, fixed or {})
    require_enough_runs(setup)
    optimum = solve(setup)
    hopeless = unidentified(setup, optimum)  # whatever draws would say: they are the most of the work
    drawn = draw(setup, optimum, resampling, FEWEST_DRAWS if hopeless else draws, seed)
    status, message = (FitStatus.NOT_IDENTIFIED, hopeless) if hopeless else diagnose(setup, optimum, drawn)
    return Fit(
        law=Law.at(form, form.change_units(optimum.theta, setup.units, Units())),
        draws=drawn.theta,
        status=status,
        message=message,
        certificate=optimum.certificate,
        domain=Domain.of(observations.points, form.variables),
        noise=noise_of(setup, optimum),
        loss=repr(loss),
        resampling=drawn.method,
        n_rows=len(observations),
        n_runs=observations.n_runs,
        n_clusters=observations.n_clusters,
        fixed=dict(fixed or {}),
    )


def require_enough_runs(setup: Setup) -> None:
    """Fewer independent runs than coefficients cannot be fitted, whatever the number of checkpoints."""
    n_runs, n_free = setup.observations.n_runs, int(setup.problem.free.sum())
    if n_runs <= n_free:
        raise InputError(
            f"{n_runs} {'run' if n_runs == 1 else 'runs'} cannot determine {n_free} coefficients of "
            f"{setup.form.name}: give at least {n_free + 1} runs, or hold coefficients fixed with --fix."
        )


def unidentified(setup: Setup, optimum: Optimum) -> str:
    """A sentence naming coefficients that the fit itself does not determine; '' where it does."""
    if names := vanished(setup, optimum):
        return f"{join(names)} went to 0: these runs show no such term."
    if names := flat_directions(setup, optimum):
        return f"{join(names)} cannot be told apart by these runs."
    return ""


def diagnose(setup: Setup, optimum: Optimum, drawn: Draws) -> tuple[FitStatus, str]:
    """The status of a fit that determines its coefficients, and one sentence naming those it is about."""
    form, certificate = setup.form, optimum.certificate
    if often := {name: share for name, share in drawn.vanished.items() if share > OFTEN}:
        name, share = max(often.items(), key=lambda item: item[1])
        return FitStatus.NOT_IDENTIFIED, f"{name} goes to 0 in {share:.0%} of the resampled fits."
    if certificate.decrement > CERTIFIED or certificate.second_solver < -CERTIFIED or drawn.converged < 0.99:
        return FitStatus.NOT_CERTIFIED, (
            f"relative decrement {certificate.decrement:.1e}, second solver {certificate.second_solver:+.1e}, "
            f"{drawn.converged:.1%} of the draws converged."
        )
    if names := [form.names[i] for i in np.flatnonzero(optimum.pinned)]:
        return FitStatus.AT_BOUND, f"{join(names)} ended on a bound."
    held = "" if not setup.fixed else f" {describe_fixed(setup.fixed)}"
    return FitStatus.CONVERGED, f"{reached(certificate)}.{held}{describe_loose(setup, drawn)}"


def describe_loose(setup: Setup, drawn: Draws) -> str:
    """The coefficients that the draws spread over more than LOOSE times; '' where there are none.

    Predictions may be known where they are not: two that trade against each other, as A and alpha do, leave the
    losses inside the data all but unmoved.
    """
    low, high = np.quantile(setup.form.values(drawn.theta), [0.025, 0.975], axis=0)
    free = setup.problem.free & (low > 0)
    names = [setup.form.names[i] for i in np.flatnonzero(free) if high[i] > LOOSE * low[i]]
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return f" {join(names)} {verb} hardly known alone: rely on what the law predicts inside the data."


def reached(certificate: Certificate) -> str:
    """'8 starts reached 1 optimum'."""
    word = "optimum" if certificate.optima == 1 else "optima"
    return f"{certificate.starts} starts reached {certificate.optima} {word}"


def describe_fixed(fixed: Fixed) -> str:
    """What was not fitted: 'E swept over 0.4 to 1.3.'"""
    words = [
        f"{name} swept over {value[0]:g} to {value[1]:g}"
        if isinstance(value, tuple)
        else f"{name} held at {value:g}"
        for name, value in fixed.items()
    ]
    return "; ".join(words) + "." if words else ""


def vanished(setup: Setup, optimum: Optimum) -> list[str]:
    """Free scales that ended at their lower bound: their term is gone."""
    return [
        c.name
        for i, c in enumerate(setup.form.coefficients)
        if c.kind == "scale" and optimum.pinned[i] and optimum.theta[i] <= setup.problem.lower[i]
    ]


def flat_directions(setup: Setup, optimum: Optimum) -> list[str]:
    """The coefficients that take part in a direction along which the objective does not change."""
    movable = np.flatnonzero(setup.problem.free & ~optimum.pinned)
    values = np.array(optimum.certificate.eigenvalues)
    if setup.loss.path()[0] is not setup.loss and len(values) and values.min() <= FLAT:
        values, vectors = smooth_spectrum(setup, optimum)
    else:
        vectors = optimum.eigenvectors
    flat = values < FLAT
    if not flat.any():
        return []
    weight = np.abs(vectors[:, flat]).max(axis=1)
    return [setup.form.names[movable[i]] for i in np.flatnonzero(weight > 0.3)]


def smooth_spectrum(setup: Setup, optimum: Optimum) -> tuple[FloatArray, FloatArray]:
    """The spectrum of J'J: what the design could tell, where a kinked loss has no curvature to show."""
    J = setup.problem.surface.jacobian(optimum.theta)[:, setup.problem.free & ~optimum.pinned]
    return spectrum(J.T @ J, np.ones(J.shape[1], dtype=bool))


def noise_of(setup: Setup, optimum: Optimum) -> Noise:
    """Residuals of rows and of grown-scratch pairs, times sqrt(n/(n - p))."""
    obs = setup.observations
    r = setup.problem.y - setup.problem.surface.value(optimum.theta[None])[0][0]
    n, n_free = len(r), int(setup.problem.free.sum())
    r = r * np.sqrt(n / max(n - n_free, 1))
    paired = np.array([r[i] - r[j] for i, j in obs.pairs()])
    return Noise(thinned(r), thinned(paired))


def thinned(values: FloatArray) -> FloatArray:
    """At most MAX_NOISE of them, evenly spaced in rank."""
    ordered = np.sort(values)
    if len(ordered) <= MAX_NOISE:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, MAX_NOISE).astype(int)]


def join(names: list[str]) -> str:
    """'E', 'E and A', 'E, A and B'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
