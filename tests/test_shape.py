"""Shapes: published counts to the parameter, FLOPs by their formulas, a ladder that meets every size."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegrow.errors import InputError
from scalegrow.shape import LARGEST, SMALLEST, MLPShape, ModelShape, gpt_shape, shape_for

LLAMA_2_7B = ModelShape(
    d_model=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=32,
    head_dim=128,
    d_ff=11008,
    vocab_size=32000,
    tied=False,
    context=4096,
)
LLAMA_3_8B = replace(LLAMA_2_7B, n_kv_heads=8, d_ff=14336, vocab_size=128256, context=8192)
GPT_2 = ModelShape(
    d_model=768,
    n_layers=12,
    n_heads=12,
    n_kv_heads=12,
    head_dim=64,
    d_ff=3072,
    vocab_size=50257,
    tied=True,
    context=1024,
    positions="learned",
    norm="layernorm",
    mlp="gelu",
    biases=True,
)

SIZES = st.floats(SMALLEST, LARGEST)  # no deadlines: the first request builds the ladder
LOG_SIZES = st.floats(4, 12).map(lambda power: min(10.0**power, LARGEST))
LOG_GRID = [10 ** (4 + 8 * i / 4000) for i in range(4001)]


@pytest.mark.parametrize(
    ("shape", "n_params"),
    [(LLAMA_2_7B, 6_738_415_616), (LLAMA_3_8B, 8_030_261_248), (GPT_2, 124_439_808)],
    ids=["Llama 2 7B", "Llama 3 8B", "GPT-2"],
)
def test_released_checkpoints_count_exactly(shape: ModelShape, n_params: int) -> None:
    assert shape.n_params == n_params


@pytest.mark.parametrize(
    ("width", "n_params"),
    [(128, 14562560), (256, 32270848), (512, 77124608), (768, 134561280), (1280, 287183360)],
)
def test_the_ladder_of_2605_13405_counts_exactly(width: int, n_params: int) -> None:
    assert gpt_shape(width).n_params == n_params


@pytest.mark.parametrize("width", [64, 128, 256, 512, 768, 1280, 2048, 3072])
def test_gpt_shapes_follow_their_formula(width: int) -> None:
    shape = gpt_shape(width)
    assert shape.n_params == 2 * 50304 * width + 96 * width**2 + 874 * width
    assert shape.n_params_non_embedding == 96 * width**2 + 106 * width  # 106: 8 (9 biases + 4 norms) + 2


@pytest.mark.parametrize("width", [0, -64, 63, 100])
def test_gpt_shapes_have_whole_heads(width: int) -> None:
    with pytest.raises(InputError, match=f"^width={width} .*: give a multiple of 64$"):
        gpt_shape(width)


def test_tying_saves_one_table_and_rope_saves_the_other() -> None:
    table = GPT_2.vocab_size * GPT_2.d_model
    assert replace(GPT_2, tied=False).n_params == GPT_2.n_params + table
    assert replace(GPT_2, positions="rope").n_params == GPT_2.n_params - 1024 * 768
    assert GPT_2.n_params_non_embedding == GPT_2.n_params - table - 1024 * 768


def test_flops_per_token_is_six_n() -> None:
    assert LLAMA_2_7B.flops_per_token == 6 * 6_738_415_616


def test_flops_with_attention_by_hand() -> None:
    shape = ModelShape(8, 2, 4, 2, 2, 16, 10, True, 32, mlp="gelu", norm="layernorm", biases=True)
    attention, mlp, head = 8 * 8 + 2 * 8 * 4 + 8 * 8, 2 * 8 * 16, 10 * 8
    assert shape.flops_per_token_with_attention == 6 * (2 * (attention + mlp) + head) + 12 * 2 * 32 * 8


def test_the_head_multiplies_tied_or_not() -> None:
    untied = replace(GPT_2, tied=False)
    assert GPT_2.flops_per_token_with_attention == untied.flops_per_token_with_attention


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"d_model": 0}, "d_model=0"),
        ({"n_layers": -1}, "n_layers=-1"),
        ({"d_ff": 1.5}, "d_ff=1.5"),
        ({"vocab_size": True}, "vocab_size=True"),
        ({"tied": 1}, "tied=1"),
        ({"n_kv_heads": 5}, "n_kv_heads=5"),
        ({"head_dim": 63, "positions": "rope"}, "head_dim=63"),
        ({"positions": "alibi"}, "positions='alibi'"),
        ({"norm": "batchnorm"}, "norm='batchnorm'"),
        ({"mlp": "relu"}, "mlp='relu'"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace(GPT_2, **change)  # type: ignore[arg-type]
    assert text in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_learned_positions_allow_odd_heads() -> None:
    assert replace(GPT_2, head_dim=63).head_dim == 63


def test_an_mlp_by_hand() -> None:
    shape = MLPShape(width=8, depth=3, n_inputs=4, n_outputs=2)
    assert shape.n_params == (4 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)
    assert shape.n_params_non_embedding == 2 * (8 * 8 + 8)
    assert shape.flops_per_sample == 6 * shape.n_params
    assert replace(shape, biases=False).n_params == 4 * 8 + 2 * 8 * 8 + 8 * 2
    with pytest.raises(InputError, match=r"^depth=0 is not a size"):
        replace(shape, depth=0)


@settings(deadline=None)
@given(SIZES | LOG_SIZES)
def test_the_ladder_meets_every_size_within_a_percent(n_params: float) -> None:
    assert shape_for(n_params).n_params == pytest.approx(n_params, rel=0.01)


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from([16, 32]), st.floats(4.7, 8).map(lambda power: 10.0**power))
def test_a_ladder_of_one_depth_meets_every_size_by_width_alone(depth: int, head: int, n_params: float) -> None:
    like = replace(shape_for(1e5), head_dim=head)
    shape = shape_for(n_params, like, depth)
    step = replace(shape, d_ff=shape.d_ff + 1).n_params - shape.n_params  # nothing comes in smaller pieces
    assert shape.n_params == pytest.approx(n_params, rel=0.01, abs=8 * step)
    assert (shape.n_layers, shape.head_dim, shape.vocab_size) == (depth, head, like.vocab_size)
    assert shape.n_heads * head >= shape.d_model > (shape.n_heads - 1) * head, "whole heads, none to spare"


@pytest.mark.parametrize("depth", [1, 4, 12])
def test_a_ladder_of_one_depth_climbs_in_order(depth: int) -> None:
    like = shape_for(1e5)
    shapes = [shape_for(n_params, like, depth) for n_params in LOG_GRID if 5e4 < n_params < 1e8]
    for smaller, larger in pairwise(shapes):
        assert smaller.n_params <= larger.n_params
        assert smaller.d_model <= larger.d_model


@pytest.mark.parametrize("depth", [0, -1, 1001])
def test_depths_that_no_model_has_are_refused(depth: int) -> None:
    with pytest.raises(InputError, match=f"n_layers={depth} is out of range: give 1 to 1000"):
        shape_for(1e5, n_layers=depth)


def test_a_larger_request_never_gives_a_smaller_shape() -> None:
    for smaller, larger in pairwise(map(shape_for, LOG_GRID)):
        assert smaller.n_params <= larger.n_params
        if smaller.vocab_size == larger.vocab_size:
            assert smaller.d_model <= larger.d_model
            assert smaller.n_layers <= larger.n_layers


@settings(deadline=None)
@given(LOG_SIZES, LOG_SIZES)
def test_counts_keep_the_order_of_requests(one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert shape_for(smaller).n_params <= shape_for(larger).n_params


@settings(deadline=None)
@given(LOG_SIZES)
def test_a_shape_of_the_ladder_is_its_own_rung(n_params: float) -> None:
    shape = shape_for(n_params)
    assert shape_for(min(max(shape.n_params, SMALLEST), LARGEST)) == shape


@settings(deadline=None)
@given(LOG_SIZES)
def test_shapes_of_the_ladder_are_sensible(n_params: float) -> None:
    shape = shape_for(n_params)
    assert shape.n_heads * shape.head_dim == shape.d_model
    if n_params >= 1e8:
        assert 2.25 < shape.d_ff / shape.d_model < 3.1
        assert 40 < shape.d_model / shape.n_layers < 170
        assert shape.d_ff % 8 == 0


@pytest.mark.parametrize(
    ("n_params", "width", "depth", "head_dim", "tied"),
    [(50e6, 512, 10, 64, True), (1e9, 1920, 21, 64, True), (6.74e9, 4096, 32, 128, False)],
)
def test_familiar_sizes(n_params: float, width: int, depth: int, head_dim: int, tied: bool) -> None:
    shape = shape_for(n_params)
    assert (shape.d_model, shape.n_layers, shape.head_dim, shape.tied) == (width, depth, head_dim, tied)
    assert shape.vocab_size == 32000


def test_small_sizes_have_small_vocabularies() -> None:
    assert [shape_for(n).vocab_size for n in (1e5, 5e6, 5e7)] == [256, 4096, 32000]


@settings(deadline=None)
@given(LOG_SIZES, st.floats(1, 16))
def test_like_keeps_what_growth_cannot_change_and_loses_nothing(n_params: float, factor: float) -> None:
    base = shape_for(min(n_params, LARGEST / 17))
    grown = shape_for(max(base.n_params * factor, SMALLEST), like=base)
    for kept in ("vocab_size", "tied", "head_dim"):
        assert getattr(grown, kept) == getattr(base, kept)
    for growing in ("n_params", "d_model", "n_layers", "n_heads"):
        assert getattr(grown, growing) >= getattr(base, growing)
    if base.n_params >= 2e7 and factor >= 2:
        assert grown.d_ff >= base.d_ff


@pytest.mark.parametrize("n_params", [9.9e3, 1.1e12, 0, -1e6, float("nan"), float("inf")])
def test_sizes_off_the_ladder_name_its_range(n_params: float) -> None:
    with pytest.raises(InputError, match=r"^\S+ parameters are off the ladder: ask for 10k to 1T\.$"):
        shape_for(n_params)
