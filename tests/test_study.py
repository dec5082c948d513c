"""Studies: what a file says, which runs that comes to, what tells two runs apart, and what is refused."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder
from scalegrow.runs.study import Member, Study, parse_study, read_study

LADDER = """
[baseline]
data = "stories"
n_layers = 4
head_dim = 16
budgets = ["5tpp", "20tpp"]
settings.batch = 4
"""
RUNS = LADDER + '[[runs]]\nsizes = ["60k", "120k"]\nfactors = [1, 2]\noperators = ["szp:shrink=0.4", "zero_pad"]\n'


def members_of(text: str) -> list[Member]:
    return parse_study(text).members()


def of_size(members: list[Member], n_params: float) -> list[Member]:
    """Runs from scratch of about this size."""
    return [
        member
        for member in members
        if member.origin is None and abs(member.config.model.shape.n_params / n_params - 1) < 0.02
    ]


def test_a_study_is_a_product_of_lists_with_every_base_once() -> None:
    """2 sizes x (scratch + 2 operators), and the base of 30k, which no list names."""
    members = members_of(RUNS + "seeds = [3, 5]\n")
    assert len(members) == 2 * (2 * 3 + 1)
    assert {member.config.seed for member in members} == {3, 5}
    assert all(member.config.data.seed == member.config.seed for member in members)
    assert all(member.config.batch == 4 for member in members)
    grown = [member.origin for member in members if member.origin]
    assert {(origin.candidate, origin.operator, origin.factor) for origin in grown} == {
        ("szp:shrink=0.4", "szp", 2.0),
        ("zero_pad", "zero_pad", 2.0),
    }
    for member in members:
        if member.origin:
            ratio = member.config.model.shape.n_params / member.origin.base.config.model.shape.n_params
            assert ratio == pytest.approx(2, rel=0.02)


def test_a_base_that_is_a_scratch_run_is_trained_once_to_the_budgets_of_both() -> None:
    """The 60k run from scratch is the base of 120k: one run, whose base budget joins its own."""
    members = members_of(RUNS + 'base_budgets = ["10tpp"]\n')
    (shared,) = of_size(members, 60e3)
    assert shared.config.budgets == ("5tpp", "10tpp", "20tpp")
    bases = {member.origin.base.key for member in members if member.origin}
    assert shared.key in bases
    (small,) = of_size(members, 30e3)
    assert small.config.budgets == ("10tpp",), "a base alone is trained to what grows from it and no further"


def test_budgets_of_equal_length_are_one() -> None:
    config = of_size(members_of(RUNS), 60e3)[0].config
    assert config.with_budgets(("1xC", "40tpp")).budgets == ("5tpp", "20tpp", "40tpp")
    assert config.with_budgets(()).budgets == config.budgets


WATCHED = '[[runs]]\nsizes = ["30k"]\nsettings.evaluation.times = 3\n'


@pytest.mark.parametrize("text", [RUNS + WATCHED, LADDER + WATCHED + RUNS.removeprefix(LADDER)])
def test_a_base_that_a_block_asks_for_is_watched_as_that_says(text: str) -> None:
    """What grows from it sees no difference, in whatever order the blocks stand."""
    (small,) = of_size(members_of(text), 30e3)
    assert small.config.evaluation.times == 3


def test_a_run_that_two_blocks_watch_otherwise_is_refused() -> None:
    """It is trained once: one of the two would be forgotten without a word."""
    with pytest.raises(
        InputError, match=r"two blocks ask for the run 59.8k-scratch-s0-\w+ with different evaluation"
    ):
        members_of(LADDER + WATCHED.replace("30k", "60k") + RUNS.removeprefix(LADDER))


def test_bases_come_before_what_grows_from_them() -> None:
    members = members_of(
        RUNS + '[[runs]]\nsizes = ["240k"]\nfactors = [4, 8]\noperators = ["szp", "stack"]\n'.replace("8", "1.3")
    )
    place = {member.key: i for i, member in enumerate(members)}
    grown = [member for member in members if member.origin]
    assert len(grown) == 8
    assert all(place[member.origin.base.key] < place[member.key] for member in grown if member.origin)


CHANGES = {
    "size": ('"60k", "120k"', '"60k", "125k"'),
    "factor": ("factors = [1, 2]", "factors = [1, 2.5]"),
    "operator": ("zero_pad", "tile:moments=reset"),
    "an operator's setting": ("shrink=0.4", "shrink=0.5"),
    "base budget": ("factors", 'base_budgets = ["5tpp"]\nfactors'),
    "base stage": ("factors", 'base_stage = "annealed"\nfactors'),
    "seed": ("factors", "seeds = [1]\nfactors"),
    "gamma": ("factors", "gammas = [1.0]\nfactors"),
    "data": ("factors", "settings.data.language_seed = 1\nfactors"),
    "a base's setting": ("factors", "base_settings.optimiser.lr = 0.5\nfactors"),
    "batch": ("settings.batch = 4", "settings.batch = 2"),
    "learning rate": ("settings.batch = 4", "settings.batch = 4\nsettings.optimiser.lr = 0.5"),
    "schedule": ("settings.batch = 4", 'settings.batch = 4\nsettings.schedule.warmup = "1tpp"'),
    "initialisation": ("settings.batch = 4", 'settings.batch = 4\nsettings.init.head = "gamma:1"'),
    "depth": ("n_layers = 4", "n_layers = 3"),
    "precision": ("settings.batch = 4", 'settings.batch = 4\nsettings.precision = "bfloat16"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_keys_change_with_all_that_decides_a_run(change: str) -> None:
    old, new = CHANGES[change]
    before, after = members_of(RUNS), members_of(RUNS.replace(old, new))
    assert {member.key for member in before} != {member.key for member in after}
    assert {member.name for member in before} != {member.name for member in after}


@pytest.mark.parametrize(
    "change",
    [
        *("evaluation.times = 3", "evaluation.sequences = 64", "checkpoint_seconds = 1.0", "log_every = 2"),
        "evaluation.token_groups = true",
    ],
)
def test_keys_do_not_change_with_what_only_watches(change: str) -> None:
    watched = RUNS.replace("settings.batch = 4", f"settings.batch = 4\nsettings.{change}")
    assert [member.name for member in members_of(watched)] == [member.name for member in members_of(RUNS)]


def test_keys_do_not_change_with_budgets() -> None:
    """A study that is extended finds its runs again; a base's own budget is what a grown run depends on."""
    longer = RUNS.replace('"5tpp", "20tpp"', '"5tpp", "20tpp", "80tpp"')
    assert [member.key for member in members_of(longer)] == [member.key for member in members_of(RUNS)]


