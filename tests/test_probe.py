"""Probing warm starts: what is measured, on matrices of known answer; and the ranking, on a short run."""

import json
import math
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Scalegrow
from torch import Tensor
from training import TINY, tiny_config, tiny_network

from scalegrow.errors import InputError
from scalegrow.growth import widened_shape
from scalegrow.shape import MLPShape
from scalegrow.train.axes import Axis, Parameter, decoder_parameters, mlp_parameters
from scalegrow.train.candidates import Candidate, parse_candidates
from scalegrow.train.grow import parameters_of
from scalegrow.train.maps import (
    AxisMap,
    first_share,
    grow_tensor,
    mean_pad,
    of_groups,
    orthogonal_mixture,
    random_copies,
    stride_pad,
    tile,
    uneven,
    zero_pad,
)
from scalegrow.train.measures import (
    Condensation,
    cluster_share,
    condensation,
    distance,
    effective_rank,
    escape,
    neurons,
    projector,
    token_kl,
)
from scalegrow.train.operators import plan
from scalegrow.train.probe import Regime, probe
from scalegrow.train.ranking import Continuation, Mean, Probed, Ranking
from scalegrow.train.restore import load_checkpoint
from scalegrow.train.run import train
from scalegrow.train.task import task_for

WIDE = widened_shape(TINY, 2)
RNG = np.random.default_rng(0)
MAPS = {
    "tile": tile(4, 8),
    "cut tile": tile(4, 7),
    "uneven": uneven(tile(4, 12), RNG),
    "zero_pad": zero_pad(4, 6),
    "mean_pad": mean_pad(4, 6),
    "random copies": random_copies(4, 9, RNG),
    "first share": first_share(tile(4, 8)),
    "mixture": orthogonal_mixture(4, 7, RNG, 0.25),
    "groups": of_groups(tile(2, 4), orthogonal_mixture(2, 3, RNG, 0.5)),
    "stride": stride_pad(4, 8),
}
QUICK = Regime(lag=2, sequences=8)
CANDIDATES = "tile,block_diagonal,tile_noise,split,asymmetric_reset,zero_pad,szp,scratch"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-decay checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    train(tiny_config(), folder)
    return folder / "trunk" / "checkpoints" / "step_00000032"


