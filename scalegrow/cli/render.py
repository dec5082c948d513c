"""Numbers and tables as people and programs read them."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from scalegrow.plan.decide import Estimate, LossEstimate

EXIT_OUTSIDE = 3  # of --strict, where the question lies outside what was fitted


def console() -> Console:
    """Results go to stdout: plain when piped, coloured on a terminal, never wrapped by markup in names."""
    return Console(highlight=False, markup=False, soft_wrap=False)


def note(text: str) -> None:
    """Progress and warnings go to stderr, a line each."""
    Console(stderr=True, highlight=False, markup=False).print(text, soft_wrap=True)


def print_json(data: dict[str, Any]) -> None:
    """One JSON object; infinities become null, since JSON has none."""
    print(json.dumps(finite(data), indent=2, allow_nan=False))


def counted(n: int, one: str, many: str | None = None) -> str:
    """1 run, 2 runs."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def finite(value: Any) -> Any:
    """The same structure with inf and NaN as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_estimate(estimate: Estimate) -> dict[str, Any]:
    """{"value", "interval"}, and "interval_new_run" where there is one."""
    data: dict[str, Any] = {"value": estimate.value, "interval": [estimate.low, estimate.high]}
    if isinstance(estimate, LossEstimate):
        data["interval_new_run"] = [estimate.new_low, estimate.new_high]
    return data


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A plain table: first column left, the rest right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def table_without_empty(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without the columns that hold nothing."""
    used = [i for i, _ in enumerate(columns) if any(row[i] for row in rows)]
    return table([columns[i] for i in used], [[row[i] for i in used] for row in rows])


def cells(estimate: Estimate, form: Callable[[float], str]) -> tuple[str, str]:
    """Value and interval."""
    return form(estimate.value), between(form(estimate.low), form(estimate.high))


def between(low: str, high: str) -> str:
    """'low to high'."""
    return f"{low} to {high}"
