"""What `predict` says beside its decision: the warm start to take, and the gamma to initialise with.

Both come from studies of small decoders, so that nearly every question lies far outside; how far is said.
"""

from dataclasses import dataclass
from typing import Any

from scalegrow.cli.gamma import choice_data as gamma_data
from scalegrow.cli.gamma import load_gamma
from scalegrow.cli.render import extrapolation_sentence
from scalegrow.cli.select import choice_data, load_selection
from scalegrow.growth import Growth, widens
from scalegrow.laws.domain import LABELS
from scalegrow.laws.gamma import STANDARD, GammaLaw
from scalegrow.plan.decide import Question
from scalegrow.plan.gamma import GammaChoice, choose_gamma
from scalegrow.plan.outcomes import DETERMINISTIC, STOCHASTIC
from scalegrow.plan.select import Choice, Setting
from scalegrow.plan.selection import Selection

STUDY, GAMMA = "selection", "text"
MOST = 2  # candidates that are named beside the one to take


@dataclass(frozen=True)
class Recommendation:
    """choices: among the candidates that these widths allow, by regime. outside: how far beyond their runs."""

    selection: Selection
    choices: dict[str, Choice]
    outside: dict[str, float]
    law: GammaLaw
    gamma: GammaChoice

    @classmethod
    def of(cls, growth: Growth, question: Question, level: float) -> "Recommendation":
        """From the shipped studies."""
        selection, law = load_selection(STUDY), load_gamma(GAMMA)
        tpp, g = question.D / question.N, question.g
        settings = {
            regime: Setting(regime == STOCHASTIC, tpp, question.D_base / question.N_base, g)
            for regime in (DETERMINISTIC, STOCHASTIC)
        }
        pool = {
            name: name
            for name in selection.effects.candidates
            if widens(name.partition(":")[0], growth.base, growth.target)
        }
        choices = {regime: selection.choose(pool, setting, None, 1, level) for regime, setting in settings.items()}
        outside = selection.times_outside(settings[DETERMINISTIC], question.N)
        return cls(selection, choices, outside, law, choose_gamma(law, question.N, tpp, level))

    def sentences(self) -> tuple[str, str]:
        """The warm start's and gamma's."""
        told = []
        for regime, choice in self.choices.items():
            first, *others = choice.regret.argsort()[: MOST + 1]
            beside = ", ".join(f"{choice.candidates[i]} {choice.p_best[i]:.2f}" for i in others)
            told.append(
                f"{choice.candidates[first]} with probability {choice.p_best[first]:.2f} of being the best "
                f"({beside}) in the {regime} regime"
            )
        pool = len(self.choices[DETERMINISTIC].candidates)
        warm = (
            f"Warm start: {'; '.join(told)}; of {pool} candidates that these widths allow. "
            f"{_rests(self.selection.effects.n_runs, self.outside)}"
        )
        best, gain = self.gamma.best, self.gamma.gain
        gamma = (
            f"Gamma: {best.value:.2f} ({best.low:.2f} to {best.high:.2f}), {gain.value:+.4f} nats "
            f"({gain.low:+.4f} to {gain.high:+.4f}) against {STANDARD:g}. "
            f"{_rests(self.law.n_runs, self.gamma.extrapolation)}"
        )
        return warm, gamma

    def as_data(self) -> dict[str, Any]:
        """Both for a program."""
        warm = {regime: choice_data(choice) for regime, choice in self.choices.items()}
        effects = self.selection.effects
        study = {"name": STUDY, "runs": effects.n_runs, "bases": effects.n_bases}
        outside = {LABELS[name]: ratio for name, ratio in self.outside.items()}
        return {
            "warm_start": {**warm, "study": study, "times_outside": outside},
            "gamma": {**gamma_data(self.gamma), "law": {"name": GAMMA, "runs": self.law.n_runs}},
        }


def _rests(runs: int, outside: dict[str, float]) -> str:
    return f"It rests on {runs} small runs; this question {extrapolation_sentence(outside)}."
