"""A selection study, fitted: effects on the final loss and what probes add, as one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.document import read_document, write_document
from scalegrow.laws.points import Points
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import Choice, Effects, Setting, choose

SCHEMA = "scalegrow-selection/1"
ADVICE = "make one with 'scalegrow select --runs TABLE --out FILE'"


@dataclass(frozen=True)
class Selection:
    """effects of the candidates; links: what a probe of so many steps adds, by its lag."""

    effects: Effects
    links: Mapping[int, ProbeLink]

    @classmethod
    def fit(cls, rows: pl.DataFrame) -> "Selection":
        """From rows of `outcomes`, with a link for each lag they have."""
        effects = Effects.fit(rows)
        lags = sorted(int(name.removeprefix("kl_")) for name in rows.columns if name.startswith("kl_"))
        return cls(effects, {lag: ProbeLink.fit(rows, lag, effects) for lag in lags})

    def link(self, lag: int) -> ProbeLink | None:
        """That of the nearest lag in ratio; None without any."""
        nearest = min(self.links, key=lambda each: max(each / lag, lag / each), default=None)
        return None if nearest is None else self.links[nearest]

    def choose(
        self, names: Mapping[str, str], setting: Setting, losses: Sequence[float] | None, lag: int, level: float
    ) -> Choice:
        """Among candidates by their name and the study's, with the losses of a probe of `lag` steps, if any."""
        effects, link = self.effects.of(tuple(names.values())), self.link(lag)
        if losses is None or link is None:
            found = choose(effects, setting, level)
        else:
            found = link.choose(effects, setting, np.array(losses), level)
        return replace(found, candidates=tuple(names))

    def times_outside(self, setting: Setting, N: float) -> dict[str, float]:
        """How many times beyond the study's runs a target of N parameters lies, by variable; 1 inside."""
        asked = Points.of(N, N * setting.tpp, setting.g, N / setting.g * setting.base_tpp)
        return {name: float(ratio[0]) for name, ratio in self.effects.domain.extrapolation(asked).items()}


def write_selection(selection: Selection, path: Path) -> None:
    """Write it as JSON, whole or not at all. Raises InputError."""
    links = [link.to_data() for link in selection.links.values()]
    write_document(path, SCHEMA, {"effects": selection.effects.to_data(), "links": links})


def read_selection(path: Path) -> Selection:
    """Raises InputError where the file is missing, damaged or another."""
    data = read_document(path, SCHEMA, ADVICE)
    try:
        links = [ProbeLink.from_data(each) for each in data["links"]]
        return Selection(Effects.from_data(data["effects"]), {link.lag: link for link in links})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): {ADVICE}.") from None