@pytest.fixture(scope="module")
def found(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    """A deterministic probe of two steps."""
    return probe(base, WIDE, parse_candidates(CANDIDATES), QUICK, tmp_path_factory.mktemp("cache"))


def named(found: Ranking, name: str) -> Probed:
    (one,) = [each for each in found.candidates if each.candidate.name == name]
    return one


@pytest.mark.parametrize("side", ["values", "consumers"])
@pytest.mark.parametrize("grown", MAPS.values(), ids=MAPS)
def test_projectors_project(grown: AxisMap, side: str) -> None:
    """P^2 = P, P' = P, P A = A, and its rank is the base's axis."""
    a = grown.matrices()[side == "consumers"]
    p = projector(a)
    for one, other in ((p @ p, p), (p.T, p), (p @ a, a.double())):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert float(p.trace()) == pytest.approx(grown.n)


@pytest.mark.parametrize("grown", MAPS.values(), ids=MAPS)
def test_a_copied_update_escapes_nothing_and_noise_escapes_by_its_share(grown: AxisMap) -> None:
    specs = {"w": matrix(grown.n), "b": Parameter(((Axis("d_ff", grown.n, "out"),),), "bias")}
    wide = {"w": matrix(grown.size), "b": Parameter(((Axis("d_ff", grown.size, "out"),),), "bias")}
    maps = {"d_ff": grown, "d_model": grown}
    generator = torch.Generator().manual_seed(0)
    draw = lambda spec: torch.randn(spec.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    copied = {name: grow_tensor(draw(spec), spec, maps, "weight") for name, spec in specs.items()}  # type: ignore[arg-type]
    assert max(escape(copied, wide, maps).values()) < 1e-24  # type: ignore[arg-type]
    draws = [escape({"w": draw(wide["w"])}, wide, maps) for _ in range(200)]  # type: ignore[arg-type]
    share = grown.n / grown.size
    for axis, kept in (("d_ff", share), ("d_model", share), ("joint", share**2)):
        assert np.mean([each[axis] for each in draws]) == pytest.approx(1 - kept, abs=0.03)


def matrix(n: int) -> Parameter:
    return Parameter(((Axis("d_ff", n, "out"),), (Axis("d_model", n, "in"),)), "hidden")


def test_escape_pools_energies_over_tensors_that_have_the_axis() -> None:
    """A copied change of energy 2, one that differs between copies of energy 4, and a tensor without the axis."""
    specs = {name: Parameter(((Axis("d_ff", 2, "out"),),), "bias") for name in ("same", "apart")}
    specs["other"] = Parameter(((Axis("head_dim", 2, "out"),),), "gain")
    update = {"same": torch.ones(2), "apart": torch.tensor([2.0, 0.0]), "other": torch.ones(2)}
    assert escape(update, specs, {"d_ff": tile(1, 2)}) == pytest.approx({"d_ff": 2 / 6, "joint": 2 / 6})
    assert escape(update, specs, {"d_ff": tile(2, 2)}) == {}, "nothing grew"


def test_condensation_of_known_matrices() -> None:
    """Three directions among six rows, one of them turned round; chains of near rows are one cluster."""
    rows = torch.tensor([[1.0, 0, 0], [2, 0, 0], [-3, 0, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 5]])
    assert cluster_share(rows.double()) == 3 / 6
    angles = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert cluster_share(torch.stack((angles.cos(), angles.sin()), 1)) == 1 / 11
    assert cluster_share(torch.zeros(4, 3, dtype=torch.float64)) == 1, "a zero row has no direction to share"
    assert effective_rank(torch.eye(5, 9).double()) == pytest.approx(1)
    assert effective_rank(torch.ones(4, 8).double()) == pytest.approx(1 / 4)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))) == pytest.approx(1 / 2)
    assert effective_rank(torch.zeros(2, 2)) == 0


def test_neurons_are_gate_and_up_side_by_side_and_a_network_s_hidden_units() -> None:
    decoder = decoder_parameters(TINY)
    zeros = {name: torch.zeros(spec.shape) for name, spec in decoder.items()}
    assert {layer: rows.shape for layer, rows in neurons(zeros, decoder).items()} == {0: (40, 32), 1: (40, 32)}
    network = mlp_parameters(MLPShape(12, 3, 4, 2))
    zeros = {name: torch.zeros(spec.shape) for name, spec in network.items()}
    assert [tuple(rows.shape) for rows in neurons(zeros, network).values()] == [(12, 4), (12, 12), (12, 12)]


def test_tiling_halves_clusters_and_rank(base: Path) -> None:
    from scalegrow.train.grow import grow_weights

    weights = dict(load_checkpoint(base).named_parameters())
    plain: dict[str, Tensor] = {name: weight.detach() for name, weight in weights.items()}
    one = condensation(plain, parameters_of(TINY))
    two = condensation(grow_weights(plain, tiny_config(), plan(TINY, WIDE, "tile")), parameters_of(WIDE))
    assert (two.clusters, two.rank) == pytest.approx((one.clusters / 2, one.rank * 32 / 64), rel=1e-3)


def test_a_model_is_at_no_distance_from_itself(base: Path, tmp_path: Path) -> None:
    model = load_checkpoint(base)
    task = task_for(tiny_config(), tmp_path)
    assert distance(model, model, task, 5) == 0
    other = load_checkpoint(base)
    with torch.no_grad():
        other.model.norm.weight.mul_(1.1)  # type: ignore[union-attr, operator]
    assert distance(model, other, task, 5) > 1e-6


