"""The published growth results: a tidy table whose numbers are those their papers print."""

from pathlib import Path

import polars as pl
import pytest

TABLE = Path(__file__).parents[1] / "data" / "published_growth_results.csv"

# An arXiv id is text: read as a number, 2303.00980 loses its last zero.
SCHEMA = pl.Schema(
    {
        "source": pl.String,
        "arxiv": pl.String,
        "operator": pl.String,
        "scalegrow_operator": pl.String,
        "axis": pl.String,
        "base": pl.String,
        "target": pl.String,
        "base_params": pl.Float64,
        "target_params": pl.Float64,
        "growth_factor": pl.Float64,
        "g_counts": pl.String,
        "budget": pl.String,
        "tokens": pl.Float64,
        "metric": pl.String,
        "value": pl.Float64,
        "scratch_value": pl.Float64,
        "saving": pl.Float64,
        "saving_kind": pl.String,
        "base_cost": pl.String,
        "evidence": pl.String,
        "note": pl.String,
    }
)
OPERATORS = (
    "scratch szp net2net tile tile_noise zero_pad perturbative_copy asymmetric_reset structured_non_clone "
    "random_copy zero_copy block_diagonal aki ligo stack interleave zero_insert identity_insert solar middle"
)
# fraction: 1 - C_grown / C_scratch.  ratio_minus_one: C_scratch / C_grown - 1, as G_stack prints it.
ALLOWED = {
    "scalegrow_operator": OPERATORS,
    "axis": "width depth both other",
    "g_counts": "all non_embedding active unknown",
    "metric": "loss speedup saving accuracy ppl",
    "saving_kind": "fraction ratio_minus_one unknown",
    "base_cost": "sunk paid unknown",
    "evidence": "paper abstract code memory summary",
}
ALWAYS_STATED = ("source", "operator", "axis", "g_counts", "base_cost", "evidence")


@pytest.fixture(scope="module")
def results() -> pl.DataFrame:
    return pl.read_csv(TABLE, schema=SCHEMA)


def only(results: pl.DataFrame, **cells: str | float) -> dict[str, object]:
    """The one row that holds these cells; polars raises if there is none or more than one."""
    predicate = pl.all_horizontal(pl.col(name) == cell for name, cell in cells.items())
    return results.row(by_predicate=predicate, named=True)


def test_the_header_names_every_column_in_order():
    assert TABLE.read_text(encoding="utf-8").splitlines()[0].split(",") == SCHEMA.names()


@pytest.mark.parametrize("column", ALLOWED)
def test_a_closed_column_holds_allowed_values_only(results, column):
    assert set(results[column].drop_nulls()) <= set(ALLOWED[column].split())


@pytest.mark.parametrize("column", ALWAYS_STATED)
def test_a_row_always_says_who_did_what_and_how_it_is_known(results, column):
    assert results[column].null_count() == 0


def test_an_arxiv_id_is_well_formed(results):
    assert results["arxiv"].drop_nulls().str.contains(r"^\d{4}\.\d{5}$").all()
    assert "2303.00980" in results["arxiv"]


def test_no_comparison_appears_twice(results):
    comparison = ["source", "operator", "base", "target", "tokens", "metric", "value"]
    assert results.select(comparison).is_duplicated().sum() == 0
    measured = results.filter(pl.col("metric") == "loss")
    assert measured.select("source", "target", "value").is_duplicated().sum() == 0


def test_a_value_has_a_metric_and_a_metric_a_value(results):
    assert (results["metric"].is_null() == results["value"].is_null()).all()
    valueless = results.filter(pl.col("value").is_null())
    assert valueless["saving"].is_null().all()
    assert valueless["note"].is_not_null().all()


def test_a_saving_says_what_it_is_a_share_of(results):
    has_one = results["saving"].is_not_null() | (results["metric"] == "saving").fill_null(False)
    assert (has_one == results["saving_kind"].is_not_null()).all()
    assert (results["saving"].drop_nulls() < 1).all()
    known = results.filter(metric="saving").drop_nulls("saving")
    assert (known["saving"] == known["value"]).all()


def test_sizes_and_losses_are_positive(results):
    for column in ("base_params", "target_params", "growth_factor", "tokens", "scratch_value"):
        assert (results[column].drop_nulls() > 0).all()
    assert (results.filter(pl.col("metric").is_in(["loss", "speedup"]))["value"] > 0).all()


def test_the_growth_factor_is_the_ratio_of_the_sizes_it_counts(results):
    # Not G_stack: its g counts non-embedding parameters, its sizes all of them. The papers round g.
    rows = results.filter(pl.col("g_counts") != "non_embedding").drop_nulls(
        ["base_params", "target_params", "growth_factor"]
    )
    ratio = rows["target_params"] / rows["base_params"]
    assert rows.height > 0
    assert ((ratio / rows["growth_factor"] - 1).abs() < 0.04).all()


def test_a_saving_and_the_losses_agree_in_sign_far_from_zero(results):
    figure_3 = results.filter(source="G_stack", metric="loss")
    assert figure_3.height == 8
    assert ((figure_3["value"] < figure_3["scratch_value"]) == (figure_3["saving"] > 0)).all()


@pytest.mark.parametrize(
    ("operator", "loss", "saving"),
    [
        ("depth stack", 2.151, 0.491),
        ("depth zero", 2.161, 0.466),
        ("depth random (mask)", 2.258, -0.257),
        ("depth LiGO", 2.156, 0.486),
        ("width direct (uneven split)", 2.209, -0.007),
        ("width zero", 2.249, -0.179),
        ("width random", 2.227, -0.138),
        ("width LiGO", 2.233, -0.154),
    ],
)
def test_g_stack_figure_3(results, operator, loss, saving):
    row = only(results, source="G_stack", operator=operator, metric="loss")
    assert (row["value"], row["scratch_value"], row["saving"]) == (loss, 2.204, saving)


def test_g_stack_prints_a_ratio_minus_one(results):
    # 194B tokens reach the loss of 300B from scratch: "54.6 %" is 300/194 - 1, a saving of 35 %.
    row = only(results, source="G_stack", target="7B", tokens=300e9)
    assert row["saving"] == 0.546
    assert row["saving"] == pytest.approx(300 / 194 - 1, abs=5e-4)
    assert set(results.filter(source="G_stack")["saving_kind"].drop_nulls()) == {"ratio_minus_one"}


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        ({"source": "LiGO", "target": "BERT-base", "saving": 0.45}, 0.45),
        ({"source": "LiGO", "target": "GPT2-medium", "evidence": "memory"}, 0.225),
        ({"source": "bert2BERT", "target": "GPT"}, 0.47),
        ({"source": "LEMON", "target": "ViT"}, 0.567),
        ({"source": "LEMON", "target": "BERT"}, 0.332),
        ({"source": "MSG", "target": "BERT-large", "metric": "speedup"}, 2.2),
        ({"source": "MSG", "target": "GPT-2", "metric": "speedup"}, 1.4),
        ({"source": "Staged training"}, 0.22),
        ({"source": "MoE interposition", "metric": "accuracy"}, 10.66),
        ({"source": "SPARKLING", "metric": "speedup", "growth_factor": 3.3}, 1.49),
        (
            {
                "source": "SPARKLING",
                "metric": "loss",
                "growth_factor": 2.0,
                "operator": "asym reset + rewarm",
            },
            2.2933,
        ),
    ],
)
def test_a_printed_value_is_the_papers(results, cells, value):
    assert only(results, **cells)["value"] == value
