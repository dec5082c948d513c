"""Choosing a warm start, held out: choose on some bases, score on another; regret against fixed rules.

    python analyses/warm_start_choice.py

Every base is left out in turn, the study (plan/select.py) is fitted to the others, and chooses at the setting of
the one left out, alone and with its probe (plan/probed.py). Regret: the final loss of what was chosen above the
best candidate's of that base, mean over bases with Student's t at 95 %. P: the probability that the study gave to
the candidate that it chose; hit: how often it was the best. Then the same across settings: fitted to one, used in
another.
"""

import math
from collections import defaultdict
from collections.abc import Iterator

import altair as alt
import numpy as np
import polars as pl
from figures import COLOURS, save
from reference import LEVEL
from warm_starts import COPY, LAGS, SZP, Mean, by_base, named, rows, settings, used_at

from scalegrow.plan.selection import Selection

ALWAYS = {f"always {name}": name for name in (COPY, SZP, "zero_pad", "structured_non_clone")}


def main() -> None:
    found = rows()
    cells = settings(found)
    whole = pl.concat(cell for _, cell in cells)
    regrets: dict[str, dict[str, list[float]]] = {}
    stated = defaultdict(list)
    for base in whole["group"].unique().sort():
        selection = Selection.fit(whole.filter(pl.col("group") != base))
        for setting, cell in cells:
            mine = cell.filter(pl.col("group") == base)
            for rule, regret, p, hit in judged(selection, setting, mine) if len(mine) else ():
                regrets.setdefault(named(setting), defaultdict(list))[rule].append(regret)
                stated[rule].append((p, hit))
    print("regret on the base left out, nats per token\n")
    rules = list(next(iter(regrets.values())))
    for name, by_rule in regrets.items():
        print(f"{name}; {len(by_rule[rules[0]])} bases")
        for rule in rules:
            mean = Mean.of(np.array(by_rule[rule]))
            print(f"  {rule:28s} {mean.value:.4f} ± {mean.reach:.4f}")
        print()
    print("over all settings         stated P   hits")
    for rule in rules:
        p, hit = np.array(stated[rule]).mean(0)
        print(f"  {rule:28s} {'' if np.isnan(p) else f'{p:.2f}':6s} {hit:.2f}")
    across(cells)
    draw(regrets)


def judged(
    selection: Selection, setting: tuple[str, int, float], cell: pl.DataFrame
) -> Iterator[tuple[str, float, float, float]]:
    """(rule, regret, stated P, whether it was the best) of every rule on one base."""
    names, final = by_base(cell, "loss")
    y, same = final[0], dict(zip(names, names, strict=True))
    for rule, name in ALWAYS.items():
        yield _scored(rule, y, names.index(name))
    for lag in LAGS:
        for kind in ("loss", "kl"):
            signal = by_base(cell, f"{kind}_{lag}")[1][0]
            yield _scored(f"least {kind} after {lag}", y, int(signal.argmin()))
    probes = {"study": None} | {f"study and probe of {lag}": lag for lag in LAGS}
    for rule, lag in probes.items():
        losses = by_base(cell, f"loss_{lag}")[1][0] if lag else None
        choice = selection.choose(same, used_at(setting), losses, lag or 1, LEVEL)
        yield _scored(rule, y, choice.best, float(choice.p_best[choice.best]))


def _scored(rule: str, y: np.ndarray, chosen: int, p: float = math.nan) -> tuple[str, float, float, float]:
    return rule, float(y[chosen] - y.min()), p, float(y[chosen] == y.min())


def across(cells: list[tuple[tuple[str, int, float], pl.DataFrame]]) -> None:
    """Fitted to one setting alone, the study's choice in another: its regret over all bases."""
    print("\nfitted to one setting, used in another: the choice, and its regret")
    for source, rows_there in cells:
        selection = Selection.fit(rows_there)
        for setting, cell in cells:
            names, final = by_base(cell, "loss")
            pool = {name: name for name in names if name in selection.effects.candidates}
            choice = selection.choose(pool, used_at(source), None, 1, LEVEL)
            chosen = choice.candidates[choice.best]
            mean = Mean.of(final[:, names.index(chosen)] - final.min(1))
            if source != setting:
                told = f"{named(source)} -> {named(setting)}"
                print(f"  {told:70s} {chosen:22s} {mean.value:.4f} ± {mean.reach:.4f}")


def draw(regrets: dict[str, dict[str, list[float]]]) -> None:
    """Mean regret by rule and setting."""
    points = [
        {"setting": name, "rule": rule, "regret": float(np.mean(values))}
        for name, by_rule in regrets.items()
        for rule, values in by_rule.items()
    ]
    chart = (
        alt.Chart(pl.DataFrame(points))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("regret:Q", title="regret on a base left out, nats per token"),
            y=alt.Y("rule:N", title=None, sort="-x"),
            color=alt.Color("setting:N", title=None, scale=alt.Scale(range=COLOURS)),
            shape=alt.Shape("setting:N", title=None),
        )
    )
    save(chart, "warm_start_choice")


if __name__ == "__main__":
    main()
