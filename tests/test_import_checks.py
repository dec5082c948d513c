"""What an import asks, what it refuses, and what it does not misread."""

import json
import math
import shutil
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from commands import Scalegrow
from importing import LAST, LOGS, expected, imported, rows_of, understood

from scalegrow.cli.collect import WRITERS
from scalegrow.cli.import_logs import run as import_run
from scalegrow.errors import InputError
from scalegrow.runs.importers.tensorboard import is_part
from scalegrow.runs.importers.wandb import BLOCK, HEADER, frames
from scalegrow.runs.importers.wishes import Wishes
from scalegrow.runs.importers.words import rank_of_loss, says_params, unit_in

# What is asked


HISTORY = {"step": [1, 2, 3], "tokens": [1e9, 2e9, 3e9], "val_loss": [4.0, 3.5, 3.2], "lr": [1e-3, 5e-4, 0.0]}


def written(folder: Path, columns: dict[str, list[float]], name: str = "gpt-124M") -> Path:
    path = folder / f"{name}.csv"
    pl.DataFrame(columns).write_csv(path)
    return path


def changed(**columns: list[float]) -> dict[str, list[float]]:
    return {**HISTORY, **columns}


def test_a_plain_history_is_understood(tmp_path: Path) -> None:
    """The control of every refusal below."""
    table, mapping = understood(written(tmp_path, HISTORY))
    assert table.select("n_params", "tokens", "loss", "annealed").rows()[-1] == (124e6, 3e9, 3.2, True)
    assert table["annealed"].to_list() == [False, False, True]
    assert mapping["n_params"].why == "size in the name"


QUESTIONS = [
    ({}, "gpt-124M", (), "annealed=last"),
    ({}, "gpt", LAST, "--set n_params"),
    ({"tokens": None}, "gpt-124M", LAST, "--set tokens_per_step"),
    ({"tokens": None, "step": None}, "gpt-124M", LAST, "--map tokens"),
    ({"val_loss": None}, "gpt-124M", LAST, "--map loss"),
    ({}, "gpt-124M-grown", LAST, "--set operator"),
    ({"n_params": [1e8, 1e8, 2e8]}, "gpt", LAST, "--map run=COLUMN"),
    ({"eval/loss": [4.1, 3.6, 3.3]}, "gpt-124M", LAST, "--map loss="),
]


@pytest.mark.parametrize(("change", "name", "said", "option"), QUESTIONS)
def test_what_is_missing_is_asked_for(
    change: dict[str, list[float] | None], name: str, said: tuple[str, ...], option: str, tmp_path: Path
) -> None:
    columns = {key: values for key, values in {**HISTORY, **change}.items() if values is not None}
    with pytest.raises(InputError, match=option):
        imported(written(tmp_path, columns, name), set_=said)


def test_tokens_are_steps_times_what_was_said(tmp_path: Path) -> None:
    columns = {key: values for key, values in HISTORY.items() if key != "tokens"}
    table = imported(written(tmp_path, columns), set_=(*LAST, "tokens_per_step=500M"))
    assert table["tokens"].to_list() == [5e8, 1e9, 1.5e9]


def test_tokens_between_two_counts_are_interpolated(tmp_path: Path) -> None:
    table = imported(written(tmp_path, changed(tokens=[1e9, None, 3e9])))  # type: ignore[list-item]
    assert table["tokens"].to_list() == [1e9, 2e9, 3e9]


def test_a_grown_run_takes_size_and_tokens_of_its_base(tmp_path: Path) -> None:
    rows = {
        "run": ["a", "a", "b"],
        "tokens": [1e9, 2e9, 3e9],
        "val_loss": [4.0, 3.5, 3.2],
        "n_params": [1e8, 1e8, 2e8],
    }
    path = written(tmp_path, rows, "ladder")
    facts = tmp_path / "about.csv"
    pl.DataFrame({"run": ["a", "b"], "operator": ["scratch", "szp"], "base": [None, "a"]}).write_csv(facts)
    table = imported(path, about=facts)
    assert table.filter(run="b").select("base_params", "base_tokens", "growth_factor").row(0) == (1e8, 2e9, 2.0)
    pl.DataFrame({"run": ["a", "b"], "operator": ["scratch", "szp"]}).write_csv(facts)
    with pytest.raises(InputError, match="base run"):
        imported(path, about=facts)


# What cannot be


