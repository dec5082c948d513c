"""What becomes of the rest of a training state when it grows: choices of their own, none guessed from another.

moments   carry (the dual of the weights' rule), raw (copied without factors), asymmetric (carried where the base
          had the entry, none for new copies), reset
counter   of Adam's steps: keep, zero
schedule  restart (warm up anew), rewarm (warm up to where the base's schedule was), continue
data      continue behind the base's last sequence, restart
rates     parametrisation (those of a target trained from scratch), carried (the base's, as the gradient law asks)
"""

from dataclasses import asdict, dataclass, fields, replace

from scalegrow.errors import InputError
from scalegrow.growth import operator
from scalegrow.shape import n_blocks
from scalegrow.train.operators import Plan

CHOICES = {
    "moments": ("auto", "carry", "raw", "asymmetric", "reset"),
    "counter": ("auto", "keep", "zero"),
    "schedule": ("restart", "rewarm", "continue"),
    "data": ("continue", "restart"),
    "rates": ("parametrisation", "carried"),
}


@dataclass(frozen=True)
class Policies:
    """One choice for each part of the state. auto: what the operator's authors do, by `resolved`."""

    moments: str = "auto"
    counter: str = "auto"
    schedule: str = "restart"
    data: str = "continue"
    rates: str = "parametrisation"

    def __post_init__(self) -> None:
        for each in fields(self):
            chosen = getattr(self, each.name)
            if chosen not in CHOICES[each.name]:
                raise InputError(f"{each.name} {chosen!r} is no policy: choose {', '.join(CHOICES[each.name])}.")

    def resolved(self, plan: Plan) -> "Policies":
        """Without auto: moments are carried where the function is about kept, else reset; the counter follows.

        asymmetric_reset is asymmetric. Raises InputError where scratch should keep moments.
        """
        deeper = n_blocks(plan.target) > n_blocks(plan.base)
        used = (plan.operator, plan.depth_operator) if deeper else (plan.operator,)
        usual = "reset" if any(operator(name).preserves == "none" for name in used) else "carry"
        if usual == "carry" and plan.operator == "asymmetric_reset":
            usual = "asymmetric"
        moments = usual if self.moments == "auto" else self.moments
        if plan.operator == "scratch" and moments != "reset":
            raise InputError("scratch inherits nothing, so it has no moments to keep: leave --moments out.")
        counter = ("zero" if moments == "reset" else "keep") if self.counter == "auto" else self.counter
        return replace(self, moments=moments, counter=counter)

    def to_dict(self) -> dict[str, str]:
        """Plain data, for the lineage."""
        return asdict(self)
