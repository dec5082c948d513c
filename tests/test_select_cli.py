"""The command that chooses a warm start, on a small real checkpoint: by a simulated study, and the shipped one."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from selecting import CELLS, LAG, Truth, simulated
from training import TINY, tiny_config, tiny_network

from scalegrow.cli import _run
from scalegrow.growth import widened_shape
from scalegrow.plan.outcomes import DETERMINISTIC
from scalegrow.plan.select import TERMS
from scalegrow.plan.selection import Selection, read_selection, write_selection
from scalegrow.train.checkpoint_growth import grow_checkpoint
from scalegrow.train.operators import plan
from scalegrow.train.policies import Policies
from scalegrow.train.run import train

KNOWN = ("zero_pad", "tile", "szp:shrink=0.4", "net2net", "zero_insert")
SHORT = 2  # the lag of the study's probes
DOCUMENTED = Path(__file__).parents[1].joinpath("docs", "json.md").read_text()
Scalegrow = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-decay checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    train(tiny_config(), folder)
    return folder / "trunk" / "checkpoints" / "step_00000032"


def rows(**kind: Any) -> pl.DataFrame:
    """Outcomes of a study in which zero_pad is best by far; 0.05 nats lie between one candidate and the next."""
    rng = np.random.default_rng(0)
    effects = np.zeros((len(KNOWN), len(TERMS)))
    effects[:, 0] = 0.05 * np.arange(len(KNOWN))
    told = Truth(effects, by_base=0.005, by_run=0.005, slope=0.5, probe_base=0.01, probe_run=0.01, names=KNOWN)
    return simulated(told, rng, **kind).rename({f"loss_{LAG}": f"loss_{SHORT}", f"kl_{LAG}": f"kl_{SHORT}"})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.json"
    write_selection(Selection.fit(rows()), path)
    return path


@pytest.fixture
def scalegrow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Scalegrow:
    """Run the command here: its exit code, its output, and the lines of its errors."""
    from scalegrow.cli import main

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["scalegrow", "select", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err.strip().splitlines()

    return run


def test_the_study_alone_chooses(base: Path, study: Path, scalegrow: Scalegrow, tmp_path: Path) -> None:
    code, out, errors = scalegrow(base, "--factor", 4, "--study", study, "--no-probe", "--budget", "10tpp")
    assert (code, errors) == (0, [])
    assert " ".join(out.splitlines()[0].split()) == "candidate P(best) regret loss - pool's 95% interval"
    assert [line.split()[0] for line in out.splitlines()[1:5]] == list(KNOWN[:4])
    for words in (
        "Take zero_pad: it ends best of 5 with probability 0.9",
        "Target: 32 wide, 2 deep",
        "10 tokens per parameter; deterministic regime",
        f"{len(KNOWN) * 4 * 5} runs from 5 bases; this question EXTRAPOLATES: parameters",
        "No probe: this is the study's choice alone.",
    ):
        assert words in out
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_the_probe_has_its_say(base: Path, study: Path, scalegrow: Scalegrow, tmp_path: Path) -> None:
    quick = ("--lag", SHORT, "--sequences", 8, "--operators", "szp, tile,scratch,zero_pad")
    code, out, errors = scalegrow(base, "--factor", 4, "--study", study, *quick)
    assert code == 0
    assert [line.split(",")[0] for line in errors] == ["szp", "tile", "zero_pad"], "unknown ones are not trained"
    assert "loss at 2" in out
    assert "KL at 0" in out
    assert f"a candidate that stood off by a nat after {SHORT} steps" in out
    assert "% of that is trusted." in out
    assert "scratch is not in the study, and was left out: rank it by scalegrow probe." in out
    assert "szp" in out, "as it was asked, which the study writes as szp:shrink=0.4"
    assert not list(tmp_path.iterdir())


def told(scalegrow: Scalegrow, *arguments: object) -> dict[str, Any]:
    code, out, errors = scalegrow(*arguments, "--json")
    assert code == 0, errors
    found: dict[str, Any] = json.loads(out)
    assert f"## {found['schema']}" in DOCUMENTED
    return found


def names(data: dict[str, Any]) -> list[str]:
    return [each["candidate"] for each in data["candidates"]]


def test_everything_as_json(base: Path, study: Path, scalegrow: Scalegrow) -> None:
    quick = ("--lag", SHORT, "--sequences", 8, "--level", 0.8, "--operators", "tile,szp,net2net:seed=4,split")
    data = told(scalegrow, base, "--to", "d_ff=60", "--study", study, *quick)
    assert data["schema"] == "scalegrow-select/1"
    first = data["candidates"][0]
    for name in (*data, *first, *data["probe"], *data["probe"]["measured"][0], *data["probe"]["link"]):
        assert name in DOCUMENTED, name
    assert data["take"] == first["candidate"]
    assert {*names(data)} == {"tile", "szp", "net2net:seed=4"}, "a draw's seed makes no other candidate"
    assert sum(each["p_best"] for each in data["candidates"]) == pytest.approx(1)
    assert first["effect"]["interval"][0] < first["effect"]["value"] < first["effect"]["interval"][1]
    assert {each["candidate"] for each in data["probe"]["measured"]} == {*names(data)}
    assert data["probe"]["lag"] == SHORT
    assert (data["unknown"], data["refused"]) == (["split"], [])
    assert (data["regime"], data["level"], data["tokens_per_param"]) == (DETERMINISTIC, 0.8, pytest.approx(20))
    assert data["base_tokens_per_param"] == pytest.approx(32 * 4 * 24 / 9552)
    assert data["times_outside"]["tokens per parameter of the base"] < 0.1
    assert data["study"] == {"name": str(study), "runs": 100, "bases": 5}


def test_a_surprising_probe_changes_the_choice(
    base: Path, study: Path, tmp_path: Path, scalegrow: Scalegrow
) -> None:
    """szp loses nats at first. Where the study expects that, it counts for nothing; where not, against it."""
    quick = (base, "--factor", 4, "--lag", SHORT, "--sequences", 8, "--operators", "tile,szp")
    surprised = told(scalegrow, *quick, "--study", study)
    gap = {each["candidate"]: each["loss"] for each in surprised["probe"]["measured"]}
    shifted = pl.when(pl.col("candidate") == "szp:shrink=0.4").then(gap["szp"] - gap["tile"]).otherwise(0.0)
    column = pl.col(f"loss_{SHORT}")
    write_selection(Selection.fit(rows().with_columns(column + shifted)), tmp_path / "expected.json")
    expected = told(scalegrow, *quick, "--study", tmp_path / "expected.json")
    alone = told(scalegrow, *quick, "--study", study, "--no-probe")
    assert gap["szp"] > gap["tile"] + 0.5
    apart = [
        {each["candidate"]: each["effect"]["value"] for each in d["candidates"]}
        for d in (surprised, expected, alone)
    ]
    szp = [each["szp"] - each["tile"] for each in apart]
    assert szp[0] > szp[2] + 0.2
    assert szp[1] == pytest.approx(szp[2], abs=0.05)
    assert alone["probe"] is None


def test_the_shipped_study_serves_by_default(base: Path, scalegrow: Scalegrow) -> None:
    data = told(scalegrow, base, "--width", 2, "--sequences", 8, "--operators", "tile, zero_pad, szp, net2net")
    assert sorted(names(data)) == ["szp", "tile", "zero_pad"]
    assert (data["study"]["name"], data["unknown"]) == ("selection", ["net2net"])
    assert data["times_outside"]["parameters"] < 1
    refused(scalegrow(base, "--width", 2, "--lag", 7), "probes of 16 and 128 steps")


def test_the_shipped_study_is_that_of_the_shipped_table(base: Path, tmp_path: Path, scalegrow: Scalegrow) -> None:
    code, shown, errors = scalegrow("--runs", "reference_selection", "--out", tmp_path / "mine.json")
    assert (code, errors) == (0, [])
    assert "szp:shrink=0.4" in shown
    asked = (base, "--width", 2, "--no-probe")
    shipped, mine = told(scalegrow, *asked), told(scalegrow, *asked, "--study", tmp_path / "mine.json")
    assert names(shipped) == names(mine)
    for one, other in zip(shipped["candidates"], mine["candidates"], strict=True):
        assert one["effect"]["value"] == pytest.approx(other["effect"]["value"], abs=1e-6)


def test_candidates_that_do_not_grow_are_listed_with_reasons(
    base: Path, study: Path, scalegrow: Scalegrow
) -> None:
    asked = (base, "--width", 1.5, "--study", study, "--no-probe")
    _, out, _ = scalegrow(*asked)
    assert "tile refused: tile copies the stream whole, and d_model 16 to 24 is no whole factor" in out
    data = told(scalegrow, *asked)
    assert {*names(data)} == {"zero_pad", "szp:shrink=0.4"}
    assert [each["candidate"] for each in data["refused"]] == ["net2net", "tile", "zero_insert"]
    alone = told(scalegrow, *asked, "--operators", "zero_pad,tile")
    assert (names(alone), alone["candidates"][0]["p_best"], alone["candidates"][0]["regret"]) == (
        ["zero_pad"],
        1,
        0,
    )


def test_a_study_that_added_layers_chooses_for_such_targets(
    base: Path, tmp_path: Path, scalegrow: Scalegrow
) -> None:
    write_selection(Selection.fit(rows().with_columns(deeper=True)), tmp_path / "deep.json")
    data = told(scalegrow, base, "--width", 2, "--layers", 4, "--study", tmp_path / "deep.json", "--no-probe")
    assert data["target"]["n_layers"] == 4


def test_a_study_of_one_s_own_is_fitted_and_kept(
    base: Path, tmp_path: Path, scalegrow: Scalegrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a run table as sweep writes it: the effects are printed, and the file chooses."""
    table, out = tmp_path / "table.parquet", tmp_path / "mine.json"
    run_table(rows(cells=CELLS[:3])).write_parquet(table)
    code, shown, errors = scalegrow("--runs", table, "--out", out, "--where", "base_budget=20")
    assert (code, errors) == (0, [])
    assert shown.splitlines()[0].split() == ["candidate", "effect", "budget", "factor"], "others are not told"
    assert "Final loss minus zero_pad's, nats per token (standard error, robust to bases);" in shown
    assert "factor: more per e-fold of g" in shown
    assert "stochastic: more" not in shown, "a legend is for a column that is there"
    assert f"Probes: in the study a candidate that stood off by a nat after {SHORT} steps" in shown
    data = told(scalegrow, "--runs", table)
    assert data["schema"] == "scalegrow-selection-effects/1"
    for name in (*data, *data["links"][0]):
        assert name in DOCUMENTED, name
    assert (data["candidates"][0], data["bases"], data["runs"]) == ("zero_pad", 5, 75)
    assert {*read_selection(out).effects.candidates} == {*KNOWN}
    assert told(scalegrow, base, "--factor", 4, "--study", out, "--no-probe")["take"] == "zero_pad"


