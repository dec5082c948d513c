"""Growth: the operators of the literature, the three growth factors, and what cannot grow."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegrow.errors import InputError
from scalegrow.growth import NEAR, OPERATORS, Growth, base_shape, grown_shape, on_ladder, operator
from scalegrow.shape import ModelShape, Shape, gpt_shape, network_shape, shape_for

NAMES = [
    *("scratch", "szp", "net2net", "split", "tile", "tile_noise", "zero_pad", "perturbative_copy"),
    *("asymmetric_reset", "structured_non_clone", "random_copy", "zero_copy", "block_diagonal", "aki", "ligo"),
    *("stack", "interleave", "zero_insert", "identity_insert", "solar", "middle"),
]


def test_every_operator_of_the_literature_is_there() -> None:
    assert list(OPERATORS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_is_found_by_its_name(name: str) -> None:
    found = operator(name)
    assert found.name == name
    assert found.axis in ("width", "depth", "none")
    assert found.preserves in ("exact", "limit", "none")
    assert found.summary


@pytest.mark.parametrize(
    ("name", "near"), [("net2nett", "net2net"), ("zeropad", "zero_pad"), ("SZP", "szp"), ("st\nack", "stack")]
)
def test_an_unknown_operator_is_told_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError) as refusal:
        operator(name)
    assert str(refusal.value).startswith(f"{name!r} is no growth operator: did you mean ")
    assert near in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_three_growth_factors_of_one_published_pair() -> None:
    """128 to 256 wide is 2.2, 4.0 or 2: which parameters count decides what g says."""
    growth = Growth(gpt_shape(128), gpt_shape(256), "szp")
    assert growth.g_params == 32270848 / 14562560
    assert growth.g_non_embedding == pytest.approx(4.0, abs=0.05)
    assert growth.g_width == 2


@settings(deadline=None)  # the first request builds the ladder
@given(st.floats(6, 10.9).map(lambda power: 10.0**power), st.floats(1.05, 10, exclude_max=True))
def test_by_factor_meets_the_factor_and_keeps_the_vocabulary(base_params: float, factor: float) -> None:
    growth = Growth.by_factor(base_params, factor)
    assert growth.base == shape_for(base_params)
    assert growth.operator == "szp"
    assert growth.g_params == pytest.approx(factor, rel=0.01)
    assert growth.g_width >= 1
    assert replace(growth.target, d_model=1, n_layers=1, n_heads=1, n_kv_heads=1, d_ff=1) == replace(
        growth.base, d_model=1, n_layers=1, n_heads=1, n_kv_heads=1, d_ff=1
    )


@pytest.mark.parametrize("factor", [1, 0.5, 0, -2, float("nan"), float("inf")])
def test_a_factor_that_does_not_grow_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match=f"^a growth factor of {factor:g} does not grow: give a number above 1"):
        Growth.by_factor(50e6, factor)


@pytest.mark.parametrize(("base", "factor", "text"), [(600e9, 2, "1.19991T"), (9e3, 2, "9k"), (1e15, 2, "1e15")])
def test_sizes_off_the_ladder_are_refused(base: float, factor: float, text: str) -> None:
    with pytest.raises(InputError, match=f"^{text} parameters are off the ladder: ask for 10k to 1T"):
        Growth.by_factor(base, factor)


def test_by_factor_refuses_an_unknown_operator() -> None:
    with pytest.raises(InputError, match="'magic' is no growth operator"):
        Growth.by_factor(50e6, 2, "magic")


@pytest.mark.parametrize("name", ["d_model", "n_layers", "vocab_size"])
def test_a_target_loses_nothing(name: str) -> None:
    base = gpt_shape(256)
    smaller = getattr(base, name) - 1
    target = replace(base, **{"d_ff": 10**6, name: smaller})  # larger as a whole
    with pytest.raises(InputError, match=f"^the target's {name}={smaller} is smaller than the base's"):
        Growth(base, target, "szp")


def test_a_smaller_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the target's n_params=14562560 is smaller than the base's 32270848"):
        Growth(gpt_shape(256), gpt_shape(128), "szp")


DEEP = shape_for(120e3, replace(shape_for(1e5), head_dim=16), 4)
TARGETS: list[Shape] = [
    DEEP,
    replace(DEEP, n_kv_heads=1, qk_norm=True, context=64),
    shape_for(5e6),
    network_shape(20e3),
]


@pytest.mark.parametrize("target", TARGETS, ids=["four layers", "grouped heads", "ladder", "network"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "scratch"])
def test_a_base_is_smaller_and_grows_to_its_target(target: Shape, name: str) -> None:
    """Of the asked count, in width or in layers, and everything else is the target's."""
    wanted = target.n_params / 2
    base = base_shape(target, wanted, name, 4 if target in TARGETS[:2] else None)
    growth = Growth(base, target, name)
    deeper = operator(name).axis == "depth"
    grouped = target == TARGETS[1]  # the ladder counts a key-value head for every head
    assert growth.g_params == pytest.approx(2, rel=0.25 if deeper else 0.1 if grouped else 0.02)
    if deeper:
        assert growth.g_width == 1
    elif target in TARGETS[:2]:
        assert isinstance(base, ModelShape)
        assert base.n_layers == 4
    if isinstance(base, ModelShape) and isinstance(target, ModelShape):
        kept = ("head_dim", "vocab_size", "tied", "context", "qk_norm")
        assert [getattr(base, each) for each in kept] == [getattr(target, each) for each in kept]
        assert base.n_heads // base.n_kv_heads == min(target.n_heads // target.n_kv_heads, base.n_heads)


