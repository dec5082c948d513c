"""What only watches: lags, condensation and attention sinks, a study's early signals; none decides a run."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sweeping import NETWORKS, swept, tiny_study, watched_study
from test_train import Stopper, assert_same_run, weights_of
from training import TINY, held_out, records_of, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.collect import STRUCTURE, collect, differing
from scalegrow.runs.config import Decoder, Evaluation, Optimiser, RunConfig, Schedule, decides
from scalegrow.runs.fields import flatten
from scalegrow.runs.finished import read_note, write_note
from scalegrow.runs.study import parse_study
from scalegrow.train.candidates import parse_candidates
from scalegrow.train.measures import condensation
from scalegrow.train.member import Job, base_checkpoint
from scalegrow.train.model import Transformer, build_decoder
from scalegrow.train.probe import Regime, probe
from scalegrow.train.restore import load_checkpoint
from scalegrow.train.run import train
from scalegrow.train.stages import stages
from scalegrow.train.state import checkpoints
from scalegrow.train.structure import first_token_share, structure
from scalegrow.train.sweep import jobs_of, table
from scalegrow.train.task import task_for

T = TINY.context
EVEN = float(np.mean([1 / (t + 1) for t in range(1, T)]))
TOKENS = torch.randint(0, 256, (3, T), generator=torch.Generator().manual_seed(0))
PLAIN, WATCHED = Evaluation(16, 4), Evaluation(16, 4, lags=(5, 12), structure=True)
STAGES = ("trunk", "1920_tokens", "3840_tokens")


# The share of attention that goes to the first token.


def decoder(**shape: Any) -> Transformer:
    return build_decoder(with_shape(tiny_config(), **shape))


def with_queries(model: Transformer, by: float, layers: slice = slice(None)) -> Transformer:
    """The model with the query weights of these layers multiplied: 0 makes attention even, more makes it sharp."""
    with torch.no_grad():
        for layer in list(model.model.layers)[layers]:
            layer.self_attn.q_proj.weight.mul_(by)
    return model


@pytest.mark.parametrize(
    "shape",
    [
        *({"n_kv_heads": 2}, {"n_kv_heads": 1}, {"n_heads": 4, "n_kv_heads": 2}, {"n_layers": 1}),
        *({"qk_norm": True}, {"positions": "learned", "norm": "layernorm"}, {"gate": "elementwise"}),
    ],
    ids=str,
)
def test_even_attention_pays_the_first_token_its_share_of_those_before(shape: dict[str, Any]) -> None:
    """Without queries all scores are 0: token t pays 1 / (t + 1) to each of the t + 1 tokens that it sees."""
    model = with_queries(decoder(**shape), 0)
    assert first_token_share(model, TOKENS) == pytest.approx(EVEN, rel=1e-6)
    assert first_token_share(model, TOKENS[:, :2]) == pytest.approx(1 / 2, rel=1e-6)
    sharp = with_queries(decoder(**shape), 8)
    assert abs(first_token_share(sharp, TOKENS) - EVEN) > 1e-3, "the control: with queries it is another"


def test_the_even_share_of_the_docstring() -> None:
    assert np.mean([1 / (t + 1) for t in range(1, 128)]) == pytest.approx(0.035, abs=5e-4)


@pytest.mark.parametrize(("sought", "share"), [("first", 1.0), ("later", 0.0)])
def test_attention_that_all_goes_to_the_first_token_or_to_the_others(sought: str, share: float) -> None:
    """The stream is e_0 at the first position and e_1 at all others; keys answer to one of them alone."""
    model = decoder(positions="learned", n_layers=1, n_heads=1)
    keyed = 0 if sought == "first" else 1
    with torch.no_grad():
        stack, attention = model.model, model.model.layers[0].self_attn
        stack.embed_tokens.weight.zero_()
        stack.embed_positions.weight.zero_()
        stack.embed_positions.weight[0, 0] = stack.embed_positions.weight[1:, 1] = 1
        for map_, column in ((attention.q_proj, 1), (attention.k_proj, keyed)):
            map_.weight.zero_()
            map_.weight[0, column] = 20
    assert first_token_share(model, TOKENS) == pytest.approx(share, abs=1e-6)


def counted_share(model: Transformer, tokens: torch.Tensor) -> float:
    """The first layer's share by hand: every sequence, head and token on its own, in float64."""
    decoder, weights = model.config, {k: v.double().numpy() for k, v in model.state_dict().items()}
    H, G, K = decoder.shape.n_heads, decoder.shape.n_kv_heads, decoder.shape.head_dim
    first = "model.layers.0."
    x = weights["model.embed_tokens.weight"][tokens.numpy()] * model.scale.embedding
    x /= np.sqrt((x**2).mean(-1, keepdims=True) + decoder.norm_eps)
    x *= weights[f"{first}input_layernorm.weight"]
    angles = np.outer(np.arange(tokens.shape[1]), decoder.rope_theta ** (-2 * np.arange(K // 2) / K))

    def turned(name: str, head: int) -> np.ndarray[Any, Any]:
        rows = x @ weights[f"{first}self_attn.{name}.weight"][head * K : (head + 1) * K].T
        return (rows[..., : K // 2] + 1j * rows[..., K // 2 :]) * np.exp(1j * angles)

    shares = []
    for head in range(H):
        q, k = turned("q_proj", head), turned("k_proj", head * G // H)
        for sequence in range(len(tokens)):
            for t in range(1, tokens.shape[1]):
                scores = (q[sequence, t] * k[sequence, : t + 1].conj()).real.sum(-1) * model.scale.attention
                paid = np.exp(scores - scores.max())
                shares.append(paid[0] / paid.sum())
    return float(np.mean(shares))


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (2, 1)], ids=str)
def test_the_share_is_that_of_a_count_by_hand(heads: tuple[int, int]) -> None:
    model = with_queries(decoder(n_heads=heads[0], n_kv_heads=heads[1], n_layers=1), 8)
    assert first_token_share(model, TOKENS) == pytest.approx(counted_share(model, TOKENS), rel=1e-5)
    two = with_queries(with_queries(decoder(n_heads=heads[0], n_kv_heads=heads[1]), 8), 0, slice(1, 2))
    wanted = (counted_share(two, TOKENS) + EVEN) / 2
    assert first_token_share(two, TOKENS) == pytest.approx(wanted, rel=1e-5), "the mean over layers"


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_a_model_as_it_was(training: bool) -> None:
    """Mode, outputs, hooks and random numbers; also where the forward pass fails."""
    model = build_decoder(tiny_config(model=Decoder(TINY, dropout=0.5))).train(training)

    def seen() -> torch.Tensor:
        torch.manual_seed(1)
        return model(TOKENS).detach()

    before, random = seen(), torch.get_rng_state()
    share = first_token_share(model, TOKENS)
    assert share == first_token_share(model.eval(), TOKENS), "dropout is off"
    model.train(training)
    with pytest.raises(IndexError):
        first_token_share(model, TOKENS + 256)
    assert torch.equal(torch.get_rng_state(), random)
    assert {module.training for module in model.modules()} == {training}
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(seen(), before)


def test_a_compiled_model_has_the_same_share() -> None:
    """What was compiled passes by hooks that come later; measuring goes round it and leaves it as it was."""
    model = decoder().eval()
    wanted = first_token_share(model, TOKENS)
    model.compile(backend="eager")
    with torch.no_grad():
        before = model(TOKENS)
        assert first_token_share(model, TOKENS) == wanted
        assert torch.equal(model(TOKENS), before)


# Runs that are watched.


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run twice, plain and watched, every step of it logged."""
    folder = tmp_path_factory.mktemp("runs")
    for name, evaluation in (("plain", PLAIN), ("watched", WATCHED)):
        train(tiny_config(evaluation=evaluation, log_every=1), folder / name)
    return folder


def unwatched(records: list[dict[str, Any]], lags: tuple[int, ...] = WATCHED.lags) -> list[dict[str, Any]]:
    """A watched run's records without those that lags add, nor what structure adds to the others."""
    kept = [record for record in records if "heldout_loss" not in record or record["step"] not in lags]
    return [{name: value for name, value in each.items() if name not in STRUCTURE} for each in kept]


def test_watching_changes_no_loss_and_no_weight(runs: Path) -> None:
    """Bit for bit: every training record, every held-out one that both have, every weight and moment."""
    for stage in STAGES:
        plain, watched = (records_of(runs / name, stage) for name in ("plain", "watched"))
        assert unwatched(watched) == plain
        assert watched != plain, "the control: there is something to take away"
        one, other = (weights_of(runs / name, stage) for name in ("plain", "watched"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_at_lags_the_whole_set_is_read_and_a_checkpoint_stays(runs: Path) -> None:
    found = held_out(runs / "watched", "trunk")
    assert {step: record["heldout_sequences"] for step, record in found.items()} == {
        **{5: 16, 12: 16},  # the lags
        **{8: 2, 24: 2},  # an eighth on the way
        **{16: 16, 32: 16},  # where cool-downs leave
    }
    kept = [int(each.name[5:]) for each in checkpoints(runs / "watched" / "trunk" / "checkpoints")]
    assert kept == [5, 12, 16, 32]
    assert [*held_out(runs / "watched", "3840_tokens")] == [40], "a cool-down has no lags"


def test_structure_is_in_every_held_out_record_where_it_is_asked_for(runs: Path, tmp_path: Path) -> None:
    """And is that of the weights at that step."""
    for stage in STAGES:
        assert all({*STRUCTURE} <= record.keys() for record in held_out(runs / "watched", stage).values())
        assert not any({*STRUCTURE} & record.keys() for record in held_out(runs / "plain", stage).values())
    assert not any({*STRUCTURE} & each.keys() for each in records_of(runs / "watched", "trunk") if "lr" in each)
    task = task_for(tiny_config(), tmp_path)
    first, last = (load_checkpoint(runs / "watched" / "trunk" / "checkpoints" / f"step_{n:08}") for n in (5, 32))
    for step, model in ((5, first), (32, last)):
        record = held_out(runs / "watched", "trunk")[step]
        assert {name: record[name] for name in STRUCTURE} == structure(task, model)
    weights = {name: parameter.detach() for name, parameter in last.named_parameters()}
    assert structure(task, last)["rank"] == condensation(weights, task.parameters()).rank
    assert structure(task, first) != structure(task, last)


def test_networks_have_clusters_and_rank_and_no_sink(tmp_path: Path) -> None:
    train(tiny_network(evaluation=Evaluation(64, 2, structure=True)), tmp_path)
    for record in held_out(tmp_path, "trunk").values():
        assert {*STRUCTURE} & record.keys() == {"clusters", "rank"}
        assert 0 < record["clusters"] <= 1
        assert 0 < record["rank"] <= 1
    assert {*STRUCTURE} & {*collect(tmp_path).columns} == {"clusters", "rank"}


def test_structure_is_columns_of_the_run_table_where_a_run_has_it(runs: Path) -> None:
    rows = collect(runs / "watched").filter(pl.col("stage") == "trunk")
    for name in STRUCTURE:
        wanted = {step: record[name] for step, record in held_out(runs / "watched", "trunk").items()}
        assert dict(rows.select("step", name).iter_rows()) == wanted
    assert not {*STRUCTURE} & {*collect(runs / "plain").columns}


@pytest.mark.parametrize("after", [3, 4, 9])
def test_a_run_stopped_at_a_lag_resumes_bit_for_bit(tmp_path: Path, after: int) -> None:
    """Stopped before the first lag's checkpoint is written, behind it, and behind the second lag's."""
    config = tiny_config(evaluation=WATCHED)
    train(config, tmp_path / "whole")
    with pytest.raises(MemoryError):
        train(config, tmp_path / "stopped", watchers=(Stopper(after),))
    there = [int(each.name[5:]) for each in checkpoints(tmp_path / "stopped" / "trunk" / "checkpoints")]
    assert there == {3: [], 4: [5], 9: [5]}[after]
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


LAGGED = Evaluation(lags=(5, 30, 36, 400))


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        (Schedule(), {"trunk": {5, 16, 30, 32}, "1920_tokens": {20}, "3840_tokens": {40}}),
        (Schedule("constant"), {"trunk": {5, 20, 30, 36, 40}}),
        (Schedule("cosine"), {"1920_tokens": {5, 20}, "3840_tokens": {5, 30, 36, 40}}),
        (Schedule(decay=1.0), {"1920_tokens": {5, 20}, "3840_tokens": {5, 30, 36, 40}}),
    ],
    ids=["wsd", "constant", "cosine", "no trunk"],
)
def test_lags_are_steps_of_what_begins_at_the_first_weights(schedule: Schedule, kept: dict[str, set[int]]) -> None:
    """Those beyond its end are passed over; each is read and kept."""
    planned = stages(tiny_config(schedule=schedule, evaluation=LAGGED))
    assert {stage.name: {*stage.keep} for stage in planned} == kept
    assert all(stage.keep <= stage.evaluate for stage in planned)


@pytest.mark.parametrize("lags", [(128, 16), (0, 16), (-1,), (16, 16), (16, 10**10)], ids=str)
def test_lags_that_are_no_ascending_steps_are_refused_in_one_line(lags: tuple[int, ...]) -> None:
    plain = json.loads(json.dumps(tiny_config().to_dict()))
    plain["evaluation"]["lags"] = [*lags]
    for make in (lambda: Evaluation(lags=lags), lambda: RunConfig.from_dict(plain)):
        with pytest.raises(InputError, match=r"evaluation.lags = .* ascending steps, such as \[16, 128\]") as no:
            make()
        assert len(str(no.value).splitlines()) == 1


@pytest.mark.parametrize("lags", [16, "16", [16.0], ["16"], [True], None])
def test_lags_of_another_kind_are_refused_in_one_line(lags: object) -> None:
    plain = json.loads(json.dumps(tiny_config().to_dict()))
    with pytest.raises(InputError, match=r"config.evaluation.lags = .* is no") as no:
        RunConfig.from_dict({**plain, "evaluation": {"lags": lags}})
    assert len(str(no.value).splitlines()) == 1


# The early signals of a study's grown runs.

CANDIDATES = ("tile", "szp:shrink=0.4", "tile_noise", "tile:moments=reset", "ligo:learn_steps=2")
DECODERS = watched_study("[2, 8, 500]", *CANDIDATES)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of decoders, trained."""
    folder = tmp_path_factory.mktemp("studied")
    assert not swept(DECODERS, folder).failed
    return folder


def by_arm(text: str, folder: Path) -> dict[str, Job]:
    """The grown runs of a study."""
    return {job.member.arm: job for job in jobs_of(parse_study(text), folder).values() if job.member.origin}


def probed(jobs: Mapping[str, Job], lag: int) -> dict[str, dict[str, float]]:
    """What a deterministic probe of all these candidates measures, under a note's names."""
    one, found = next(iter(jobs.values())), {}
    candidates = parse_candidates(",".join(jobs), one.member.config.seed)
    target, regime = one.member.config.model.shape, Regime(lag=lag, sequences=32)
    for each in probe(base_checkpoint(one), target, candidates, regime, one.cache).candidates:
        (run,) = each.runs
        assert run.config.batch == one.member.config.batch
        found[each.candidate.name] = {f"kl_{lag}": run.kl}
        if run.escape:
            found[each.candidate.name][f"escape_{lag}"] = run.escape["joint"]
    return found


@pytest.mark.parametrize("lag", [2, 8])
def test_signals_are_what_a_probe_of_that_lag_measures(studied: Path, lag: int) -> None:
    """On the same batches from the same weights: the early signals of a run are a probe of it."""
    jobs = by_arm(DECODERS, studied)
    assert {*jobs} == {*CANDIDATES}
    for arm, wanted in probed(jobs, lag).items():
        noted = read_note(jobs[arm].folder)["signals"]
        assert noted.keys() == {"kl_2", "escape_2", "kl_8", "escape_8"}, "the third lag is beyond the trunk"
        assert {name: noted[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert noted["kl_2"] != pytest.approx(noted["kl_8"], rel=0.01), "the control: another lag"


def test_whole_copies_do_not_escape_and_shrunk_ones_do(studied: Path) -> None:
    noted = {arm: read_note(job.folder)["signals"] for arm, job in by_arm(DECODERS, studied).items()}
    assert max(noted["tile"]["escape_2"], noted["tile"]["escape_8"]) < 1e-9
    assert noted["tile"]["kl_2"] != noted["tile:moments=reset"]["kl_2"]
    for arm in ("szp:shrink=0.4", "tile_noise", "ligo:learn_steps=2"):
        assert noted[arm]["escape_8"] > 1e-6


def test_signals_are_columns_of_the_run_table(studied: Path) -> None:
    rows = table(studied)
    assert {*STRUCTURE} <= {*rows.columns}
    for arm, job in by_arm(DECODERS, studied).items():
        for name, value in read_note(job.folder)["signals"].items():
            assert {*rows.filter(arm=arm)[name]} == {value}
    scratch = rows.filter(arm="scratch")
    assert scratch.height
    assert all(scratch[name].null_count() == scratch.height for name in ("kl_2", "escape_2", "kl_8", "escape_8"))
    assert not any(name.endswith("_500") for name in rows.columns)


def test_a_run_from_scratch_has_no_signals_and_its_lags_all_the_same(studied: Path) -> None:
    scratch = [job for job in jobs_of(parse_study(DECODERS), studied).values() if job.member.origin is None]
    assert len(scratch) == 2
    assert [read_note(job.folder)["signals"] for job in scratch] == [{}, {}]
    assert all({2, 8} & held_out(job.folder, "trunk").keys() for job in scratch)


@pytest.mark.parametrize("trunk", [True, False])
def test_networks_have_signals_and_layers_alone_do_not_escape(trunk: bool, tmp_path: Path) -> None:
    """Also where the rate falls from the first step on, so that there is no trunk."""
    text = NETWORKS if trunk else NETWORKS.replace("[[runs]]", '[[runs]]\nbase_stage = "annealed"')
    text = text if trunk else text.replace("evaluation.times", "schedule.decay = 1.0\nevaluation.times")
    assert not swept(text, tmp_path).failed
    jobs = by_arm(text, tmp_path)
    noted = {arm: read_note(job.folder)["signals"] for arm, job in jobs.items()}
    assert {arm: {*each} for arm, each in noted.items()} == {
        "szp:shrink=0.4": {"kl_2", "escape_2"},
        "identity_insert": {"kl_2"},
    }
    if trunk:  # a probe's rate does not fall
        for arm, job in jobs.items():
            assert probed({arm: job}, 2)[arm] == pytest.approx(noted[arm], rel=1e-9)


@pytest.mark.parametrize("signals", [{"kl_2": "0.1"}, {"kl_2": None}, {"kl_2": [1]}, [], "none", None], ids=str)
def test_a_note_whose_signals_are_no_numbers_is_no_note(studied: Path, tmp_path: Path, signals: object) -> None:
    note = read_note(by_arm(DECODERS, studied)["tile"].folder)
    write_note(tmp_path, note)
    assert read_note(tmp_path) == note
    write_note(tmp_path, note | {"signals": signals})
    assert read_note(tmp_path) == {}


def test_a_note_from_before_there_were_signals_is_read(studied: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(studied, tmp_path / "out")
    for job in jobs_of(parse_study(DECODERS), folder).values():
        note = read_note(job.folder)
        write_note(job.folder, {name: value for name, value in note.items() if name != "signals"})
    assert table(folder).columns == [c for c in table(studied).columns if not c.startswith(("kl_", "escape_"))]


def test_a_finished_run_gets_no_lags_later(studied: Path, tmp_path: Path) -> None:
    """It is found again, so nothing is measured: docs/sweep.md says so."""
    folder = shutil.copytree(studied, tmp_path / "out")
    assert len(swept(watched_study("[2, 4, 8]", *CANDIDATES), folder).finished) == 2 + len(CANDIDATES)
    assert "kl_4" not in table(folder).columns


# What only watches decides nothing.

WATCHING = {
    "evaluation": Evaluation(lags=(3,), structure=True, times=2, sequences=4),
    "budgets": ("960 tokens",),
    "checkpoint_seconds": 1.0,
    "log_every": 7,
}
DECIDING = {
    "seed": 1,
    "batch": 2,
    "optimiser": Optimiser(lr=0.5),
    "schedule": Schedule(decay=0.5),
    "compiled": True,
}


@pytest.mark.parametrize(("name", "value"), [*WATCHING.items(), *DECIDING.items()], ids=str)
def test_a_setting_decides_where_it_changes_the_digest(name: str, value: Any) -> None:
    changed = replace(tiny_config(), **{name: value})
    assert (changed.digest() != tiny_config().digest()) == (name in DECIDING)
    for setting in flatten({name: changed.to_dict()[name]}):
        assert decides(setting) == (name in DECIDING), setting


def test_what_is_watched_tells_no_two_runs_apart() -> None:
    """Neither a plan nor a run table names it among the settings in which runs differ."""
    settings = [flatten(config.to_dict()) for config in (tiny_config(), tiny_config(seed=1, **WATCHING))]
    assert differing(settings) == {"seed": ["0", "1"]}


def settings_of(name: str) -> list[str]:
    """The dotted names of a part's settings."""
    return [setting for setting in flatten(tiny_config().to_dict()) if setting.startswith(f"{name}.")]


@pytest.mark.parametrize("setting", ["evaluation.lags = [2, 4]", "evaluation.structure = true"])
def test_a_study_s_keys_do_not_change_with_what_is_watched(setting: str) -> None:
    watched = tiny_study().replace("log_every", f"{setting}\nlog_every")
    one, other = (parse_study(text).members() for text in (tiny_study(), watched))
    assert [member.key for member in one] == [member.key for member in other]
    assert {m.config.evaluation for m in one}.isdisjoint(m.config.evaluation for m in other), "it is set"


@pytest.mark.parametrize("setting", settings_of("evaluation"))
def test_what_is_watched_cannot_vary_in_a_study(setting: str) -> None:
    """It would make no other run; as a setting it is welcome."""
    with pytest.raises(InputError, match=rf"vary.{setting} makes no other run: write settings.{setting}"):
        parse_study(tiny_study(more=f"vary.{setting} = [2, 4]\n"))


def test_a_block_may_be_watched_in_its_own_way() -> None:
    members = parse_study(tiny_study(more="settings.evaluation.lags = [2]\nbase_settings.evaluation.lags = []\n"))
    lags = {member.origin is None: set() for member in members.members()}
    for member in members.members():
        lags[member.origin is None].add(member.config.evaluation.lags)
    assert lags == {True: {(2,), ()}, False: {(2,)}}
