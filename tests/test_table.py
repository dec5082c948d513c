"""The run table: what is read, filled, refused and warned about."""

from pathlib import Path

import polars as pl
import pytest

from scalegrow.errors import InputError
from scalegrow.runs.shipped import load_table, shipped_fit
from scalegrow.runs.table import (
    COLUMNS,
    checked,
    keep_rows,
    keep_where,
    mixing_problems,
    read_table,
    refuse_mixing,
    thinned,
)

SCRATCH = {"n_params": 1e6, "tokens": 2e7, "loss": 4.0}
GROWN = SCRATCH | {"operator": "szp", "base_params": 5e5, "base_tokens": 1e7, "growth_factor": 2.0}


def table(*rows: dict[str, object]) -> pl.DataFrame:
    return checked(pl.DataFrame(list(rows)), "table")


def test_every_column_is_there_and_typed() -> None:
    made = table(SCRATCH)
    assert made.columns[: len(COLUMNS)] == list(COLUMNS)
    assert all(made.schema[name] == column.dtype for name, column in COLUMNS.items())


def test_what_follows_is_filled() -> None:
    scratch, grown = table(SCRATCH).row(0, named=True), table({**GROWN, "growth_factor": None}).row(0, named=True)
    assert scratch["operator"] == "scratch"
    assert scratch["growth_factor"] == 1.0
    assert scratch["base_tokens"] == 0.0
    assert scratch["flops"] == 6 * 1e6 * 2e7
    assert grown["growth_factor"] == 2.0
    by_factor = table({**GROWN, "base_params": None}).row(0, named=True)
    assert by_factor["base_params"] == 5e5


def test_runs_without_a_name_are_independent() -> None:
    made = table(SCRATCH, SCRATCH)
    assert made["run"].n_unique() == made["base"].n_unique() == 2


def test_other_columns_are_kept() -> None:
    assert table(SCRATCH | {"cluster_name": "a"})["cluster_name"].to_list() == ["a"]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("1", True), ("0", False)])
def test_booleans_as_people_write_them(text: str, value: bool) -> None:
    assert table(SCRATCH | {"annealed": text})["annealed"].to_list() == [value]


BROKEN = {
    "no column 'loss'": [{"n_params": 1e6, "tokens": 2e7}],
    "rename it": [{"params": 1e6, "tokens": 2e7, "loss": 4.0}],
    "loss is nan": [SCRATCH | {"loss": float("nan")}],
    "loss is inf": [SCRATCH | {"loss": float("inf")}],
    "loss is empty": [SCRATCH, SCRATCH | {"loss": None}],
    "must be above 0": [SCRATCH | {"loss": -1.0}],
    "row 2": [SCRATCH, SCRATCH | {"tokens": 0.0}],
    "'n_params' is not a number": [SCRATCH | {"n_params": "many"}],
    "'annealed' is not true/false": [SCRATCH | {"annealed": "maybe"}],
    "'scratch' but has a growth factor": [SCRATCH | {"growth_factor": 2.0}],
    "'scratch' but has base tokens": [SCRATCH | {"base_tokens": 5.0}],
    "neither growth_factor nor base_params": [SCRATCH | {"operator": "szp", "base_tokens": 1.0}],
    "growth factor below 1": [GROWN | {"growth_factor": 0.5, "base_params": 2e6}],
    "no base_tokens": [GROWN | {"base_tokens": None}],
    "negative base_tokens": [GROWN | {"base_tokens": -1.0}],
    "off n_params by over 1 %": [GROWN | {"growth_factor": 3.0}],
}


