"""P2: which early signal foretells the end? Rank correlations with the final loss, and the regret of each.

    python analyses/warm_start_signals.py

Signals of one grown state: zero-step KL (base to grown, nats), held-out loss, KL to the base and escape after 16
and 128 steps. Kendall's tau_b over all candidates of one base, mean over bases with Student's t at 95 %; + where
the less the better (of escape: the more). Regret: the final loss of the candidate that the signal is best for,
above the best candidate's of the same base.
"""

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from scipy import stats
from warm_starts import LAGS, Mean, by_base, named, rows, settings

ROUNDING = 6  # digits: what preserves differs by rounding errors, which no rank should count
SIGNALS = {"zero_step_kl": 1.0} | {
    f"{kind}_{lag}": sign for lag in LAGS for kind, sign in (("loss", 1.0), ("kl", 1.0), ("escape", -1.0))
}


def main() -> None:
    drawn = []
    for setting, cell in settings(rows()):
        _, final = by_base(cell, "loss")
        print(f"{named(setting)}; {len(final)} bases")
        areas = by_base(cell, "area")[1]
        print("  signal         tau with the end    with the area       regret of its choice")
        for name, sign in SIGNALS.items():
            signal = (sign * by_base(cell, name)[1]).round(ROUNDING)
            tau, of_area = (Mean.of(taus(signal, outcome)) for outcome in (final, areas))
            regret = Mean.of(np.array([chosen(s, y) for s, y in zip(signal, final, strict=True)]))
            told = [f"{each.value:+.2f} ± {each.reach:.2f}{each.star}" for each in (tau, of_area)]
            print(f"  {name:14s} {told[0]:18s}  {told[1]:18s}  {regret.value:.4f} ± {regret.reach:.4f}")
            drawn.append({"setting": named(setting), "signal": name, "tau": tau.value, "regret": regret.value})
        print()
    base = alt.Chart(pl.DataFrame(drawn)).encode(
        x=alt.X("tau:Q", title="Kendall's tau with the final loss", scale=alt.Scale(domain=[-1, 1])),
        y=alt.Y("signal:N", title=None, sort=list(SIGNALS)),
        color=alt.Color("setting:N", title=None, scale=alt.Scale(range=COLOURS)),
        shape=alt.Shape("setting:N", title=None),
    )
    rule = alt.Chart().mark_rule(color="#555555", strokeDash=[4, 3]).encode(x=alt.datum(0))
    save(alt.layer(rule, base.mark_point(filled=True, size=70), data=pl.DataFrame(drawn)), "warm_start_signals")


def taus(signal: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Of every base."""
    return np.array([stats.kendalltau(s, y).statistic for s, y in zip(signal, outcome, strict=True)])


def chosen(signal: np.ndarray, final: np.ndarray) -> float:
    """The mean regret of the candidates that share the least signal."""
    return float(final[signal == signal.min()].mean() - final.min())


if __name__ == "__main__":
    main()