IMPOSSIBLE = [
    (changed(val_loss=[4.0, 2.0, 200.0]), "gpt-124M", "rises from 2 to 200"),
    (changed(val_loss=[4.0, 3.5, math.nan]), "gpt-124M", "is nan"),
    (changed(val_loss=[4.0, 3.5, -3.2]), "gpt-124M", "above 0"),
    (changed(val_loss=[90.0, 40.0, 30.0]), "gpt-124M", "--unit loss=perplexity"),
    (changed(tokens=[1e9, 3e9, 2e9]), "gpt-124M", r"tokens fall from 3e\+09 to 2e\+09"),
    (changed(tokens=[1e6, 1e6, 1e6]), "gpt-124M", "3 losses at"),
    (changed(tokens=[1.0, 2.0, 3.0]), "gpt-124M", "--unit tokens=B"),
    (changed(total_flops=[7.44e17, 1.488e18, 2.232e19]), "gpt-124M", "10 times that"),
    (changed(tokens=[1e8, 2e8, 4e8]), "gpt-124M_4B_tokens", "10 times less"),
    (changed(n_params=[1.3e9] * 3), "gpt-124M", "the name says 124M"),
    (changed(n_params=[1e8, 1e8, 2e8], run=["a", "a", "a"]), "gpt", "within one run"),  # type: ignore[list-item]
    (changed(lr=[1e-4, 1e-3, 9e-4]), "gpt-124M", "90% of its peak"),
]


@pytest.mark.parametrize(("columns", "name", "problem"), IMPOSSIBLE)
def test_what_cannot_be_true_is_refused(
    columns: dict[str, list[float]], name: str, problem: str, tmp_path: Path
) -> None:
    path = written(tmp_path, columns, name)
    with pytest.raises(InputError, match=problem) as refused:
        imported(path)
    assert name in str(refused.value)
    assert "--" in str(refused.value)


def test_losses_of_one_run_are_not_all_annealed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annealed=last"):
        imported(written(tmp_path, HISTORY), set_=("annealed=true",))


@pytest.mark.parametrize(("unit", "name"), [("bits", "val_bits"), ("perplexity", "val_ppl")])
def test_other_units_are_refused_until_they_are_said(unit: str, name: str, tmp_path: Path) -> None:
    nats = HISTORY["val_loss"]
    values = {"bits": [x / math.log(2) for x in nats], "perplexity": [math.exp(x) for x in nats]}[unit]
    columns = {key: value for key, value in HISTORY.items() if key != "val_loss"} | {name: values}
    path = written(tmp_path, columns)
    with pytest.raises(InputError, match=f"--unit loss={unit}"):
        imported(path)
    with pytest.raises(InputError, match=f"--unit loss={unit}|called {unit}"):
        imported(path, map_=(f"loss={name}",))
    table = imported(path, map_=(f"loss={name}",), unit=(f"loss={unit}",))
    assert table["loss"].to_list() == pytest.approx(nats)


def test_the_ways_out_lead_out(tmp_path: Path) -> None:
    off = written(tmp_path, changed(tokens=[1e8, 2e8, 4e8]), "gpt-124M_4B_tokens")
    assert imported(off, unit=("tokens=10",))["tokens"].to_list() == [1e9, 2e9, 4e9]
    assert imported(off, unit=("tokens=1",))["tokens"].to_list() == [1e8, 2e8, 4e8]
    good, bad = written(tmp_path, HISTORY), written(tmp_path, changed(val_loss=[4.0, 2.0, 200.0]), "bad-124M")
    assert {*imported(good, bad, left_out=("bad-*",))["run"]} == {"gpt-124M"}
    with pytest.raises(InputError, match="no run is called so"):
        imported(good, left_out=("other",))


def test_a_unit_in_the_name_is_used_and_shown(tmp_path: Path) -> None:
    columns = {key: value for key, value in HISTORY.items() if key != "tokens"} | {"tokens (B)": [1.0, 2.0, 3.0]}
    table, mapping = understood(written(tmp_path, columns))
    assert table["tokens"].to_list() == [1e9, 2e9, 3e9]
    assert "x 1e+09 by the name" in mapping["tokens"].why


@pytest.mark.parametrize("content", ["", "a;b\n1;2\n", "\x00\x01", "x\n1\n"])
def test_other_files_are_refused_in_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(InputError) as refused:
        imported(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["trainer_state.json", "run-x.wandb", "events.out.tfevents.1", "mlflow.db"])
