"""Every number and figure of the reference studies, from the shipped tables: docs/claims/NAME.txt and NAME.svg.

python analyses/claims.py [NAME ..]
"""

import argparse
import contextlib
import io
import time

import base_cost
import factor_kinds
import gain_by_budget
import gamma_condensation
import gamma_curve
import gamma_growth
import gamma_settings
import gamma_tokens
import growth_bound
import preservation
import published_against_ours
import reliable_factor
import simple_operators
import study_laws
import tuning
import warm_start_choice
import warm_start_effects
import warm_start_ranks
import warm_start_signals
from figures import FIGURES

CLAIMS = {
    claim.__name__: claim
    for claim in (
        growth_bound,
        reliable_factor,
        gain_by_budget,
        preservation,
        simple_operators,
        tuning,
        base_cost,
        factor_kinds,
        study_laws,
        published_against_ours,
        warm_start_ranks,
        warm_start_signals,
        warm_start_effects,
        warm_start_choice,
        gamma_curve,
        gamma_tokens,
        gamma_settings,
        gamma_condensation,
        gamma_growth,
    )
}


def told(name: str) -> str:
    """What a claim's script prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        CLAIMS[name].main()
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CLAIMS, []], default=[])
    started = time.perf_counter()
    for name in parser.parse_args().names or CLAIMS:
        text = told(name)
        FIGURES.mkdir(parents=True, exist_ok=True)
        (FIGURES / f"{name}.txt").write_text(text)
        print(f"== {name}: {(CLAIMS[name].__doc__ or '').splitlines()[0]}\n\n{text}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
