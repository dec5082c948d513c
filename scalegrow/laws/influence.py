"""How far each run moves a fit: the change of its predictions when the law is fitted again without that run."""

from dataclasses import replace

import numpy as np

from scalegrow.laws.loss import NEAR
from scalegrow.laws.newton import anneal
from scalegrow.laws.points import FloatArray
from scalegrow.laws.solve import Optimum, Setup
from scalegrow.laws.uncertainty import restarted


def residuals(setup: Setup, optimum: Optimum) -> FloatArray:
    """ln L_observed - ln L_predicted of every row, (n,)."""
    return np.asarray(setup.problem.y - setup.problem.surface.value(optimum.theta[None])[0][0])


def influences(setup: Setup, optimum: Optimum) -> FloatArray:
    """Of every run, in the order of its number: the root mean square change of ln L over all rows without it.

    Every law is fitted again, by the loss of the fit, from its optimum.
    """
    without = (setup.observations.run[None] != np.unique(setup.observations.run)[:, None]).astype(float)
    problem = replace(setup.problem, w=without)
    found = anneal(problem, np.tile(optimum.theta, (len(without), 1)), NEAR)
    moved = restarted(problem, found, setup.hold(optimum.seeds), problem.free).theta
    before = setup.problem.surface.value(optimum.theta[None])[0]
    return np.asarray(np.sqrt(np.mean((setup.problem.surface.value(moved)[0] - before) ** 2, axis=1)))