def test_damaged_logs_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    if "tfevents" in name:
        pytest.importorskip("tensorboard")
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(InputError) as refused:
        imported(path)
    assert "\n" not in str(refused.value)


def test_a_restart_from_a_checkpoint_replaces_what_came_after_it(tmp_path: Path) -> None:
    """The last writer of a step is what the run went on from."""
    state = {"log_history": [], "global_step": 3}
    history = [(1, 4.0), (2, 3.5), (3, 9.0), (2, 3.6), (3, 3.2)]
    state["log_history"] = [{"step": s, "eval_loss": x, "num_input_tokens_seen": s * 10**9} for s, x in history]
    path = tmp_path / "gpt-124M" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps(state))
    assert imported(path)["loss"].to_list() == [4.0, 3.6, 3.2]


def test_tokens_so_far_go_before_tokens_of_a_batch(tmp_path: Path) -> None:
    history = [
        {
            "step": s,
            "eval_loss": 5.0 - s,
            "train/tokens": 524288,
            "tokens_seen": s * 10**9,
            "learning_rate": 1e-3 / s,
        }
        for s in (1, 2, 3)
    ]
    path = tmp_path / "gpt-124M" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"log_history": history, "global_step": 3}))
    table, mapping = understood(path)
    assert mapping["tokens"].shown == "tokens_seen"
    assert table["tokens"].to_list() == [1e9, 2e9, 3e9]


def test_two_formats_in_a_folder_are_asked_about(tmp_path: Path) -> None:
    shutil.copytree(LOGS / "trainer", tmp_path / "trainer")
    shutil.copytree(LOGS / "mlflow" / "mlruns", tmp_path / "mlruns")
    with pytest.raises(InputError, match="--format trainer"):
        imported(tmp_path)
    assert imported(tmp_path, kind="mlflow").height == 8


def test_records_across_blocks_are_put_together(tmp_path: Path) -> None:
    """The framing of W&B's file: fragments, and a tail too short for one."""
    first, second = b"a" * (BLOCK - HEADER - 2 * HEADER - 3), b"b" * 40000

    def fragment(kind: int, data: bytes) -> bytes:
        return b"\0\0\0\0" + len(data).to_bytes(2, "little") + bytes([kind]) + data

    room = BLOCK - HEADER - (HEADER + len(first)) - HEADER
    middle = BLOCK - HEADER
    parts = [second[:room], second[room : room + middle], second[room + middle :]]
    body = fragment(1, first) + fragment(2, parts[0]) + fragment(3, parts[1]) + fragment(4, parts[2])
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b":W&B\xbe\xe1\x00" + body)
    assert [*frames(path)] == [first, second]
    path.write_bytes(path.read_bytes()[:-1])  # torn by a crash
    assert [*frames(path)] == [first]


# The command


def test_the_command_shows_asks_and_writes(inside: Scalegrow, tmp_path: Path) -> None:
    command = partial(inside, "import", str(LOGS / "table" / "runs.csv"), cwd=tmp_path)
    out = tmp_path / "table.parquet"
    asked = command("--out", "table.parquet")
    assert (asked.returncode, out.exists()) == (2, False)
    assert "val/loss" in asked.stdout
    assert len(asked.stderr.splitlines()) == 1
    done = command("--set", "annealed=last", "--out", "table.parquet")
    assert done.returncode == 0, done.stderr
    assert "8 rows written to table.parquet" in done.stderr
    assert rows_of(pl.read_parquet(out)) == sorted(expected())
    told = json.loads(command("--set", "annealed=last", "--json").stdout)
    assert told["mapping"]["loss"]["source"] == "val/loss"
    assert told["rows"] == 8


ROWS = "run,n_params,tokens,val_loss\n"


def test_a_path_is_no_pattern(tmp_path: Path) -> None:
    """Beside the file that the pattern would read."""
    for name, n in (("a1.csv", 9), ("a[1].csv", 2)):
        (tmp_path / name).write_text(f"{ROWS}x,{n}000000,80000000,4\n{''}")
    assert imported(tmp_path / "a[1].csv")["n_params"].to_list() == [2e6]


