"""The effect of every warm start by regime, budget, base and factor, after 16 steps, after 128 and at the end.

    python analyses/warm_start_effects.py

The model of scalegrow/plan/select.py on all settings: loss minus zero_pad's on the same base, nats per token, by
least squares with standard errors robust to bases (statsmodels); empty where the runs do not vary a term. Then
P(best) and the expected regret on a new base, at the corners of what was measured.
"""

import math

import altair as alt
import polars as pl
from figures import COLOURS, save
from warm_starts import LAGS, rows

from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC
from scalegrow.plan.select import TERMS, Effects, Setting, choose

OUTCOMES = {"loss": "final loss"} | {f"loss_{lag}": f"loss after {lag} steps" for lag in LAGS}
CORNERS = [Setting(stochastic, tpp, 20, 4) for stochastic in (False, True) for tpp in (5, 10, 20)]


def main() -> None:
    found = rows()
    for outcome, label in OUTCOMES.items():
        effects = Effects.fit(found, outcome)
        print(f"{label}: {effects.n_runs} runs from {effects.n_bases} bases")
        print(f"  {'':23s} " + " ".join(f"{term:18s}" for term in TERMS))
        for name, values, errors in zip(effects.candidates, effects.coefficients, effects.errors, strict=True):
            told = [cell(value, error) for value, error in zip(values, errors, strict=True)]
            print(f"  {name:23s} " + " ".join(f"{text:18s}" for text in told))
        print()
    effects = Effects.fit(found)
    drawn = []
    print("P(best), and expected regret, of the final loss on a new base; base 20 tpp, g = 4")
    for setting in CORNERS:
        choice = choose(effects, setting)
        regime = STOCHASTIC if setting.stochastic else DETERMINISTIC
        told = [(choice.candidates[i], choice.p_best[i], choice.regret[i]) for i in choice.regret.argsort()]
        place = f"{regime}, {setting.tpp:g} tpp"
        print(f"  {place}: " + ", ".join(f"{name} {p:.2f} {regret:.4f}" for name, p, regret in told[:4]))
        drawn += [{"setting": place, "candidate": name, "p": float(p)} for name, p, _ in told]
    chart = (
        alt.Chart(pl.DataFrame(drawn))
        .mark_bar()
        .encode(
            x=alt.X("p:Q", title="P(best) on a new base", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("setting:N", title=None, sort=None),
            color=alt.Color("candidate:N", title=None, scale=alt.Scale(range=COLOURS)),
        )
    )
    save(chart, "warm_start_effects")


def cell(value: float, error: float) -> str:
    """A coefficient with its standard error; nothing where it is not told."""
    return "" if math.isnan(error) else f"{value:+.4f} ({error:.4f})"


if __name__ == "__main__":
    main()
