"""A selection study, fitted: effects on the final loss and what probes add, as one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from scalegrow.errors import InputError
from scalegrow.laws.document import read_document, write_document
from scalegrow.laws.points import Points
from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC, lags
from scalegrow.plan.probed import ProbeLink
from scalegrow.plan.select import REFERENCE, Choice, Effects, Setting, against, choose

SCHEMA = "scalegrow-selection/1"
ADVICE = "make one with 'scalegrow select --runs TABLE --out FILE'"


@dataclass(frozen=True)
class Selection:
    """effects of the candidates; links: what a probe of so many steps adds, by its lag.

    regimes: those of its runs. deeper: whether any of them was given layers.
    """

    effects: Effects
    links: Mapping[int, ProbeLink]
    regimes: tuple[str, ...]
    deeper: bool

    @classmethod
    def fit(cls, rows: pl.DataFrame) -> "Selection":
        """From rows of `outcomes`, with a link for each lag that all of their runs reached."""
        used = against(rows, "loss", REFERENCE)
        links = {
            lag: ProbeLink.fit(used, lag) for lag in lags(rows.columns) if not used[f"loss_{lag}"].has_nulls()
        }
        return cls(Effects.fit(rows), links, tuple(used["regime"].unique().sort()), bool(used["deeper"].any()))

    def choose(
        self, names: Mapping[str, str], setting: Setting, losses: Sequence[float] | None, lag: int, level: float
    ) -> Choice:
        """Among candidates by their name and the study's, with the losses of a probe of `lag` steps, if any.

        A lag that the study has not watched tells nothing: its losses do not compare with those that it expects.
        """
        theirs, link = tuple(names.values()), self.links.get(lag)
        if losses is None or link is None:
            found = choose(self.effects.of(theirs), setting, level)
        else:
            found = link.choose(theirs, setting, np.array(losses), level)
        return replace(found, candidates=tuple(names))

    def unseen(self, setting: Setting) -> dict[str, str]:
        """Candidates that the study did not run there, as it did others, and where that is."""
        regime = STOCHASTIC if setting.stochastic else DETERMINISTIC
        words = {
            "stochastic": f"in the {regime} regime",
            "budget": f"at about {setting.tpp:.3g} tokens per parameter",
            "base": f"from bases of about {setting.base_tpp:.3g} tokens per parameter",
            "factor": f"by a factor of about {setting.g:.3g}",
        }
        return {name: words[term] for name, term in self.effects.unseen(setting).items()}

    def seen(self, setting: Setting) -> tuple[str, ...]:
        """Candidates that the study may speak of there."""
        unseen = self.effects.unseen(setting)
        return tuple(name for name in self.effects.candidates if name not in unseen)

    def times_outside(self, setting: Setting, N: float) -> dict[str, float]:
        """How many times beyond the study's runs a target of N parameters lies, by variable; 1 inside."""
        asked = Points.of(N, N * setting.tpp, setting.g, N / setting.g * setting.base_tpp, REFERENCE)
        return {name: float(ratio[0]) for name, ratio in self.effects.domain.extrapolation(asked).items()}


def write_selection(selection: Selection, path: Path) -> None:
    """Write it as JSON, whole or not at all. Raises InputError."""
    data = {
        "effects": selection.effects.to_data(),
        "links": [link.to_data() for link in selection.links.values()],
        "regimes": list(selection.regimes),
        "deeper": selection.deeper,
    }
    write_document(path, SCHEMA, data)


def read_selection(path: Path) -> Selection:
    """Raises InputError where the file is missing, damaged or another."""
    data = read_document(path, SCHEMA, ADVICE)
    try:
        links = {link.lag: link for link in map(ProbeLink.from_data, data["links"])}
        found = Selection(Effects.from_data(data["effects"]), links, tuple(data["regimes"]), bool(data["deeper"]))
        _require_whole(found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is damaged ({error}): {ADVICE}.") from None
    return found


def _require_whole(found: Selection) -> None:
    """Raise ValueError where parts of a study do not belong together."""
    if not {*found.regimes} <= {DETERMINISTIC, STOCHASTIC}:
        raise ValueError("regimes are unknown")
    for link in found.links.values():
        if not link.probe.candidates == link.rest.candidates == found.effects.candidates:
            raise ValueError("links are of other candidates")
