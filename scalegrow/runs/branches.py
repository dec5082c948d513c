"""Where the budgets of a run leave its trunk, and what they cost together.

Symbols: N parameters, D tokens, S the last step of a budget.
"""

from collections.abc import Collection

from scalegrow.runs.config import RunConfig


def warmup_steps(config: RunConfig) -> int:
    """w: the warm-up in steps, whatever the budgets, so that all can share a trunk."""
    return config.steps(config.schedule.warmup)


def decay_start(config: RunConfig, end: int) -> int:
    """The first step of a budget's decay: the last `decay` share of it in wsd, the end of warm-up in cosine."""
    if config.schedule.kind == "constant":
        return end
    if config.schedule.kind == "cosine":
        return min(warmup_steps(config), end)
    return end - max(round(config.schedule.decay * end), 1)


def trained_steps(config: RunConfig, ends: Collection[int]) -> int:
    """Steps of all stages that end at these steps S: one trunk and each cool-down; in cosine sum S, a run each."""
    if not ends:
        return 0
    if config.schedule.kind == "cosine":
        return sum(ends)
    starts = [decay_start(config, end) for end in ends]
    return max(starts) + sum(ends) - sum(starts)


def trained_flops(config: RunConfig, ends: Collection[int] | None = None) -> float:
    """6 N D of all stages that end at these steps; by default of all the run's budgets."""
    reached = [config.steps(budget) for budget in config.budgets] if ends is None else ends
    return float(trained_steps(config, reached) * config.tokens_per_step * config.flops_per_token)
