"""L(N, D, g, D_base, operator): forms, fits, uncertainty.

LAWS lists every form by name; the property tests run over all of them.
"""

from scalegrow.errors import InputError
from scalegrow.laws.isoflop import IsoFlopParabola
from scalegrow.laws.law import Form
from scalegrow.laws.scratch import Chinchilla, Kaplan, PowerC, PowerD, PowerN
from scalegrow.laws.transfer import HernandezTransfer, LiewKatoReuse
from scalegrow.laws.warmstart import CapacityPenalty, EffectiveData, FadingCapacity, FadingTransfer

LAWS: dict[str, type[Form]] = {
    form.name: form
    for form in (
        PowerN,
        PowerD,
        PowerC,
        Kaplan,
        Chinchilla,
        HernandezTransfer,
        LiewKatoReuse,
        IsoFlopParabola,
        FadingTransfer,
        FadingCapacity,
        EffectiveData,
        CapacityPenalty,
    )
}


def form_named(name: str, operators: tuple[str, ...] = ()) -> Form:
    """The form of this name; joint laws get the operators that their runs were grown by."""
    if name not in LAWS:
        raise InputError(f"'{name}' is no law: choose one of {', '.join(LAWS)}.")
    form = LAWS[name]
    return form(operators) if form().joint else form()