def test_a_truth_that_is_none_and_a_base_that_is_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,n_params,tokens,val_loss,final\nx,2000000,80000000,4,yes\n")
    with pytest.raises(InputError, match="annealed says 'yes': write true or false"):
        imported(path, map_=("annealed=final",), set_=())
    path.write_text(f"{ROWS}x,2000000,80000000,4\n")
    with pytest.raises(InputError, match="run x is grown and its own base"):
        imported(path, set_=(*LAST, "operator=szp", "base=x"))
    about = tmp_path / "about.csv"
    about.write_text("run,operator,base,base_params\nx,scratch,,\ng,szp,x,1000000\n")
    path.write_text(f"{ROWS}x,2000000,80000000,4\ng,4000000,80000000,3\n")
    with pytest.raises(InputError, match="base_params is 1e\\+06, but its base x has 2e\\+06"):
        imported(path, about=about)


def test_a_loss_of_no_run_is_refused(tmp_path: Path) -> None:
    """It would be a run, whose only loss were its last."""
    path = tmp_path / "a.csv"
    path.write_text(f"{ROWS}x,2000000,80000000,4\n,2000000,40000000,5\n")
    with pytest.raises(InputError, match=r"a loss at 4e\+07 tokens is of no run"):
        imported(path)


def test_a_base_that_is_none_of_the_runs_is_asked_for_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{ROWS}g,4000000,80000000,3\n")
    with pytest.raises(InputError, match=r"its base small is none of these runs: .* or name one of g"):
        imported(path, set_=(*LAST, "operator=szp", "base=small"))
    facts = ("base_params=2M", "base_tokens=40M")
    assert imported(path, set_=(*LAST, "operator=szp", "base=small", *facts))["base_tokens"].to_list() == [4e7]


RATES = "run,n_params,tokens,val_loss,lr\nx,2000000,40000000,4,{}\nx,2000000,80000000,3,{}\n"


def test_rates_that_contradict_are_refused_and_a_constant_one_is_told(inside: Scalegrow, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for rates, message in (
        ((0.1, -0.1), "the learning rate at 8e\\+07 tokens is -0.1"),
        ((0.1, 0.09), "stands at 90%"),
    ):
        path.write_text(RATES.format(*rates))
        with pytest.raises(InputError, match=message):
            imported(path)
    for rates, told in (((0.1, 0.1), True), ((0.1, 0.01), False), ((0.1, "nan"), True)):
        path.write_text(RATES.format(*rates))
        done = inside("import", "a.csv", "--set", "annealed=last", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("is one number throughout" in " ".join(done.stderr.split())) == told


def test_a_name_of_two_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,n_params,tokens,val_loss,val_loss\nx,2000000,80000000,4,3\n")
    with pytest.raises(InputError, match="two columns are called val_loss"):
        imported(path)
    second = imported(path, map_=("loss=val_loss_duplicated_0",))
    assert second["loss"].to_list() == [3]


@pytest.mark.parametrize("size", ["0", "nan", "-3", "inf", ""])
def test_a_size_that_is_none_is_asked_for(size: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{ROWS}x,{size},80000000,4\ny,2000000,80000000,4\n")
    with pytest.raises(InputError, match=r"run x: its number of parameters is .* --without 'x'"):
        imported(path)


def test_a_loss_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROWS}x,2000000,80000000,4\n")
    with pytest.raises(InputError, match="a loss is measured, not set"):
        imported(tmp_path / "a.csv", set_=(*LAST, "loss=3"))


def test_steps_are_the_optimiser_s_before_a_tracker_s_count_of_calls(tmp_path: Path) -> None:
    """nanoGPT logs iter every 2,000 steps; W&B counts each as one."""
    path = tmp_path / "gpt2-124M.csv"
    path.write_text("_step,iter,val/loss\n1,20000,4.0\n2,40000,3.6\n")
    found = imported(path, set_=(*LAST, "tokens_per_step=491520"))
    assert found["tokens"].to_list() == [20000 * 491520, 40000 * 491520]
    path.write_text("_step,val/loss,global_batch_size,seq_len\n1,4.0,8,1024\n2,3.6,8,1024\n")
    with pytest.raises(InputError, match="_step, which counts calls of log"):
        imported(path)
    assert imported(path, set_=(*LAST, "tokens_per_step=8192000"))["tokens"].max() == 2 * 8192000


def lightning(folder: Path, rows: str, hparams: str = "") -> Path:
    """A run of Lightning's CSVLogger."""
    folder.mkdir()
    (folder / "metrics.csv").write_text(rows)
    (folder / "hparams.yaml").write_text(hparams)
    return folder


def test_a_stray_record_replaces_no_loss(tmp_path: Path) -> None:
    """A restart replaces what it wrote again, and no more."""
    rows = "epoch,step,val_loss,grad_norm\n0,500,4.0,\n0,1000,3.6,\n0,1500,3.4,\n"
    told = ("n_params=100M", "tokens_per_step=1M")
    stray = lightning(tmp_path / "stray", rows + "0,510,,2.0\n")
    assert imported(stray, set_=(*LAST, *told))["loss"].to_list() == [4.0, 3.6, 3.4]
    again = lightning(tmp_path / "again", rows + "0,1000,3.5,\n")
    assert imported(again, set_=(*LAST, *told))["loss"].to_list() == [4.0, 3.5]


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("a/train", "a/validation"), {"a/train", "a/validation"}),
        (("a", "a/eval"), {"a/eval"}),
        (("runs/test",), set()),
        (("runs/dev", "runs/test"), set()),
        (("runs/train",), set()),
    ],
)
def test_a_folder_is_a_part_beside_another_part(folders: tuple[str, ...], parts: set[str]) -> None:
    there = {Path(folder) for folder in folders}
    assert {str(folder) for folder in there if is_part(folder, there)} == parts