def test_names_are_folders_that_no_two_runs_share() -> None:
    text = (
        RUNS + 'vary.optimiser.lr = [0.001, 0.002]\nvary.init.hidden = ["gamma", "std:0.02"]\nseeds = [0, 1, 2]\n'
    )
    names = [member.name for member in members_of(text)]
    assert len({*names}) == len(names) == 3 * 4 * 7
    assert all("/" not in name and ":" not in name and " " not in name for name in names)


def test_vary_gammas_and_data_are_factors_of_the_product() -> None:
    text = LADDER + '[[runs]]\nsizes = ["60k"]\ngammas = [0.5, 1.0]\nvary.optimiser.lr = [0.01, 0.02]\n'
    configs = [member.config for member in members_of(text)]
    assert {(each.init.gamma, each.optimiser.lr) for each in configs} == {
        (gamma, lr) for gamma in (0.5, 1.0) for lr in (0.01, 0.02)
    }


def test_settings_of_a_block_go_over_the_baseline_s_and_a_base_s_over_both() -> None:
    text = RUNS + "settings.optimiser.lr = 0.3\nbase_settings.optimiser.lr = 0.1\n"
    members = members_of(text.replace("settings.batch = 4", "settings.batch = 4\nsettings.optimiser.lr = 0.7"))
    assert {member.config.optimiser.lr for member in members if member.origin} == {0.3}
    assert {member.origin.base.config.optimiser.lr for member in members if member.origin} == {0.1}


def test_a_base_has_the_target_s_context_and_the_tokens_a_step_of_its_own_size() -> None:
    """Where the usual context changes between the two sizes, a base takes the target's."""
    text = '[[runs]]\nsizes = ["2M"]\nfactors = [1, 4]\n'
    (grown,) = [member for member in members_of(text) if member.origin]
    assert grown.origin is not None
    base = grown.origin.base.config
    assert isinstance(base.model, Decoder)
    assert base.model.shape.context == 256
    assert base.tokens_per_step == 8192, "the power of two nearest to 20 N / 1000"


