"""First weights: gamma-initialisation per role, muP against standard, the epsilon diagnostic."""

import math
from dataclasses import replace

import pytest
import torch
from training import TINY, tiny_config, tiny_network, with_shape

from scalegrow.errors import InputError
from scalegrow.runs.config import Decoder, Init, Parametrisation, RunConfig, epsilon_gamma
from scalegrow.shape import MLPShape
from scalegrow.train.axes import decoder_parameters
from scalegrow.train.init import epsilon_diagnostic, first_values, standard_deviation
from scalegrow.train.model import build_decoder

WIDE = replace(TINY, d_model=128, n_heads=16, n_kv_heads=16, d_ff=320, tied=False)
STANDARD = Parametrisation("standard")


def config_with(init: Init, **changes: object) -> RunConfig:
    return with_shape(tiny_config(init=init, parametrisation=STANDARD, **changes), **vars(WIDE))


def stds(config: RunConfig) -> dict[str, float]:
    specs = decoder_parameters(WIDE)
    return {name: float(first_values(name, spec, config).std()) for name, spec in specs.items()}


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0, 1.5])
def test_gamma_sets_the_std_of_every_matrix(gamma: float) -> None:
    """std = fan_in^-gamma, within 5 standard errors of a sample std, 1 / sqrt(2 n)."""
    drawn = stds(config_with(Init(gamma)))
    for name, spec in decoder_parameters(WIDE).items():
        if spec.kind in ("gain", "bias"):
            continue
        fan_in = WIDE.d_model if spec.kind != "hidden" else spec.fan_in
        wanted = fan_in**-gamma
        assert drawn[name] == pytest.approx(wanted, rel=5 / math.sqrt(2 * spec.n_elements)), name


def test_gpt2_s_scale_can_be_said() -> None:
    """0.02 everywhere, and 0.02 / sqrt(2 L) where a matrix writes to the residual stream (Radford et al. 2019)."""
    gpt2 = config_with(Init(embedding="std:0.02", hidden="std:0.02", head="std:0.02", depth_scaled=True))
    for name, spec in decoder_parameters(WIDE).items():
        if spec.kind in ("gain", "bias"):
            continue
        wanted = (
            0.02 / math.sqrt(2 * WIDE.n_layers) if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        )
        assert standard_deviation(spec, gpt2) == pytest.approx(wanted)


def test_one_role_can_have_its_own_gamma() -> None:
    mixed = config_with(Init(0.5, embedding="gamma:1", head="std:0"))
    specs = decoder_parameters(WIDE)
    assert standard_deviation(specs["model.embed_tokens.weight"], mixed) == pytest.approx(1 / 128)
    assert standard_deviation(specs["model.layers.0.mlp.up_proj.weight"], mixed) == pytest.approx(128**-0.5)
    assert not first_values("lm_head.weight", specs["lm_head.weight"], mixed).any()


@pytest.mark.parametrize("rule", ["gama", "std", "gamma:x", "std:-1", "gamma:nan", ""])
def test_other_rules_are_refused(rule: str) -> None:
    with pytest.raises(InputError, match=r"init\.hidden"):
        Init(hidden=rule)


def test_weights_depend_on_seed_and_name_alone() -> None:
    """One layer more leaves the others as they were, and another seed changes all."""
    shallow, deep = (build_decoder(with_shape(tiny_config(), n_layers=n)).state_dict() for n in (2, 3))
    assert all(torch.equal(deep[name], tensor) for name, tensor in shallow.items())
    other = build_decoder(tiny_config(seed=1)).state_dict()
    assert not torch.equal(other["model.embed_tokens.weight"], shallow["model.embed_tokens.weight"])


def test_at_the_base_width_mup_is_the_standard_parametrisation() -> None:
    """Same weights, same function: muP changes what happens away from its base."""
    tokens = torch.arange(12).unsqueeze(0)
    logits = [
        build_decoder(tiny_config(parametrisation=Parametrisation(kind, base_width=16)))(tokens)
        for kind in ("mup", "standard")
    ]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)


def test_gamma_eps_is_the_published_diagnostic() -> None:
    """-ln(eps) / (2 ln d): 0.83 at eps 1e-5 and 1.99 at 1e-12, d = 1024 (derived in arXiv 2606.17945's terms)."""
    assert epsilon_gamma(1e-5, 1024) == pytest.approx(0.83, abs=0.005)
    assert epsilon_gamma(1e-12, 1024) == pytest.approx(1.99, abs=0.005)
    at_critical = 1024.0 ** -epsilon_gamma(1e-5, 1024)
    assert at_critical**2 == pytest.approx(1e-5)


def test_the_diagnostic_names_a_drowned_norm() -> None:
    usual = config_with(Init(0.5))
    small = config_with(Init(2.0))
    released = replace(small, model=replace(small.model, norm_eps=1e-12))
    assert isinstance(released.model, Decoder)
    assert "norm is exact" in epsilon_diagnostic(usual)
    assert "lower norm_eps" in epsilon_diagnostic(small)
    assert "norm is exact" in epsilon_diagnostic(released)
    assert "no norms" in epsilon_diagnostic(tiny_network())


def test_a_network_starts_by_the_same_rules() -> None:
    from scalegrow.train.mlp import build_network

    config = tiny_network(parametrisation=STANDARD, init=Init(1.0))
    config = replace(config, model=replace(config.model, shape=MLPShape(256, 3, 16, 1)))
    weights = build_network(config).state_dict()
    assert float(weights["layers.1.weight"].std()) == pytest.approx(1 / 256, rel=0.02)
    assert float(weights["layers.0.weight"].std()) == pytest.approx(1 / 16, rel=0.06)
    assert not weights["layers.1.bias"].any()