def run_table(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The sweep's table that these outcomes, all deterministic, would come from."""
    own = outcomes.select(
        "run", "loss", "n_params", "growth_factor", f"loss_{SHORT}", f"kl_{SHORT}",
        operator=pl.col("candidate").str.split(":").list.first(), arm="candidate", seed="group", data_seed="group",
        base=pl.format("base {}", "group"), base_params=pl.col("n_params") / pl.col("growth_factor"),
        base_tokens=pl.col("base_tpp") * pl.col("n_params") / pl.col("growth_factor"),
        base_budget=1.25 * pl.col("base_tpp"), tokens=pl.col("tpp") * pl.col("n_params"),
        annealed=pl.lit(True), stage=pl.format("{}tpp", "tpp"), step=pl.lit(40), n_layers=pl.lit(2),
    )  # fmt: skip
    early = own.with_columns(
        loss=f"loss_{SHORT}", annealed=False, stage=pl.lit("trunk"), step=SHORT, tokens=pl.lit(100.0)
    ).unique("run")
    bases = own.select(
        "seed", "data_seed", run="base", operator=pl.lit("scratch"), arm=pl.lit("scratch"), n_params=pl.lit(15e3),
        loss=pl.lit(2.0), tokens=pl.lit(3e5), annealed=pl.lit(True), stage=pl.lit("20tpp"), step=pl.lit(40),
        n_layers=pl.lit(2),
    ).unique("run")  # fmt: skip
    return pl.concat([bases, own, early], how="diagonal").drop(f"loss_{SHORT}")


ALONE = ("BASE", "--width", 2, "--study", "STUDY", "--no-probe")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("BASE", "--width", 2, "--runs", "table.parquet"), "give a checkpoint to choose for, or --runs TABLE"),
        ((), "give a checkpoint to choose for, or --runs TABLE"),
        (("BASE", "--width", 2, "--out", "x.json"), "give them beside --runs"),
        (("BASE", "--width", 2, "--where", "lr=1"), "give them beside --runs"),
        (("--runs", "gone.parquet"), "gone.parquet"),
        (("--runs", "warmstart_2605_13405_digitised"), "has no column 'stage'"),
        (("BASE", "--study", "STUDY"), "how large?"),
        ((*ALONE, "--study", "nothing"), "neither a file nor comes with scalegrow"),
        ((*ALONE, "--study", "gone.json"), "cannot be opened"),
        ((*ALONE, "--level", 1), "is no interval level"),
        ((*ALONE, "--level", "nan"), "is no interval level"),
        ((*ALONE, "--operators", "tyle"), "did you mean tile"),
        ((*ALONE, "--operators", "split,aki"), "knows none of split, aki"),
        ((*ALONE, "--operators", "szp,szp:shrink=0.4"), "are the same growth"),
        ((*ALONE, "--width", 1.5, "--operators", "tile"), "no candidate grows; tile: tile copies"),
        ((*ALONE, "--layers", 3), "the study grew in width alone, and this target adds 1 layer:"),
        ((*ALONE, "--budget", "20pp"), "20pp"),
        ((*ALONE, "--lag", 0), "give 2 to a million"),
        ((*ALONE, "--seeds", 3), "leave the seeds out"),
        (ALONE[:-1], "probes of 2 steps, to which others do not compare: give --lag 2 or --no-probe."),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    base: Path, study: Path, scalegrow: Scalegrow, arguments: tuple[object, ...], message: str
) -> None:
    given = {"BASE": base, "STUDY": study}
    refused(scalegrow(*(given.get(str(each), each) for each in arguments)), message)


