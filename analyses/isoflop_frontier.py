"""Approach 2 beside approach 3 on Epoch's points: the exponent a in N_opt ~ C^a, three ways.

python analyses/isoflop_frontier.py
"""

import polars as pl
from build_fits import chinchilla_table

from scalegrow.laws.frontier import frontier, isoflop_minima
from scalegrow.laws.observations import Observations
from scalegrow.laws.scratch import Chinchilla
from scalegrow.laws.store import read_fit
from scalegrow.plan.allocate import allocate
from scalegrow.runs.shipped import shipped_fit


def main() -> None:
    pl.Config.set_tbl_rows(30).set_tbl_hide_column_data_types(True)
    minima = isoflop_minima(Observations.from_table(chinchilla_table(), Chinchilla()))
    print(minima)
    for method in ("weighted", "robust"):
        answer = frontier(minima, method)
        print(f"approach 2, {method:8s}  a = {answer.exponent:.3f} ({answer.low:.3f} to {answer.high:.3f})")
    law = allocate(read_fit(shipped_fit("chinchilla")), 1e21).exponent
    print(f"approach 3           a = {law.value:.3f} ({law.low:.3f} to {law.high:.3f})")


if __name__ == "__main__":
    main()
