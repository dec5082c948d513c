"""muP: the table of multipliers and rates, and the coordinate check that they keep activations still."""

from dataclasses import replace

import pytest
from training import TINY, tiny_config, with_shape

from scalegrow.runs.config import Optimiser, Parametrisation, RunConfig
from scalegrow.shape import ModelShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.coordinates import coordinate_check, slopes, widened
from scalegrow.train.mup import multipliers, scales
from scalegrow.train.optim import make_adamw
from scalegrow.train.stories import Stories
from scalegrow.train.task import LanguageTask

BASE = replace(TINY, d_model=32, n_heads=4, n_kv_heads=2, d_ff=96, context=32)
WIDTHS = (32, 64, 128, 256)


def config_at(width: int, kind: str = "mup", **shape: object) -> RunConfig:
    parametrisation = Parametrisation(kind, base_width=32, base_ff=96)
    config = with_shape(tiny_config(parametrisation=parametrisation, batch=8), **vars(BASE) | shape)
    return widened(config, width)


@pytest.mark.parametrize(
    ("name", "lr", "decay", "eps"),
    [
        # k = 4 on every axis: rows of the table for Adam with decoupled decay
        ("model.embed_tokens.weight", 1, 1, 1 / 4),
        ("model.norm.weight", 1, 1, 1 / 4),
        ("model.layers.0.self_attn.q_proj.weight", 1 / 4, 4, 1 / 4),
        ("model.layers.0.self_attn.o_proj.weight", 1 / 4, 4, 1 / 4),
        ("model.layers.0.mlp.up_proj.weight", 1 / 4, 4, 1 / 4),
        ("model.layers.0.mlp.down_proj.weight", 1 / 4, 4, 1 / 4),
        ("lm_head.weight", 1, 1, 1 / 4),
    ],
)
def test_rates_follow_the_table(name: str, lr: float, decay: float, eps: float) -> None:
    config = config_at(128, tied=False)
    found = scales(name, decoder_parameters(config.model.shape)[name], config)
    assert (found.lr, found.weight_decay, found.eps) == (lr, decay, eps)
    standard = config_at(128, "standard", tied=False)
    assert set(vars(scales(name, decoder_parameters(standard.model.shape)[name], standard)).values()) == {1.0}


def test_logits_and_attention_carry_the_width() -> None:
    assert multipliers(config_at(128)).logits == 1 / 4
    assert multipliers(config_at(128, "standard")).logits == 1
    assert multipliers(config_at(128)).attention == pytest.approx(8**-0.5), "head size is the base's"
    shape: ModelShape = replace(BASE, head_dim=32, n_heads=2, n_kv_heads=2)
    deeper_heads = with_shape(
        tiny_config(parametrisation=Parametrisation(base_width=32, base_head_dim=8)), **vars(shape)
    )
    assert multipliers(deeper_heads).attention == pytest.approx(8**0.5 / 32), "1/K away from the base"


def test_decay_times_rate_does_not_depend_on_width() -> None:
    """Decoupled decay is lr x weight_decay a step: muP keeps the product (Wang & Aitchison 2024)."""
    config = replace(config_at(256), optimiser=Optimiser(lr=0.01, weight_decay=0.1))
    task = LanguageTask(config, Stories(32))
    groups = make_adamw(task.build("cpu"), task.parameters(), config).param_groups
    products = {round(group["lr"] * group["weight_decay"], 12) for group in groups}
    assert products == {0.0, 0.001}, "0 for gains, lr x decay of the base elsewhere"


def test_activations_stay_under_mup_and_grow_under_the_standard_parametrisation() -> None:
    found = {}
    for kind in ("mup", "standard"):
        config = replace(config_at(32, kind), optimiser=Optimiser(lr=0.01))
        found[kind] = slopes(coordinate_check(LanguageTask(config, Stories(32)), WIDTHS, steps=4))
    blocks = [(4, "block 0"), (4, "block 1")]
    assert all(abs(found["mup"][place]) < 0.25 for place in blocks), found["mup"]
    assert found["mup"][4, "logits"] < 0.1, "logits do not blow up with width"
    assert all(found["standard"][place] > 0.8 for place in blocks), "the control must blow up"
    assert found["standard"][4, "logits"] > found["mup"][4, "logits"] + 0.2
