"""The data that ship: what they hold, and that they come from the raw files."""

from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scripts import analysis

from scalegrow.errors import InputError
from scalegrow.laws.fitted import Fit
from scalegrow.runs.shipped import DATA, TABLES, load_table
from scalegrow.runs.table import keep_rows, mixing_problems, refuse_mixing

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return analysis("build_data")


@pytest.mark.parametrize(
    ("name", "maker", "rows"),
    [
        ("chinchilla_epoch", "chinchilla", 245),
        ("warmstart_2605_13405_digitised", "digitised", 425),
        ("warmstart_2605_13405_printed", "printed", 27),
    ],
)
def test_tables_are_what_the_raw_files_give(build: ModuleType, name: str, maker: str, rows: int) -> None:
    made = getattr(build, maker)()
    assert made.height == rows
    assert_frame_equal(pl.read_csv(DATA / f"{name}.csv"), made, check_dtypes=False, rel_tol=1e-15)


@pytest.mark.parametrize("name", TABLES)
def test_tables_pass_their_own_checks(name: str) -> None:
    table = load_table(name)
    assert table["loss"].is_finite().all()
    grown = table.filter(pl.col("operator") != "scratch")
    assert ((grown["growth_factor"] * grown["base_params"] / grown["n_params"] - 1).abs() < 1e-12).all()


def test_the_digitised_table_does_not_mix() -> None:
    table = load_table("warmstart_2605_13405_digitised")
    with pytest.raises(InputError, match="54 annealed and 371 mid-run"):
        refuse_mixing(table)
    annealed = keep_rows(table, "annealed")
    assert annealed.height == annealed["run"].n_unique() == 54
    assert refuse_mixing(annealed) == []
    assert annealed["operator"].value_counts().sort("count")["count"].to_list() == [9, 21, 24]


def test_printed_points_are_marked_as_selected_and_warned_about_beside_others() -> None:
    printed = load_table("warmstart_2605_13405_printed")
    assert printed.filter(pl.col("operator") == "szp")["selected"].all()
    pooled = pl.concat(
        [printed, keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")], how="diagonal"
    )
    _, warnings = mixing_problems(pooled)
    assert any("biased low" in warning for warning in warnings)
    assert any("several sources" in warning for warning in warnings)


def test_three_growth_factors_differ() -> None:
    """Finding 8 of the growth literature: which N is counted changes g."""
    table = load_table("warmstart_2605_13405_digitised").filter(pl.col("operator") == "szp")
    row = table.filter(pl.col("base_params") == 14562560, pl.col("n_params") == 77124608).row(0, named=True)
    assert row["growth_factor"] == pytest.approx(5.296, abs=1e-3)
    assert row["growth_factor_non_embedding"] == pytest.approx(15.9, abs=0.1)
    assert row["growth_factor_width"] == 4.0


def test_shipped_fits_are_usable(warmstart: Fit, chinchilla: Fit) -> None:
    assert warmstart.status.usable
    assert (warmstart.n_runs, warmstart.n_clusters) == (54, 19)
    assert warmstart.law.form.operators == ("szp", "net2net")
    assert chinchilla.status.usable
    assert chinchilla.n_runs == 240


def test_shipped_fits_are_what_their_command_gives(warmstart: Fit) -> None:
    """The same coefficients again from the table, to the digits that matter."""
    from scalegrow.laws import form_named
    from scalegrow.laws.fit import fit
    from scalegrow.laws.observations import Observations

    form = form_named("fading-capacity", ("szp", "net2net"))
    table = keep_rows(load_table("warmstart_2605_13405_digitised"), "annealed")
    again = fit(form, Observations.from_table(table, form), fixed={"E": (0.402, 1.305)})
    assert again.law.coefficients == pytest.approx(warmstart.law.coefficients, rel=1e-6)
    assert again.draws.std(axis=0) == pytest.approx(warmstart.draws.std(axis=0), rel=0.02)


def test_every_shipped_file_is_described() -> None:
    text = (DATA / "README.md").read_text()
    for path in DATA.rglob("*.*"):
        if path.name != "README.md":
            assert path.name in text, path.name


def test_the_fitted_floor_of_the_story_ladder_is_the_exact_entropy() -> None:
    """Chinchilla's law with E free, our own runs of 500 steps or more: the interval holds the exact entropy."""
    from scalegrow.laws.fit import fit
    from scalegrow.laws.forecast import quantiles
    from scalegrow.laws.observations import Observations
    from scalegrow.laws.scratch import Chinchilla

    table = load_table("stories_ladder").filter(pl.col("tokens") > 600_000)
    made = fit(Chinchilla(), Observations.from_table(table, Chinchilla()), draws=500)
    low, high = quantiles(made.values(), 0.95)
    index = made.law.form.names.index("E")
    assert low[index] < table["entropy"][0] < high[index]
    assert high[index] - low[index] < 0.15, "an interval that says something"
    assert made.n_runs == 10


def test_the_story_ladder_s_entropy_is_the_language_s() -> None:
    """The held-out set's realised entropy against the closed form: within four of its standard errors."""
    from scalegrow.train.stories import Stories

    table = load_table("stories_ladder")
    source = Stories(128)
    log_p = source.heldout_batch(0, 1024).log_p
    assert log_p is not None
    assert table["entropy"].to_list() == pytest.approx([-log_p.astype(float).mean()] * table.height, abs=2e-6)
    assert abs(table["entropy"][0] - source.entropy) < 4 * log_p.mean(1).std() / 1024**0.5