def test_what_stands_nearer_to_the_loss_says_whose_it_is() -> None:
    ranks = {name: rank_of_loss(name, bare_is_final=False) for name in ("eval/train_loss", "train/val_loss")}
    assert [rank and rank[0] for rank in ranks.values()] == [2, 0]


@pytest.mark.parametrize("rows", ["a,124,2480,3.3\nb,350,7000,3.1\n", "a,124,2.5,3.3\nb,350,7,3.1\n"])
def test_sizes_in_millions_are_asked_about(rows: str, tmp_path: Path) -> None:
    """Also where tokens in the same unit, or the next, make a ratio that could be."""
    path = tmp_path / "a.csv"
    path.write_text(f"run,params,tokens,val_loss\n{rows}")
    with pytest.raises(InputError, match="fewer than any language model's: in which unit"):
        imported(path)
    assert imported(path, unit=("n_params=M", "tokens=M"))["n_params"].to_list() == [124e6, 350e6]
    assert imported(path, unit=("n_params=1",))["n_params"].to_list() == [124, 350]


def test_units_hold_for_facts_and_for_counted_steps(tmp_path: Path) -> None:
    path, about = tmp_path / "a.csv", tmp_path / "about.csv"
    path.write_text("run,tokens,val_loss\na,2e9,3.3\nb,4e9,3.1\n")
    about.write_text("run,n_params\na,124\nb,350\n")
    assert imported(path, about=about, unit=("n_params=M",))["n_params"].to_list() == [124e6, 350e6]
    about.write_text("run,n_params\na,124M\nb,350M\n")
    assert imported(path, about=about)["n_params"].to_list() == [124e6, 350e6]
    about.write_text("run,n_params\na,many\nb,350M\n")
    with pytest.raises(InputError, match=r"--about .*'many' is not a size"):
        imported(path, about=about)
    path.write_text("run,step,val_loss\na,1000,3.3\n")
    told = (*LAST, "n_params=10M", "tokens_per_step=524")
    assert imported(path, set_=told, unit=("tokens=k",))["tokens"].to_list() == [524e6]
    with pytest.raises(InputError, match="cannot be: in which unit"):
        imported(path, set_=told, unit=("tokens=T",))


def test_a_last_loss_without_tokens_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("step,tokens,val_loss\n100,1e8,\n500,,4.0\n990,9.9e8,\n1000,,3.3\n")
    told = ("n_params=50M",)
    with pytest.raises(InputError, match=r"its last loss, 3.3, has no count of tokens"):
        imported(path, set_=(*LAST, *told))
    assert imported(path, set_=("annealed=false", *told))["loss"].to_list() == [4.0]


def test_a_batch_that_is_counted_in_tokens_is_not_multiplied(tmp_path: Path) -> None:
    rows = "epoch,step,val_loss\n0,1000,4.0\n0,2000,3.6\n"
    told = ("n_params=100M",)
    batch = "global_batch_size: {}\nsequence_length: 2048\n"
    sequences = lightning(tmp_path / "sequences", rows, batch.format(512))
    assert imported(sequences, set_=(*LAST, *told))["tokens"].max() == 2000 * 512 * 2048
    tokens = lightning(tmp_path / "tokens", rows, batch.format(1048576))
    with pytest.raises(InputError, match="of how many tokens is a step"):
        imported(tokens, set_=(*LAST, *told))


