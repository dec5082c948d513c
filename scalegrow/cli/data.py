"""From the options of `fit` and `validate` to a form and its observations."""

from dataclasses import dataclass

import polars as pl

from scalegrow.cli.render import note
from scalegrow.errors import InputError
from scalegrow.laws import form_named
from scalegrow.laws.law import Form
from scalegrow.laws.loss import LOSSES, Huber, Loss
from scalegrow.laws.observations import Observations, operators_in
from scalegrow.laws.solve import Fixed
from scalegrow.runs.shipped import load_table
from scalegrow.runs.table import SCRATCH, keep_rows, keep_where, refuse_mixing, thinned, without_highest

DEFAULT_JOINT, DEFAULT_SCRATCH = "fading-capacity", "chinchilla"
MANY_ROWS = 2000  # above, runs are thinned unless told otherwise: draws take time by rows, and gain by runs


@dataclass(frozen=True)
class Choice:
    """What the user chose: a table, a law, and how to fit it."""

    table: str
    law: str | None
    rows: str | None
    loss: str
    delta: float
    fix: list[str]
    drop_highest: int
    where: list[str]
    per_run: int | None = None

    def load(self) -> tuple[Form, Observations, str]:
        """The form, the observations, and on what losses were measured; warnings about provenance go to stderr."""
        table = self.chosen()
        form = self.form(table)
        data = ", ".join(sorted({str(name) for name in table["data"].drop_nulls()}))
        return form, Observations.from_table(table, form), data

    def chosen(self) -> pl.DataFrame:
        """The rows of the table that were asked for; warnings go to stderr."""
        table = self._rows(chosen_rows(load_table(self.table), self.where))
        for warning in refuse_mixing(table):
            note(f"warning: {warning}")
        if self.drop_highest < 0 or self.drop_highest >= table.height:
            raise InputError(f"--drop-highest {self.drop_highest} leaves no rows of {table.height}: give fewer.")
        return self._thinned(without_highest(table, self.drop_highest))

    def form(self, table: pl.DataFrame) -> Form:
        """The law that was named, or by the arms of the rows. Raises InputError where they do not fit together."""
        operators = operators_in(table)
        form = form_named(self.law or (DEFAULT_JOINT if operators else DEFAULT_SCRATCH), operators)
        if form.joint and not operators:
            raise InputError(
                f"{form.name} is a joint law, but no run here is grown: add grown runs or fit chinchilla."
            )
        if form.joint and (table["operator"] != SCRATCH).all():
            raise InputError(
                f"{form.name} compares growing with scratch, but no run here is from scratch: add some."
            )
        return form

    def _rows(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows that were asked for; by default the annealed ones, where there are mid-run ones beside them."""
        if self.rows is None and {True, False} <= {*table["annealed"]}:
            note(f"using {table['annealed'].sum()} annealed losses of {table.height}; others with --rows.")
            return keep_rows(table, "annealed")
        return keep_rows(table, self.rows or "all")

    def _thinned(self, table: pl.DataFrame) -> pl.DataFrame:
        """At most --per-run rows of each run; by default as many as make MANY_ROWS, and 2 at least."""
        if self.per_run is not None and self.per_run < 2:
            raise InputError(f"--per-run {self.per_run} tells no run's course: give 2 or more.")
        if self.per_run is None and table.height <= MANY_ROWS:
            return table
        per_run = self.per_run or max(2, MANY_ROWS // table["run"].n_unique())
        kept = thinned(table, per_run)
        if kept.height < table.height:
            note(
                f"using {kept.height} of {table.height} losses, at most {per_run} of each run, evenly in ln "
                "tokens; others with --per-run."
            )
        return kept

    def loss_function(self) -> Loss:
        """The loss that was named."""
        if self.loss not in LOSSES:
            raise InputError(f"'{self.loss}' is no loss: choose one of {', '.join(LOSSES)}.")
        return Huber(self.delta) if self.loss == "huber" else LOSSES[self.loss]()

    def fixed(self) -> Fixed:
        """--fix options as values or intervals."""
        return dict(parse_fix(text) for text in self.fix)


def chosen_rows(table: pl.DataFrame, where: list[str]) -> pl.DataFrame:
    """The rows that every --where keeps. Raises InputError on one that is not understood."""
    for text in where:
        column, equals, values = text.partition("=")
        if not (column and equals and values):
            raise InputError(f"--where {text} is not understood: write COLUMN=VALUE or COLUMN=VALUE,VALUE.")
        table = keep_where(table, column.strip(), [value.strip() for value in values.split(",")])
    return table


def parse_fix(text: str) -> tuple[str, float | tuple[float, float]]:
    """E=1.5 or E=0.4:1.3."""
    name, equals, value = text.partition("=")
    try:
        numbers = [float(part) for part in value.split(":")]
    except ValueError:
        numbers = []
    if not (name and equals) or len(numbers) not in (1, 2) or not all(abs(v) < 1e300 for v in numbers):
        raise InputError(f"--fix {text} is not understood: write NAME=VALUE or NAME=LOW:HIGH, such as E=1.5.")
    if len(numbers) == 1:
        return name.strip(), numbers[0]
    if numbers[0] >= numbers[1]:
        raise InputError(f"--fix {text} is no interval: give the lower end first.")
    return name.strip(), (numbers[0], numbers[1])