def refused(done: tuple[int, str, list[str]], message: str) -> None:
    code, out, errors = done
    assert (code, out, len(errors)) == (2, "", 1), (out, errors)
    assert errors[0].startswith("scalegrow: ")
    assert message in errors[0]


def test_a_probe_that_foretold_nothing_is_said_to_change_nothing(
    base: Path, tmp_path: Path, scalegrow: Scalegrow
) -> None:
    chance = rows().with_columns(pl.col(f"loss_{SHORT}").shuffle(3))
    write_selection(Selection.fit(chance), tmp_path / "chance.json")
    asked = (base, "--width", 2, "--study", tmp_path / "chance.json", "--operators", "tile,zero_pad")
    probed = (*asked, "--lag", SHORT, "--sequences", 8)
    _, said, notes = scalegrow(*probed)
    assert "it changes nothing." in " ".join(said.split())
    assert notes[0].startswith(f"note: the study gives probes of {SHORT} steps no weight"), "before it is trained"
    data, alone = told(scalegrow, *probed), told(scalegrow, *asked, "--no-probe")
    assert data["probe"]["link"]["trust"] == 0
    assert data["candidates"] == alone["candidates"]


def test_what_the_study_has_not_seen_is_refused(base: Path, tmp_path: Path, scalegrow: Scalegrow) -> None:
    narrow = tmp_path / "narrow.json"
    found = rows(cells=CELLS[:1]).drop(f"kl_{SHORT}")
    write_selection(Selection.fit(found), narrow)
    asked = (base, "--width", 2, "--study", narrow)
    refused(scalegrow(*asked, "--regime", "stochastic"), "the study is of the deterministic regime")
    refused(scalegrow(*asked), "probes of no steps, to which others do not compare: give --no-probe.")
    assert told(scalegrow, *asked, "--no-probe")["take"] == "zero_pad"