def test_names_say_no_more_than_they_do() -> None:
    assert says_params("embedding_params") is None
    assert says_params("non_embedding_params") == says_params("params_no_embed") == "n_params_non_embedding"
    assert (unit_in("group-k/tokens"), unit_in("train/tokens (B)")) == (1.0, 1e9)


def test_what_is_read_is_not_written_over(inside: Scalegrow, tmp_path: Path) -> None:
    shutil.copytree(LOGS / "lightning", tmp_path / "logs")
    (log,) = {path for path in (tmp_path / "logs").rglob("metrics.csv") if "2M" in str(path)}
    before = log.read_bytes()
    done = inside("import", "logs", "--set", "annealed=last", "--out", str(log), cwd=tmp_path)
    assert "is what is read" in done.stderr
    assert log.read_bytes() == before


def test_losses_before_training_are_left_out_and_told(inside: Scalegrow, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROWS}x,2000000,0,11\nx,2000000,80000000,4\n")
    done = inside("import", "a.csv", "--set", "annealed=last", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 losses at 0 tokens, before training, are left out" in done.stderr
    assert "1 run, 1 loss" in done.stdout


def test_a_run_is_left_out_by_its_very_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{ROWS}a[1],2000000,80000000,4\nb,2000000,80000000,4\n")
    assert imported(path, left_out=("a[1]",))["run"].to_list() == ["b"]
    path.write_text(f"{ROWS},2000000,80000000,4\nb,2000000,80000000,4\n")
    with pytest.raises(InputError, match="is of no run: name it"):
        imported(path, left_out=("b",))


def test_a_full_disk_is_not_the_log_s_fault(
    inside: Scalegrow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(frame: pl.DataFrame, path: Path) -> None:
        raise pl.exceptions.ComputeError("No space left on device")

    monkeypatch.setitem(WRITERS, ".csv", full)
    (tmp_path / "a.csv").write_text(f"{ROWS}x,2000000,80000000,4\n")
    done = inside("import", "a.csv", "--set", "annealed=last", "--out", "b.csv", cwd=tmp_path)
    assert "b.csv cannot be written (No space left on device): free the disk" in done.stderr


def test_folders_called_as_logs_and_links_are_no_logs(tmp_path: Path) -> None:
    for name in ("metrics.csv", "x.wandb", "a.tfevents"):
        (tmp_path / "logs" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="holds no logs of"):
        imported(tmp_path / "logs")
    path, link = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(f"{ROWS}x,2000000,80000000,4\n")
    link.symlink_to(path)
    with pytest.raises(InputError, match="is given twice"):
        imported(path, link)


def test_final_losses_alone_are_a_run_each(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n_params,tokens,val_loss\n2000000,40000000,4.2\n2000000,80000000,4\n")
    with pytest.raises(InputError, match="or --set run=row where every row is a run of its own"):
        imported(path, set_=("annealed=true",))
    assert imported(path, set_=("annealed=true", "run=row"))["run"].n_unique() == 2


def test_damaged_logs_are_one_line_and_the_log_itself_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "torn.jsonl").write_text(
        '{"run":"x","n_params":2000000,"tokens":8e7,"val_loss":4}\n{"run":"x","n_'
    )
    with pytest.raises(InputError, match=r"cannot be read as .jsonl .*: is it whole\? export it again"):
        imported(tmp_path / "torn.jsonl")
    (tmp_path / "a.jsonl").write_text('{"run":["a"],"n_params":{"x":1},"tokens":[1],"loss":"hi"}\n')
    wishes = Wishes.of((), LAST, (), None)
    with pytest.raises(InputError, match="is damaged, or holds what no log of its format does"):
        import_run([tmp_path / "a.jsonl"], None, wishes, None, (), as_json=True)
    path = tmp_path / "b.csv"
    path.write_text(f"{ROWS}x,2000000,80000000,4\n")
    with pytest.raises(InputError, match="is what is read"):
        import_run([path], path, wishes, None, (), as_json=True)
    assert path.read_text().startswith(ROWS)