@pytest.mark.parametrize("name", ["tile", "block_diagonal"])
def test_exact_copies_never_leave_the_cloned_subspace(found: Ranking, name: str) -> None:
    (run,) = named(found, name).runs
    assert set(run.escape) == {"d_model", "d_ff", "heads", "kv_heads", "joint"}
    assert max(run.escape.values()) < 1e-9
    assert named(found, name).locked["d_ff"] == 1


@pytest.mark.parametrize("name", ["tile_noise", "split", "asymmetric_reset", "zero_pad", "szp"])
def test_others_leave_it_after_two_steps(found: Ranking, name: str) -> None:
    (run,) = named(found, name).runs
    assert run.escape["joint"] > 1e-6


def test_scratch_inherits_nothing_and_is_far_from_the_base(found: Ranking) -> None:
    scratch, copy = named(found, "scratch"), named(found, "tile")
    assert scratch.runs[0].escape == {}
    assert scratch.runs[0].kl > 3 * copy.runs[0].kl > 0
    assert scratch.zero_step_kl > 1e3 * abs(copy.zero_step_kl)


def test_candidates_are_ranked_by_probe_loss_on_the_base_s_next_batches(found: Ranking) -> None:
    losses = [each.runs[0].loss for each in found.candidates]
    assert losses == sorted(losses)
    assert found.best.candidate.name not in ("scratch", "szp")
    runs = [each.runs[0].config for each in found.candidates]
    assert len({(run.batch, run.data.seed, run.first_item) for run in runs}) == 1
    assert runs[0].first_item == 32 * 4, "behind what the base has seen"
    assert found.base["heldout_loss"] == pytest.approx(named(found, "tile").runs[0].curve[0]["heldout_loss"])
    assert set(found.best.runs[0].curve[0]["tags"]) >= {"trivial", "knowledge"}
    assert found.best.difference(found.best, lambda run: run.loss) == Mean(0.0, None)


def outcome(found: Ranking) -> list[Any]:
    """All that was measured."""
    return [
        (each.candidate.name, each.zero_step_kl, each.locked, run.curve, run.kl, run.escape, run.condensation)
        for each in found.candidates
        for run in each.runs
    ]


def test_a_deterministic_probe_repeats_bitwise(base: Path, tmp_path: Path) -> None:
    twice = [probe(base, WIDE, parse_candidates("szp,split"), QUICK, tmp_path) for _ in range(2)]
    assert outcome(twice[0]) == outcome(twice[1])


def test_a_stochastic_probe_has_errors_and_pairs_its_differences(base: Path, tmp_path: Path) -> None:
    regime = Regime("stochastic", lag=2, seeds=3, sequences=8)
    found = probe(base, WIDE, parse_candidates("tile,tile:moments=reset"), regime, tmp_path)
    best, other = found.candidates
    assert len({run.config.data.seed for run in best.runs}) == 3
    assert [run.config.data.seed for run in best.runs] == [run.config.data.seed for run in other.runs]
    assert 0 not in {run.config.data.seed for run in best.runs}, "none is the base's own order"
    assert (best.mean(lambda run: run.loss).se or 0) > 0
    apart = other.difference(best, lambda run: run.loss)
    wanted = np.array([one.loss - two.loss for one, two in zip(other.runs, best.runs, strict=True)])
    assert apart == (wanted.mean(), pytest.approx(wanted.std(ddof=1) / 3**0.5))
    assert apart.value >= 0


def test_the_area_is_the_mean_loss_by_trapezoids() -> None:
    run = curve((0, 4.0), (1, 2.0), (2, 2.0), (4, 1.0))
    assert run.area == (3 + 2 + 3) / 4
    assert run.loss == 1
    assert Regime(lag=16).steps == [0, 1, 2, 4, 8, 16]
    assert Regime(lag=6).steps == [0, 1, 2, 4, 6]
    assert Regime(lag=1).steps == [0, 1]


