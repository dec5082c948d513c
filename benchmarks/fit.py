"""Speed and quality of the fitter against peers, and cold starts of the command line.

    python benchmarks/fit.py [--quick]

One thread, one machine, one run. Peers are timed on a stated fraction of their work and scaled up
linearly. Data: Epoch's 240 points (data/chinchilla_epoch.csv without its five highest losses).
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import product

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # read when numpy is imported: every fit here runs on one thread

import numpy as np  # noqa: E402
from scipy.optimize import minimize  # noqa: E402

from scalegrow.laws.loss import Huber  # noqa: E402
from scalegrow.laws.newton import anneal, minimise  # noqa: E402
from scalegrow.laws.observations import Observations  # noqa: E402
from scalegrow.laws.points import FloatArray, Units  # noqa: E402
from scalegrow.laws.scratch import Chinchilla  # noqa: E402
from scalegrow.laws.solve import Setup, solve  # noqa: E402
from scalegrow.laws.uncertainty import draw  # noqa: E402
from scalegrow.runs.shipped import load_table  # noqa: E402
from scalegrow.runs.table import without_highest  # noqa: E402

DRAWS = 4000
EPOCH_GRID = (  # arXiv 2404.10102: 4,500 starts, as Hoffmann et al. 2022 section D.2
    (-1.0, -0.5, 0.0, 0.5, 1.0),  # ln E
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),  # ln A
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),  # ln B
    (0.0, 0.5, 1.0, 1.5, 2.0),  # alpha
    (0.0, 0.5, 1.0, 1.5, 2.0),  # beta
)
PACKAGE_GRID = 5**5  # starts of the chinchilla package's README
CLOSE = 0.01  # relative excess below which a peer's objective is called within 1 %
LOWER = 1e-9  # relative gain of a peer that would be more than rounding
HEAVY = ("torch", "altair", "statsmodels", "scipy")
AIM_POINT, AIM_BOOTSTRAP, AIM_RATIO = 0.1, 1.5, 100.0  # seconds, seconds, times faster than one BFGS a draw
AIM_HELP, AIM_PREDICT = 0.3, 1.0  # seconds


def timed(work: Callable[[], object], repeats: int = 1) -> tuple[float, object]:
    """Median wall seconds and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), result


class Peer:
    """Huber's objective in plain coordinates (ln E, ln A, ln B, alpha, beta), as scripts write it."""

    def __init__(self, setup: Setup) -> None:
        points = setup.observations.points
        self.log_n, self.log_d, self.y = np.log(points.N), np.log(points.D), setup.observations.y

    def residuals(self, theta: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """r and the shares of the three terms."""
        e, a, b, alpha, beta = theta
        terms = [np.full_like(self.y, e), a - alpha * self.log_n, b - beta * self.log_d]
        total = np.logaddexp(np.logaddexp(terms[0], terms[1]), terms[2])
        return self.y - total, [np.exp(t - total) for t in terms]

    def objective(self, theta: FloatArray, w: FloatArray | float = 1.0) -> float:
        """sum w Huber(r)."""
        with np.errstate(all="ignore"):
            value = float(np.sum(w * Huber().rho(self.residuals(theta)[0])))
        return value if np.isfinite(value) else 1e6

    def gradient(self, theta: FloatArray, w: FloatArray | float = 1.0) -> FloatArray:
        """Analytic, as automatic differentiation would give it."""
        r, (e, a, b) = self.residuals(theta)
        pull = -w * Huber().psi(r)
        return np.array(
            [
                (pull * e).sum(),
                (pull * a).sum(),
                (pull * b).sum(),
                -(pull * a) @ self.log_n,
                -(pull * b) @ self.log_d,
            ]
        )


def point_fits(setup: Setup, repeats: int) -> tuple[float, float, float]:
    """Seconds of seeds and annealed Newton, of the same with a second solver, and the objective."""
    problem, points = setup.problem, setup.observations.points.measured_in(setup.units)
    quick, _ = timed(lambda: anneal(problem, setup.form.starts(points, problem.y)), repeats)
    full, answer = timed(lambda: solve(setup), repeats)
    return quick, full, answer.certificate.objective  # type: ignore[attr-defined]


def bootstrap(setup: Setup, counts: FloatArray, repeats: int) -> tuple[float, FloatArray]:
    """Seconds of all draws as `fit` makes them, and the objectives on the draws that the peers get too."""
    optimum = solve(setup)
    seconds, _ = timed(lambda: draw(setup, optimum, "row", len(counts), seed=42), repeats)
    found = minimise(replace(setup.problem, w=counts), np.tile(optimum.theta, (len(counts), 1)))
    return seconds, found.objective


def epoch_point(peer: Peer, starts: int) -> tuple[float, FloatArray]:
    """Seconds scaled to the whole grid, and the objectives reached from a random part of it."""
    grid = np.array(list(product(*EPOCH_GRID)))
    chosen = grid[np.random.default_rng(0).permutation(len(grid))[:starts]]

    def work() -> FloatArray:
        return np.array([minimize(peer.objective, x, method="L-BFGS-B").fun for x in chosen])

    seconds, reached = timed(work)
    return seconds / starts * len(grid), np.asarray(reached)


Gradient = Callable[[FloatArray, FloatArray], FloatArray]


def gradients(peer: Peer) -> dict[str, Gradient | None]:
    """How a script may hand gradients to BFGS: by automatic differentiation, as Epoch; by SciPy; by hand."""
    made: dict[str, Gradient | None] = {}
    if find_spec("autograd") is not None:
        made["autograd, as Epoch"] = autograd_gradient(peer)
    made["numeric, SciPy's default"] = None
    made["written out by hand"] = peer.gradient
    return made


def autograd_gradient(peer: Peer) -> Gradient:
    """The same objective differentiated by the autograd package."""
    import autograd.numpy as anp
    from autograd import grad
    from autograd.scipy.special import logsumexp

    def objective(theta: FloatArray, w: FloatArray) -> FloatArray:
        terms = [
            theta[0] + 0.0 * peer.log_n,
            theta[1] - theta[3] * peer.log_n,
            theta[2] - theta[4] * peer.log_d,
        ]
        r = anp.abs(peer.y - logsumexp(anp.array(terms), axis=0))
        delta = Huber().delta
        return anp.sum(w * anp.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)))

    derivative: Gradient = grad(objective)
    return derivative


