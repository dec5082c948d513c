"""Every figure and number of the reference study, from the shipped tables: all of its claims' scripts in turn.

python analyses/claims.py
"""

import time

import base_cost
import factor_kinds
import gain_by_budget
import growth_bound
import preservation
import published_against_ours
import reliable_factor
import simple_operators
import study_laws

CLAIMS = (
    growth_bound,
    reliable_factor,
    gain_by_budget,
    preservation,
    simple_operators,
    base_cost,
    factor_kinds,
    study_laws,
    published_against_ours,
)


def main() -> None:
    started = time.perf_counter()
    for claim in CLAIMS:
        print(f"\n== {claim.__name__}: {(claim.__doc__ or '').splitlines()[0]}\n")
        claim.main()
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