def curve(*points: tuple[int, float]) -> Continuation:
    records: Sequence[dict[str, Any]] = [{"step": step, "heldout_loss": loss} for step, loss in points]
    return Continuation(tiny_config(), tuple(records), 0.0, {}, Condensation(1.0, 1.0))


def test_depth_grows_without_an_axis_to_escape_along(base: Path, tmp_path: Path) -> None:
    found = probe(base, replace(TINY, n_layers=4), parse_candidates("stack,zero_insert"), QUICK, tmp_path)
    assert [each.runs[0].escape for each in found.candidates] == [{}, {}]
    assert found.best.candidate.name == "zero_insert"


def test_learned_maps_are_learned_once_and_measured_against(base: Path, tmp_path: Path) -> None:
    target = replace(TINY, d_ff=60)
    found = probe(base, target, parse_candidates("ligo:learn_steps=2"), QUICK, tmp_path)
    assert set(found.best.runs[0].escape) == {"d_ff", "joint"}
    assert found.best.lineage["axes"]["d_ff"]["mixture"]


def test_networks_are_probed_by_their_square_error(tmp_path: Path) -> None:
    config = tiny_network()
    train(config, tmp_path / "base")
    checkpoint = max((tmp_path / "base" / "trunk" / "checkpoints").glob("step_*"))
    target = MLPShape(24, 3, 4, 2)
    found = probe(checkpoint, target, parse_candidates("tile,szp,scratch"), QUICK, tmp_path)
    assert named(found, "tile").zero_step_kl < 1e-12
    assert named(found, "tile").runs[0].escape == pytest.approx({"width": 0, "joint": 0}, abs=1e-9)
    assert named(found, "scratch").runs[0].kl > named(found, "tile").runs[0].kl


def test_refusals_are_told_and_stop_nothing(base: Path, tmp_path: Path) -> None:
    target = replace(WIDE, d_model=19)
    found = probe(base, target, parse_candidates("tile,zero_pad"), QUICK, tmp_path)
    assert [each.candidate.name for each in found.candidates] == ["zero_pad"]
    (refused,) = found.refused
    assert (refused.candidate.name, "no whole factor" in refused.reason) == ("tile", True)
    with pytest.raises(InputError, match="no candidate can be probed; tile: tile copies the stream whole"):
        probe(base, target, parse_candidates("tile,split"), QUICK, tmp_path)


def test_a_signal_ends_a_probe_and_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first candidate's line is told, then the machine asks to stop."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        probe(base, WIDE, parse_candidates("tile,split"), QUICK, tmp_path, tell=stop)
    assert len(lines) == 1
    assert not list(tmp_path.iterdir())


def test_candidates_say_their_settings() -> None:
    szp, copy = parse_candidates("szp:shrink=0.8:noise=1:norm_rescale=true, tile:moments=reset:depth=stack", 7)
    assert (szp.arguments.shrink, szp.arguments.noise, szp.arguments.norm_rescale) == (0.8, 1.0, True)
    assert (szp.arguments.seed, szp.policies.schedule) == (7, "restart")
    assert (copy.policies.moments, copy.depth_operator) == ("reset", "stack")
    assert Candidate.parse("tile:schedule=rewarm:seed=3", 7, "continue").policies.schedule == "rewarm"


