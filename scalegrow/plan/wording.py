"""What was found by a scan, in words: its ends are said, for beyond them nothing was looked at."""

from scalegrow.plan.decide import BUDGETS_TPP, FACTORS


def percent(share: float) -> str:
    """A share; 'none' where growing never reaches the loss of the smallest scratch run."""
    return "none" if share == -float("inf") else f"{share:.0%}"


def budget_text(tpp: float) -> str:
    """Tokens per parameter; 'none' and 'any' where the scan found no end."""
    return "none" if tpp == 0 else f"over {BUDGETS_TPP[1]:.0f}" if tpp == float("inf") else f"{tpp:.3g}"


def factor_text(g: float) -> str:
    """A growth factor; 'none' and 'over 100' where the scan found no end."""
    return "none" if g <= 1 else f"over {FACTORS[1]:.0f}" if g == float("inf") else f"{g:.2f}"
