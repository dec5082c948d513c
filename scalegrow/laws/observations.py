"""What a fit sees of a run table: points, log losses, and which rows are not independent."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.law import Form
from scalegrow.laws.points import SCRATCH, FloatArray, Points

IntArray = npt.NDArray[np.intp]
NEIGHBOURS = tuple(product((-1, 0, 1), repeat=2))
SAME_CELL = 0.01  # relative difference of N or D that rounding of a schedule can cause


@dataclass(frozen=True)
class Observations:
    """n rows: points, y = ln(response), run and cluster of each row as integers from 0."""

    points: Points
    y: FloatArray
    run: IntArray
    cluster: IntArray

    @classmethod
    def of(
        cls,
        points: Points,
        response: npt.ArrayLike,
        run: npt.ArrayLike | None = None,
        cluster: npt.ArrayLike | None = None,
    ) -> "Observations":
        """Arrays of one length; every row its own run, and every run its own cluster, unless said."""
        y = np.log(np.asarray(response, dtype=float))
        if not np.all(np.isfinite(y)):
            raise InputError("the losses hold NaN, zero or negative values: drop those rows.")
        run_ids = _as_integers(np.arange(len(y)) if run is None else run)
        return cls(points, y, run_ids, run_ids if cluster is None else _as_integers(cluster))

    @classmethod
    def from_table(cls, table: pl.DataFrame, form: Form) -> "Observations":
        """The columns of a checked run table that this form needs.

        Scratch-only forms refuse grown rows: a grown run is not a point of a scratch law.
        """
        operators = table["operator"].to_numpy().astype(np.str_)
        grown = operators != SCRATCH
        wants_base = "D_base" in form.variables
        if grown.any() and not wants_base:
            raise InputError(
                f"{form.name} is a law of scratch runs, but {grown.sum()} rows are grown: "
                "keep scratch rows or fit a joint law such as fading-transfer."
            )
        if form.response not in table.columns:
            raise InputError(
                f"{form.name} predicts '{form.response}', a column this table lacks: add it, in tokens."
            )
        base = table["base_tokens"].fill_null(0.0).to_numpy()
        points = Points.of(
            table["n_params"].to_numpy(),
            table["tokens"].to_numpy(),
            table["growth_factor"].to_numpy() if form.joint else 1.0,
            base if wants_base else 0.0,
            operators if form.joint else SCRATCH,
        )
        return cls.of(points, table[form.response].to_numpy(), table["run"].to_numpy(), table["base"].to_numpy())

    def __len__(self) -> int:
        return len(self.y)

    @property
    def n_runs(self) -> int:
        """Independent training runs."""
        return len(np.unique(self.run))

    @property
    def n_clusters(self) -> int:
        """Groups of runs that share a base."""
        return len(np.unique(self.cluster))

    def take(self, keep: npt.NDArray[np.bool_]) -> "Observations":
        """The rows of a mask, runs and clusters renumbered."""
        return Observations(
            self.points.take(keep),
            self.y[keep],
            _as_integers(self.run[keep]),
            _as_integers(self.cluster[keep]),
        )

    def pairs(self) -> list[tuple[int, int]]:
        """(grown row, scratch row) at the same N and D within 1 %: the cells in which arms compare."""
        places = np.log(np.stack([self.points.N, self.points.D], axis=1))
        cells = np.floor(places / SAME_CELL).astype(np.int64)
        scratch: dict[tuple[int, int], list[int]] = {}
        for j in np.flatnonzero(~self.points.grown):
            scratch.setdefault((cells[j, 0], cells[j, 1]), []).append(int(j))
        found = []
        for i in np.flatnonzero(self.points.grown):
            near = [
                (float(np.abs(places[j] - places[i]).max()), j)
                for step in NEIGHBOURS
                for j in scratch.get((cells[i, 0] + step[0], cells[i, 1] + step[1]), ())
            ]
            if near and min(near)[0] < SAME_CELL:
                found.append((int(i), min(near)[1]))
        return found


def operators_in(table: pl.DataFrame) -> tuple[str, ...]:
    """The growth operators of a table, in order of appearance."""
    names = table["operator"].unique(maintain_order=True).to_list()
    return tuple(name for name in names if name != SCRATCH)


def _as_integers(labels: npt.ArrayLike) -> IntArray:
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.intp)