def test_the_command_that_follows_grows_the_choice(
    base: Path, study: Path, scalegrow: Scalegrow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, with the candidate's settings after colons."""
    only = ("--operators", "szp:shrink=0.4", "--no-probe")
    data = told(scalegrow, base, "--width", 2, "--study", study, *only)
    program, command, *arguments = shlex.split(data["next"])
    assert (program, command) == ("scalegrow", "grow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, command, *arguments])
    assert _run() == 0
    facts = json.loads((tmp_path / "grown" / "step_00000000" / "state.json").read_text())
    assert facts["lineage"]["arguments"]["shrink"] == 0.4
    assert f"Next: {data['next']}" in scalegrow(base, "--width", 2, "--study", study, *only)[1]
    assert "there is nothing to choose" in scalegrow(base, "--width", 2, "--study", study, *only)[1]


def test_far_off_it_is_no_advice_and_strict_says_so(base: Path, scalegrow: Scalegrow) -> None:
    """The base has seen a few hundredths of what the study's had."""
    asked = (base, "--width", 2, "--no-probe", "--operators", "tile,zero_pad")
    code, out, _ = scalegrow(*asked)
    assert (code, "So far off it is no advice" in out) == (0, True)
    assert scalegrow(*asked, "--strict")[0] == 3


def test_a_candidate_is_not_spoken_of_where_it_was_not_run(
    base: Path, tmp_path: Path, scalegrow: Scalegrow
) -> None:
    """tile ran in one regime and others in both: its term for the other is not nought, it is unknown."""
    partial = rows().filter((pl.col("candidate") != "tile") | (pl.col("regime") == DETERMINISTIC))
    write_selection(Selection.fit(partial), tmp_path / "partial.json")
    asked = (base, "--factor", 4, "--study", tmp_path / "partial.json", "--no-probe")
    stochastic, deterministic = (told(scalegrow, *asked, *more) for more in (("--regime", "stochastic"), ()))
    assert {"candidate": "tile", "reason": "the study did not run it in the stochastic regime."} in stochastic[
        "refused"
    ]
    assert "tile" not in names(stochastic)
    assert "tile" in names(deterministic)


def test_runs_that_are_left_out_are_counted(tmp_path: Path, scalegrow: Scalegrow) -> None:
    table = tmp_path / "table.parquet"
    whole = run_table(rows(cells=CELLS[:3]))
    whole.filter(pl.col("run") != "base 4").write_parquet(table)
    _, _, errors = scalegrow("--runs", table, "--where", "base_budget=20")
    assert errors[0].startswith("note: of 50 grown runs 10 are left out: their base,")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("step", "late", "the column 'step' holds more than numbers"),
        ("n_layers", "two", "the column 'n_layers' holds more than numbers"),
        ("data_seed", float("nan"), "data_seed = nan is out of range"),
        ("base", None, "no final loss of a grown run with its base"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(
    column: str, value: object, message: str, tmp_path: Path, scalegrow: Scalegrow
) -> None:
    table = tmp_path / "table.parquet"
    run_table(rows(cells=CELLS[:3])).with_columns(pl.lit(value).alias(column)).write_parquet(table)
    refused(scalegrow("--runs", table), message)


def test_the_study_does_not_take_the_place_of_its_table(tmp_path: Path, scalegrow: Scalegrow) -> None:
    table = tmp_path / "table.parquet"
    run_table(rows(cells=CELLS[:3])).write_parquet(table)
    before = table.read_bytes()
    asked = ("--runs", table, "--where", "base_budget=20", "--out")
    refused(scalegrow(*asked, table), "is there and holds something else: choose another place.")
    assert table.read_bytes() == before
    refused(scalegrow(*asked, tmp_path), "cannot be written")


def test_bases_of_another_kind_are_refused(base: Path, study: Path, tmp_path: Path, scalegrow: Scalegrow) -> None:
    train(tiny_network(), tmp_path / "network")
    network = max((tmp_path / "network" / "trunk" / "checkpoints").glob("step_*"))
    refused(scalegrow(network, "--width", 2, "--study", study), "the study is of decoders")
    grow_checkpoint(base, tmp_path / "grown", plan(TINY, widened_shape(TINY, 2), "tile"), Policies(), tmp_path)
    grown = tmp_path / "grown" / "step_00000000"
    refused(scalegrow(grown, "--width", 2, "--study", study), "has not been trained")
    refused(scalegrow(tmp_path, "--width", 2, "--study", study), "is no checkpoint")