@settings(deadline=None)
@given(st.floats(4.7, 7).map(lambda power: 10.0**power), st.floats(1.2, 4))
def test_a_base_on_a_ladder_of_one_depth_loses_nothing_by_growing(n_params: float, factor: float) -> None:
    """Not in d_ff either, where the ladder's own shape of that count may have more of it than the target.

    With less of it the base may be too far from what was asked: then it is refused, by the factor that there is.
    """
    target = shape_for(n_params, replace(shape_for(1e5), head_dim=16), 4)
    try:
        base = base_shape(target, target.n_params / factor, "zero_pad", 4)
    except InputError as error:
        near = float(str(error).rpartition("near ")[2].rstrip("."))
        assert not 1 / NEAR < near / factor < NEAR
        assert factor < 2  # only where one step of width is about all that is asked
        return
    assert isinstance(base, ModelShape)
    assert base.n_params < target.n_params
    assert all(
        getattr(base, name) <= getattr(target, name) for name in ("d_model", "n_heads", "n_kv_heads", "d_ff")
    )
    assert 1 / NEAR < Growth(base, target, "zero_pad").g_params / factor < NEAR


def test_the_ladder_s_shape_of_its_own_size_is_itself() -> None:
    assert on_ladder(DEEP, DEEP.n_params, 4) == DEEP


@pytest.mark.parametrize(
    ("wanted", "name", "message"),
    [
        (119.9e3, "szp", "no smaller base"),
        (10e3, "stack", "fewer layers give"),
        (60e3, "magic", "no growth"),
    ],
)
def test_bases_that_do_not_exist_are_refused(wanted: float, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        base_shape(DEEP, wanted, name, 4)


@given(st.floats(4, 11), st.sampled_from([1.5, 2.0, 3.0, 4.0, 8.0]))
def test_a_grown_shape_shrinks_nowhere_and_is_near(exponent: float, factor: float) -> None:
    """Where the ladder itself would narrow the feed-forward to add a layer."""
    base = shape_for(10**exponent)
    try:
        target = grown_shape(base, base.n_params * factor)
    except InputError:
        return  # off the ladder
    for name in ("d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff"):
        assert getattr(target, name) >= getattr(base, name)
    assert base.n_params * factor / NEAR < target.n_params < base.n_params * factor * NEAR


def test_the_ladder_does_narrow_the_feed_forward() -> None:
    """What grown_shape is there for."""
    base = shape_for(25e3)
    assert shape_for(2 * base.n_params, like=base).d_ff < base.d_ff == grown_shape(base, 2 * base.n_params).d_ff