def test_the_command_ranks_and_leaves_nothing_behind(inside: Scalegrow, base: Path, tmp_path: Path) -> None:
    quick = ("--width", "2", "--operators", "tile,szp:shrink=0.8", "--lag", "1", "--sequences", "8")
    done = inside("probe", str(base), *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lag 1 may mis-rank" in done.stderr
    assert "tile, run 1 of 1: held-out loss" in done.stderr
    for words in ("loss at 1", "to best", "KL at 0", "tile starts locked", "deterministic regime", "8 held-out"):
        assert words in done.stdout
    assert "s.e." not in done.stdout, "one run has no standard error"
    assert not list(tmp_path.iterdir())
    assert not list(base.parent.glob("*.partial"))


def test_the_command_prints_everything_as_json(inside: Scalegrow, base: Path, tmp_path: Path) -> None:
    quick = ("--to", "d_ff=60", "--operators", "tile,zero_pad,zero_insert", "--lag", "2", "--sequences", "8")
    done = inside("probe", str(base), *quick, "--regime", "stochastic", "--seeds", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["schema"], data["lag"], data["seeds"], data["regime"]) == (
        "scalegrow-probe/1",
        2,
        2,
        "stochastic",
    )
    documented = Path(__file__).parents[1].joinpath("docs", "json.md").read_text()
    first = data["candidates"][0]
    for name in (*data, *first, *first["runs"][0]):
        assert name in documented, name
    assert first["loss_difference"] == {"value": 0, "se": 0}
    assert data["candidates"][1]["loss"]["se"] > 0
    assert [record["step"] for record in first["runs"][0]["curve"]] == [0, 1, 2]
    assert "tags" in first["runs"][0]["curve"][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "how large?"),
        (("--width", "2", "--operators", "tyle"), "did you mean tile"),
        (("--width", "2", "--operators", ","), "no candidates"),
        (("--width", "2", "--operators", "tile,tile"), "named twice"),
        (("--width", "2", "--operators", "szp:shrnk=1"), "did you mean shrink"),
        (("--width", "2", "--operators", "szp:shrink"), "write NAME=VALUE"),
        (("--width", "2", "--operators", "szp:shrink=a"), "is not a number"),
        (("--width", "2", "--operators", "szp:shrink=3"), "from 0 to 1"),
        (("--width", "2", "--operators", "tile:moments=keep"), "is no policy"),
        (("--width", "2", "--operators", "tile:data=restart"), "same batches"),
        (("--width", "2", "--operators", "tile:depth=stak"), "is no growth operator"),
        (("--width", "1.5", "--operators", "tile,split"), "no candidate can be probed"),
        (("--width", "2", "--operators", "scratch:moments=carry"), "scratch inherits nothing"),
        (("--width", "2", "--lag", "0"), "give 2 to a million"),
        (("--width", "2", "--sequences", "1"), "give 2 to a million"),
        (("--width", "2", "--regime", "random"), "choose deterministic or stochastic"),
        (("--width", "2", "--seeds", "3"), "leave the seeds out"),
        (("--width", "2", "--regime", "stochastic", "--seeds", "1"), "takes 2 or more"),
        (("--width", "2", "--schedule", "late"), "is no policy"),
    ],
)
def test_bad_input_is_one_line(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Any, message: str
) -> None:
    from scalegrow.cli import main

    monkeypatch.setattr(sys, "argv", ["scalegrow", "probe", str(base), *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert message in told[-1]
    assert told[-1].startswith("scalegrow: ")
    assert len(told) == 1 or all("refused" in line for line in told[:-1])


def test_the_kl_is_of_the_base_against_the_grown_one() -> None:
    """KL(p || q) of two fixed distributions, by hand; new tokens take from q and count."""
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.25, 0.5, 0.25])
    tokens = torch.zeros(1, 1, dtype=torch.int64)
    models = [lambda x, each=each: each.log().expand(1, 1, -1) for each in (p, q)]
    wanted = 0.7 * math.log(0.7 / 0.25) + 0.3 * math.log(0.3 / 0.5)
    assert token_kl(*models, tokens) == pytest.approx(wanted, rel=1e-6)


def test_a_deterministic_probe_has_no_dropout() -> None:
    config = tiny_config()
    noisy = replace(config, model=replace(config.model, dropout=0.2))
    assert Regime().settings(noisy, 0)["model.dropout"] == 0
    assert "model.dropout" not in Regime("stochastic", seeds=2).settings(noisy, 0)
