"""A selection study, fitted: effects on the final loss and what probes add, as one file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.document import read_document, write_document
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import Effects

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
