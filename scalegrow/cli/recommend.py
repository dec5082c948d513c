"""What `predict` says beside its decision: the warm start to take, and the gamma to initialise with.

Both come from studies of small decoders, so that nearly every question lies far outside; how far is said.
"""

from dataclasses import dataclass
from typing import Any

from scalegrow.cli.gamma import choice_data as gamma_data
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.select import load_selection
from scalegrow.cli.select_shown import choice_data
from scalegrow.growth import Growth, widens
from scalegrow.laws.domain import LABELS, extrapolation_sentence
from scalegrow.laws.gamma import STANDARD, GammaLaw
from scalegrow.plan.advise import too_far
from scalegrow.plan.decide import Question
from scalegrow.plan.gamma import GammaChoice, choose_nearest
from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC
from scalegrow.plan.select import Choice, Setting
from scalegrow.plan.selection import Selection
from scalegrow.units import format_count

STUDY, GAMMA = "selection", "text"
MOST = 2  # candidates that are named beside the one to take


@dataclass(frozen=True)
class Recommendation:
    """choices: among the candidates that these widths allow, by regime. outside: how far beyond their runs.
    added: layers that the target has more than the base.

    gamma: the choice at N and tpp `at`, the nearest of the law's runs; its extrapolation is the question's.
    """

    selection: Selection
    choices: dict[str, Choice]
    outside: dict[str, float]
    added: int
    law: GammaLaw
    gamma: GammaChoice
    at: tuple[float, float]

    @classmethod
    def of(cls, growth: Growth, question: Question, level: float) -> "Recommendation":
        """From the shipped studies."""
        selection, law = load_selection(STUDY), load_gamma(GAMMA)
        settings = {regime: setting_of(question, regime) for regime in (DETERMINISTIC, STOCHASTIC)}
        choices = {
            regime: selection.choose(candidates_for(selection, growth, setting), setting, None, 1, level)
            for regime, setting in settings.items()
        }
        outside = selection.times_outside(settings[DETERMINISTIC], question.N)
        gamma = choose_nearest(law, question.N, question.D / question.N, level)
        return cls(selection, choices, outside, growth.blocks_added, law, *gamma)

    def sentences(self) -> tuple[str, str]:
        """The warm start's and gamma's."""
        return self._warm_start(), self._gamma()

    def _warm_start(self) -> str:
        told = [_told(regime, choice) for regime, choice in self.choices.items()]
        return (
            f"Warm start, of those that these widths allow: {'; '.join(told)}. "
            f"{_rests(self.selection.effects.n_runs, self.outside, 'scalegrow select --runs', self._depth())}"
        )

    def _depth(self) -> str:
        """That the study has no layers added, where the question has."""
        if self.selection.deeper or not self.added:
            return ""
        return f" in width alone (this target adds {self.added} layer{'s' * (self.added > 1)})"

    def _gamma(self) -> str:
        best, gain = self.gamma.best, self.gamma.gain
        where = "" if self.gamma.inside_runs else f", at the nearest measured ({_place(*self.at)})"
        return (
            f"Gamma{where}: {best.value:.2f} ({best.low:.2f} to {best.high:.2f}), which changes a run from "
            f"scratch by {gain.value:+.4f} nats ({gain.low:+.4f} to {gain.high:+.4f}) against {STANDARD:g}. "
            f"{_rests(self.law.n_runs, self.gamma.extrapolation, 'scalegrow gamma --runs')}"
        )

    def as_data(self) -> dict[str, Any]:
        """Both for a program."""
        warm = {regime: choice_data(choice) for regime, choice in self.choices.items()}
        effects = self.selection.effects
        study = {"name": STUDY, "runs": effects.n_runs, "bases": effects.n_bases}
        at = dict(zip(("n_params", "tokens_per_param"), self.at, strict=True))
        outside = {LABELS[name]: ratio for name, ratio in self.outside.items()}
        return {
            "warm_start": {**warm, "study": study, "times_outside": outside, "layers_added": self.added},
            "gamma": {**gamma_data(self.gamma), "at": at, "law": {"name": GAMMA, "runs": self.law.n_runs}},
        }


def setting_of(question: Question, regime: str = DETERMINISTIC) -> Setting:
    """Where a study of warm starts is asked, in one of its regimes."""
    tpp, base_tpp = question.D / question.N, question.D_base / question.N_base
    return Setting(regime == STOCHASTIC, tpp, base_tpp, question.g)


def candidates_for(selection: Selection, growth: Growth | None, setting: Setting) -> dict[str, str]:
    """The study's candidates that it ran there, and that the widths allow where they are known; by name."""
    names = selection.seen(setting)
    if growth:
        names = tuple(each for each in names if widens(each.partition(":")[0], growth.base, growth.target))
    return {name: name for name in names}


def _place(N: float, tpp: float) -> str:
    return f"{format_count(N)} parameters, {tpp:.3g} tokens per parameter"


def _told(regime: str, choice: Choice) -> str:
    """The candidate to take and the next, with their probabilities of being the best."""
    first, *others = choice.regret.argsort()[: 1 + MOST]
    beside = ", ".join(f"{choice.candidates[i]} {choice.p_best[i]:.2f}" for i in others)
    p, of = choice.p_best[first], len(choice.candidates)
    return f"{regime}, {choice.candidates[first]} is best of {of} with probability {p:.2f} ({beside})"


def _rests(runs: int, outside: dict[str, float], command: str, caveat: str = "") -> str:
    """What a recommendation rests on; beyond TOO_FAR it is no advice."""
    caution = f"; so far off it is no advice: measure yours by {command}" if too_far(outside) else ""
    return f"It rests on {runs} small runs{caveat}, and this question {extrapolation_sentence(outside)}{caution}."