@pytest.mark.parametrize("problem", BROKEN)
def test_broken_tables_are_refused_in_one_line(problem: str) -> None:
    with pytest.raises(InputError) as caught:
        table(*BROKEN[problem])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no rows"):
        checked(pl.DataFrame(SCRATCH).clear(), "table")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_formats_read_alike(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"runs{suffix}"
    frame = pl.DataFrame([SCRATCH | {"annealed": True}, GROWN | {"annealed": True}])
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[suffix](path)
    assert read_table(path).equals(checked(frame, "frame"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.csv", None),
        ("text.txt", b"a,b"),
        ("empty.csv", b""),
        ("noise.csv", bytes(range(256))),
        ("noise.parquet", b"PAR1 and no more"),
        ("noise.jsonl", b"{"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_separators_are_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("n_params;tokens;loss\n1e6;1e7;4.0\n")
    with pytest.raises(InputError, match="save it with commas"):
        read_table(path)


def test_folders_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run log"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="chinchilla_epoch"):
        load_table("nonesuch")
    with pytest.raises(InputError, match="warmstart"):
        shipped_fit("nonesuch")


MIXTURES = {
    "annealed and": {"annealed": (True, False)},
    "n_params counts": {"n_params_counts": ("all", "non_embedding")},
    "flops include": {"base_cost_included": (True, False)},
}


@pytest.mark.parametrize("problem", MIXTURES)
def test_provenances_that_must_not_mix_are_refused(problem: str) -> None:
    ((column, values),) = MIXTURES[problem].items()
    mixed = table(*(SCRATCH | {column: value} for value in values))
    with pytest.raises(InputError, match=problem):
        refuse_mixing(mixed)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("selected", (True, False), "biased low"),
        ("source", ("one paper", "another"), "several sources"),
        ("annealed", (True, None), "do not say"),
    ],
)
def test_provenances_that_may_mix_are_warned_about(column: str, values: tuple[object, ...], words: str) -> None:
    (warning,) = refuse_mixing(table(*(SCRATCH | {column: value} for value in values)))
    assert words in warning


def test_one_provenance_is_silent() -> None:
    assert mixing_problems(table(SCRATCH, SCRATCH)) == ([], [])


def test_rows_are_kept_by_kind() -> None:
    mixed = table(SCRATCH | {"annealed": True}, SCRATCH | {"annealed": False}, SCRATCH | {"annealed": None})
    assert [keep_rows(mixed, kind).height for kind in ("annealed", "mid-run", "all")] == [1, 1, 3]
    with pytest.raises(InputError, match="annealed, mid-run or all"):
        keep_rows(mixed, "best")
    with pytest.raises(InputError, match="no mid-run rows"):
        keep_rows(table(SCRATCH | {"annealed": True}), "mid-run")


def test_keep_where_keeps_by_text_and_by_number() -> None:
    rows = table(SCRATCH, SCRATCH | {"seed": 1}, GROWN | {"seed": 2})
    assert keep_where(rows, "seed", ("1", "2.0")).height == 2
    assert keep_where(rows, "operator", ("scratch",)).height == 2
    near = table(SCRATCH | {"seed": 16777216}, SCRATCH | {"seed": 16777217})
    assert keep_where(near, "seed", ("16777217",)).height == 1, "as float64"
    for column, values, problem in (
        ("sed", ("1",), "did you mean seed"),
        ("seed", ("9",), "no row has seed = 9: there are 1, 2"),
        ("operator", ("scrach",), "did you mean scratch"),
        ("operator", ("scratch", "szpp"), "no row has operator = szpp: did you mean szp"),
        ("seed", ("one",), "holds numbers"),
    ):
        with pytest.raises(InputError, match=problem):
            keep_where(rows, column, values)


def test_several_arms_of_one_operator_are_warned_of() -> None:
    same = table(SCRATCH | {"arm": "scratch"}, GROWN | {"arm": "szp"})
    assert not [warning for warning in mixing_problems(same)[1] if "arm" in warning]
    other = table(
        SCRATCH | {"arm": "scratch"}, GROWN | {"arm": "szp:shrink=0.4"}, GROWN | {"arm": "szp:shrink=0.8"}
    )
    assert [warning for warning in mixing_problems(other)[1] if "--where arm=" in warning]


def test_what_follows_from_the_operator_is_no_other_recipe() -> None:
    """A depth operator belongs to its operator; two settings of one operator are two recipes."""
    depths = {"szp": "a", "stack": "b"}
    rows = [GROWN | {"operator": name, "start.depth_operator": depth} for name, depth in depths.items()]
    both = [SCRATCH | {"start.depth_operator": None}, *rows]
    assert not [warning for warning in mixing_problems(table(*both))[1] if "differ" in warning]
    other = [*both, rows[0] | {"start.depth_operator": "c"}]
    assert [warning for warning in mixing_problems(table(*other))[1] if "start.depth_operator" in warning]


def test_keep_where_reads_truth_and_refuses_lists() -> None:
    rows = table(SCRATCH | {"annealed": True, "list": [1, 2]}, SCRATCH | {"annealed": False, "list": [3]})
    assert keep_where(rows, "annealed", ("True",)).height == 1
    with pytest.raises(InputError, match="more than one value a row"):
        keep_where(rows, "list", ("1",))


def test_thinning_keeps_ends_and_short_runs_and_spreads_in_log_tokens() -> None:
    rows = [{"run": "long", "n_params": 1e6, "tokens": float(t), "loss": 3.0} for t in range(1, 1001)]
    rows += [{"run": "short", "n_params": 1e6, "tokens": float(t), "loss": 3.0} for t in (1, 2, 3, 4)]
    table = thinned(checked(pl.DataFrame(rows), "t"), 4)
    assert table.filter(run="long")["tokens"].to_list() == [1, 10, 100, 1000]
    assert table.filter(run="short").height == 4
    assert thinned(table, 1000).equals(table)