def epoch_bootstrap(
    peer: Peer, best: FloatArray, counts: FloatArray, gradient: Gradient | None
) -> tuple[float, FloatArray]:
    """Seconds scaled to all draws, and the objectives of these: one BFGS a draw from the point estimate."""

    def work() -> FloatArray:
        answers = [minimize(peer.objective, best, args=(w,), jac=gradient, method="BFGS").fun for w in counts]
        return np.array(answers)

    seconds, reached = timed(work)
    return seconds / len(counts) * DRAWS, np.asarray(reached)


def chinchilla_package(setup: Setup, side: int, peer: Peer) -> tuple[float, float] | None:
    """Seconds scaled to its README's grid, and our objective at its optimum; None if it is not installed."""
    if find_spec("chinchilla") is None:
        return None
    import chinchilla
    from chinchilla._metrics import log_huber

    points = setup.observations.points
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        model = chinchilla.Chinchilla(
            folder,
            param_grid={
                "E": np.linspace(1, 2, side),  # the grid of its README, thinned
                "a": np.linspace(1, 10, side),
                "b": np.linspace(1, 10, side),
                "alpha": np.linspace(0.1, 0.7, side),
                "beta": np.linspace(0.1, 0.7, side),
            },
            loss_fn=partial(log_huber, delta=Huber().delta),
            log_level=50,
        )
        for n, d, y in zip(points.N, points.D, np.exp(setup.observations.y), strict=True):
            model.database.append(C=6 * n * d, N=n, D=d, loss=y)
        seconds, _ = timed(lambda: model.fit(parallel=False))
        theta = np.array([np.log(model.E), np.log(model.A), np.log(model.B), model.alpha, model.beta])
    return seconds / side**5 * PACKAGE_GRID, peer.objective(theta)


def cold(arguments: list[str], repeats: int) -> float | None:
    """Median seconds of a fresh process; None if it fails."""
    command = [sys.executable, *arguments]
    try:
        return timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats)[0]
    except subprocess.CalledProcessError:
        return None


