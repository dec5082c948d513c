"""Laws from papers, as the same values that a fit makes, with source and range."""

from dataclasses import dataclass

import numpy as np

from scalegrow.laws.domain import Domain
from scalegrow.laws.law import Law
from scalegrow.laws.scratch import Chinchilla, Kaplan, PowerD, PowerN


@dataclass(frozen=True)
class Published:
    """A law with its source; note says which parameters N counts and what else to know; domain where stated."""

    name: str
    law: Law
    source: str
    note: str
    domain: Domain | None = None


def _chinchilla(E: float, A: float, B: float, alpha: float, beta: float) -> Law:
    return Law.of(Chinchilla(), E=E, A=A, B=B, alpha=alpha, beta=beta)


_HOFFMANN_RANGE = Domain((("N", 44e6, 16.2e9),))
_LADDER_RANGE = Domain((("N", 14.6e6, 287e6),))

PUBLISHED: dict[str, Published] = {
    published.name: published
    for published in (
        Published(
            "hoffmann-2022",
            _chinchilla(np.exp(0.5267228), np.exp(6.0073404), np.exp(6.0179186), 0.33917084, 0.2849083),
            "Hoffmann et al. 2022 (arXiv 2203.15556), digits of its TeX source",
            "all parameters; stopped before its optimum (arXiv 2404.10102)",
            _HOFFMANN_RANGE,
        ),
        Published(
            "hoffmann-2022-rounded",
            _chinchilla(1.69, 406.4, 410.7, 0.34, 0.28),
            "Hoffmann et al. 2022 (arXiv 2203.15556), eq. 10",
            "rounding alone raises the Huber objective 3.3 times: use the digits of the TeX source",
            _HOFFMANN_RANGE,
        ),
        Published(
            "besiroglu-2024",
            _chinchilla(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
            "Besiroglu et al. 2024 (arXiv 2404.10102), table 1",
            "all parameters; E from Huber's loss, the rest from least absolute deviations (docs/laws.md)",
            _HOFFMANN_RANGE,
        ),
        Published(
            "kaplan-2020",
            Law.of(Kaplan(), N_c=8.8e13, D_c=5.4e13, alpha_N=0.076, alpha_D=0.095),
            "Kaplan et al. 2020 (arXiv 2001.08361), eqs. 1.1, 1.2 and 1.5",
            "N without embeddings; the one-variable constants put into the joint form",
        ),
        Published(
            "kaplan-2020-n",
            Law.of(PowerN(), E=0.0, A=8.8e13**0.076, alpha=0.076),
            "Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.1",
            "N without embeddings, trained to convergence",
        ),
        Published(
            "kaplan-2020-d",
            Law.of(PowerD(), E=0.0, A=5.4e13**0.095, alpha=0.095),
            "Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.2",
            "large models, stopped early",
        ),
        Published(
            "warmstart-2026-scratch",
            _chinchilla(0.402, 1.86e5, 5.79, 0.767, 0.068),
            "arXiv 2605.13405, fit printed in its public notebooks (scratch, muP)",
            "all parameters; nine points or fewer for five coefficients: in-sample only",
            _LADDER_RANGE,
        ),
        Published(
            "warmstart-2026-szp",
            _chinchilla(1.305, 815.0, 130.0, 0.423, 0.295),
            "arXiv 2605.13405, fit printed in its public notebooks (SZP, adjacent pairs)",
            "all parameters; growth of about 2 only: in-sample only",
            _LADDER_RANGE,
        ),
    )
}


def gstack_growth_timing(n_params: float, tokens: float) -> float:
    """log10 d = 0.88 log10 N + 163.27 / log10 C - 5.74: tokens d after which to stack by 4 (C = 6 N D).

    N parameters and D tokens of the target run (G_stack, arXiv 2405.15319, eq. 4).
    """
    flops = 6.0 * n_params * tokens
    return float(10 ** (0.88 * np.log10(n_params) + 163.27 / np.log10(flops) - 5.74))