def test_networks_grow_too() -> None:
    text = '[baseline]\nkind = "network"\n[[runs]]\nsizes = ["20k"]\nfactors = [1, 2]\noperators = ["zero_pad"]\n'
    members = members_of(text)
    assert len(members) == 3
    assert members[-1].origin is not None
    assert members[-1].origin.base.config.model.shape.n_params == pytest.approx(10e3, rel=0.05)


GOLDEN = [
    "29.9k-scratch-s0-c4489739",
    "59.8k-scratch-s0-36ddedbc",
    "59.8k-szp-shrink=0.4-x2-s0-8a675129",
    "59.8k-zero_pad-x2-s0-1d7da1bd",
    "120k-scratch-s0-0a816356",
    "120k-szp-shrink=0.4-x2-s0-641adb53",
    "120k-zero_pad-x2-s0-35c345d5",
]


def test_a_key_is_part_of_a_study_s_folders_and_may_not_move() -> None:
    """If this fails, no sweep finds its finished runs again: change what decides a run only knowingly."""
    assert [member.name for member in members_of(RUNS)] == GOLDEN


REFUSED = {
    "cannot be read as TOML": "[[runs]\n",
    "names no runs": LADDER,
    "there is one baseline": '[[baseline]]\ndata = "stories"\n[[runs]]\nsizes = ["60k"]\n',
    "has no table 'name'": 'name = "x"\n' + RUNS,
    "the baseline has no size": RUNS.replace("[baseline]", '[baseline]\nsize = "60k"'),
    "baseline has no setting 'buget': did you mean budgets": RUNS.replace("[baseline]", "[baseline]\nbuget = 3"),
    "runs 1 has no setting 'factor': did you mean factors": RUNS + "factor = [2]\n",
    "runs 2 lacks 'sizes'": RUNS + "[[runs]]\nseeds = [1]\n",
    "sizes is empty": RUNS.replace('["60k", "120k"]', "[]"),
    "seeds is empty": RUNS + "seeds = []\n",
    "budgets is empty": RUNS + "budgets = []\n",
    "gammas is empty": RUNS + "gammas = []\n",
    "data is empty": RUNS + "data = []\n",
    "is no list": RUNS.replace('["60k", "120k"]', '"60k"'),
    "vary.optimiser.lr = 0.1 is no list of values": RUNS + "vary.optimiser.lr = 0.1\n",
    "vary.optimiser.lr = [] is no list": RUNS + "vary.optimiser.lr = []\n",
    "a growth factor of 0.5": RUNS.replace("[1, 2]", "[1, 0.5]"),
    "is no finite number": RUNS.replace("[1, 2]", "[nan]"),
    "did you mean szp": RUNS.replace("szp:", "sszp:"),
    "scratch is no way to grow": RUNS.replace('"zero_pad"', '"scratch"'),
    "choose trunk or annealed": RUNS + 'base_stage = "end"\n',
    "vary = 3 is no table": RUNS + "vary = 3\n",
    "settings = 3 is no table": RUNS + "settings = 3\n",
    "vary.seed is decided elsewhere: write seeds": RUNS + "vary.seed = [1, 2]\n",
    "settings.data.seed is decided elsewhere": RUNS + "settings.data.seed = 1\n",
    "settings.budgets is decided elsewhere": RUNS + 'settings.budgets = ["5tpp"]\n',
    "settings.start.checkpoint is decided elsewhere": RUNS + 'settings.start.checkpoint = "x"\n',
    "base_settings.model.shape.d_ff follows from the target": RUNS + "base_settings.model.shape.d_ff = 8\n",
    "gammas and vary.init.gamma are the same": RUNS + "gammas = [1.0]\nvary.init.gamma = [0.5]\n",
    "runs 1 is no table": "runs = [3]\n",
    "vary.log_every makes no other run": RUNS + "vary.log_every = [1, 2]\n",
    "is nested too deep": "x = " + "[" * 9000 + "]" * 9000,
    "for integer string conversion": RUNS + f"seeds = [{'1' * 5000}]\n",
}  # fmt: skip
UNFIT = {
    "is not a size": RUNS.replace('"60k"', '"big"'),
    "off the ladder": RUNS.replace('"60k"', '"2k"'),
    "runs 2: 2k parameters are off the ladder": RUNS + '[[runs]]\nsizes = ["2k"]\n',
    "runs 1: head_dim = 0 makes no model": RUNS.replace("head_dim = 16", "head_dim = 0"),
    "the nearest shape to 60k has": RUNS.replace("n_layers = 4", "n_layers = 400"),
    "head_dim=1000000000 is wider": RUNS.replace("head_dim = 16", "head_dim = 1000000000"),
    "a decoder cannot learn 'regression'": RUNS + 'data = ["regression"]\n',
    "stories have 256 tokens, not 300": RUNS.replace("[baseline]", "[baseline]\nvocab_size = 300"),
    "data = '' names no data": RUNS + 'data = [""]\n',
    "names no unit": RUNS.replace('"5tpp"', '"5"'),
    "did you mean optimiser": RUNS + "settings.optimizer.lr = 1.0\n",
    "no smaller base": RUNS.replace("[1, 2]", "[1, 1.00001]"),
    "kind 'mlp' is unknown": RUNS.replace("[baseline]", '[baseline]\nkind = "mlp"'),
    "has no n_layers": RUNS.replace('data = "stories"', 'kind = "network"'),
    "fewer layers give": RUNS.replace("[1, 2]", "[1, 16]").replace("zero_pad", "stack").replace("60k", "240k"),
    "has no shallower base": RUNS.replace("n_layers = 4", "n_layers = 1").replace("zero_pad", "stack"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_study_that_says_no_runs_is_refused_in_one_line(message: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_study(REFUSED[message], "mine.toml")
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("message", UNFIT)
def test_runs_that_do_not_fit_are_refused_in_one_line(message: str) -> None:
    with pytest.raises(InputError) as refusal:
        members_of(UNFIT[message])
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_base_may_see_other_data_than_its_target() -> None:
    grown = next(member for member in members_of(RUNS + "base_settings.data.seed = 9\n") if member.origin)
    assert grown.origin is not None
    assert (grown.config.data.seed, grown.origin.base.config.data.seed) == (0, 9)


def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    for name, message in (("none.toml", "cannot be opened"), (".", "cannot be opened"), ("latin.toml", "no text")):
        with pytest.raises(InputError, match=message):
            read_study(tmp_path / name)


def test_too_many_runs_are_refused() -> None:
    block = parse_study(RUNS).runs[0]
    study = Study(parse_study(RUNS).baseline, (replace(block, seeds=tuple(range(3))),))
    assert len(study.members()) > 10
    from scalegrow.runs import study as module

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MOST_RUNS", 10)
        with pytest.raises(InputError, match="too many for one study"):
            study.members()


def test_the_count_of_a_block_is_that_of_its_runs() -> None:
    text = "gammas = [0.5, 1.0]\nvary.optimiser.lr = [0.01, 0.02]\nseeds = [0, 1, 2]\n"
    text += 'base_budgets = ["5tpp", "9tpp"]\n'
    (block,), baseline = parse_study(RUNS + text).runs, parse_study(RUNS).baseline
    assert block.count() == len(list(block.members(baseline))) == 2 * 2 * 2 * 3 * (1 + 2 * 2)
    plain = replace(block, factors=(1.0,), gammas=(), vary={}, data=("stories",))
    assert plain.count() == len(list(plain.members(baseline))) == 2 * 3


def test_a_long_candidate_makes_no_longer_name() -> None:
    (grown,) = members_of(RUNS.replace('"szp:shrink=0.4", "zero_pad"', f'"szp:shrink=0.{"4" * 300}"'))[-1:]
    assert len(grown.name) < 130


def test_an_operator_draws_by_the_run_s_seed() -> None:
    members = members_of(RUNS + "seeds = [3, 4]\n")
    assert {member.origin.seed == member.config.seed for member in members if member.origin} == {True}


def test_members_are_in_order_of_size() -> None:
    sizes = [member.config.model.shape.n_params for member in members_of(RUNS)]
    assert all(one <= other for one, other in pairwise(sizes))