def heavy_modules() -> str:
    """Which of the heavy libraries predict loads."""
    program = (
        "import sys; sys.argv=['scalegrow','predict','--base','50M','--factor','2','--budget','20tpp','--json']\n"
        "from scalegrow.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"  # main ends the process
        f"    print(', '.join(m for m in {HEAVY} if m in sys.modules) or 'none', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        return "not known, predict failed"
    return done.stderr.strip().splitlines()[-1]


def row(label: str, seconds: float | None, note: str = "") -> None:
    shown = f"{seconds:10.3f} s   {note}" if seconds is not None else "   skipped     it did not run"
    print(f"  {label:58s} {shown}".rstrip())


def excess_note(reached: FloatArray, ours: FloatArray | float) -> str:
    """How far a peer's objectives are above ours."""
    excess = reached / ours - 1
    return (
        f"{np.mean(excess < CLOSE):.1%} within 1 % of ours; excess {excess.mean():.1e} on average, "
        f"{excess.min():.1e} to {excess.max():.1e}; lower by over {LOWER:.0e} in {np.sum(excess < -LOWER)}"
    )


def at_most(seconds: float, aim: float) -> str:
    return f"(aim: within {aim:g} s, {'met' if seconds <= aim else 'MISSED'})"


def at_least(ratio: float, aim: float) -> str:
    return f"{ratio:,.0f} x ours (aim: {aim:g} x, {'met' if ratio >= aim else 'MISSED'})"


def cold_starts(repeats: int) -> None:
    """The command line beside what Python and its libraries cost alone."""
    print(f"\nCold start, median of {repeats} fresh processes")
    row("python -c pass", cold(["-c", "pass"], repeats), "(the limit for --help)")
    help_seconds = cold(["-m", "scalegrow", "--help"], repeats)
    row("scalegrow --help", help_seconds, at_most(help_seconds or 0.0, AIM_HELP))
    limit = cold(["-c", "import numpy, polars, typer"], repeats)
    row("import numpy, polars, typer", limit, "(the limit for predict)")
    predict = ["-m", "scalegrow", "predict", "--base", "50M", "--factor", "2", "--budget", "20tpp"]
    predict_seconds = cold(predict, repeats)
    row("scalegrow predict", predict_seconds, at_most(predict_seconds or 0.0, AIM_PREDICT))
    print(f"  of {', '.join(HEAVY)}, predict loads: {heavy_modules()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller fractions of the peers' work")
    quick = parser.parse_args().quick
    starts, draws, side, repeats = (40, 40, 2, 3) if quick else (200, 200, 3, 7)

    table = load_table("chinchilla_epoch")
    table = without_highest(table, 5)
    setup = Setup.of(Chinchilla(), Observations.from_table(table, Chinchilla()), Huber(), {})
    peer, n = Peer(setup), table.height
    counts = np.random.default_rng(42).multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)

    print(f"Point fit: {n} runs, 5 coefficients, Huber(1e-3), one thread")
    ours, certified, objective = point_fits(setup, repeats)
    row("ours: seeds and annealed Newton", ours, f"objective {objective:.14g} {at_most(ours, AIM_POINT)}")
    row("ours with SciPy as second solver", certified)
    epoch_seconds, reached = epoch_point(peer, starts)
    row(
        f"L-BFGS-B as Epoch, {starts} of 4,500 starts timed",
        epoch_seconds,
        f"{epoch_seconds / ours:,.0f} x ours",
    )
    print(f"    its objectives: {excess_note(reached, objective)}")
    package = chinchilla_package(setup, side, peer)
    if package is None:
        print("    chinchilla package not installed: pip install chinchilla==0.2.0")
    else:
        label = f"chinchilla 0.2.0, {side**5} of {PACKAGE_GRID} starts timed"
        row(
            label,
            package[0],
            f"{package[0] / ours:,.0f} x ours; these starts end {package[1] / objective - 1:.1e} above ours",
        )

    print(f"\nBootstrap: {DRAWS} draws of {n} rows")
    boot, objectives = bootstrap(setup, counts, max(1, repeats // 2))
    row("ours, as fit draws them", boot, at_most(boot, AIM_BOOTSTRAP))
    plain = setup.form.change_units(solve(setup).theta, setup.units, Units())
    for name, gradient in gradients(peer).items():
        peer_boot, peer_objectives = epoch_bootstrap(peer, plain, counts[:draws], gradient)
        label = f"BFGS, gradient {name}, {draws} of {DRAWS}"
        row(label, peer_boot, at_least(peer_boot / boot, AIM_RATIO))
        print(f"    its objectives: {excess_note(peer_objectives, objectives[:draws])}")
    if find_spec("autograd") is None:
        print("    autograd not installed: pip install autograd, to time Epoch's own way")

    cold_starts(repeats)


if __name__ == "__main__":
    main()
