"""The first weights: gamma-initialisation, and the norm-epsilon diagnostic.

Symbols: d = d_model, gamma the exponent of std = fan_in^-gamma, L = n_layers.
"""

import hashlib
import math

import torch

from scalegrow.runs.config import Decoder, RunConfig, epsilon_gamma
from scalegrow.train.axes import Parameter
from scalegrow.train.mup import sizes_of


def standard_deviation(spec: Parameter, config: RunConfig) -> float:
    """The initial std of a matrix or table; 0 for what is not drawn (gains, biases).

    fan_in^-gamma by its kind's rule. An embedding counts its width as fan_in. In muP, embedding and head keep
    the std of the base width (the head's 1/width is in the logit multiplier); depth_scaled divides what writes
    to the residual stream by sqrt(2 L).
    """
    if spec.kind in ("gain", "bias"):
        return 0.0
    rule, value = config.init.rule(spec.kind)
    std = value if rule == "std" else math.pow(_fan_in(spec, config), -value)
    if spec.writes_residual and config.init.depth_scaled and isinstance(config.model, Decoder):
        std /= math.sqrt(2 * config.model.shape.n_layers)
    return std


def initialise(parameters: dict[str, torch.Tensor], specs: dict[str, Parameter], config: RunConfig) -> None:
    """Fill every parameter in place, each from its own generator: a layer more leaves the others' weights alone.

    Drawn in float32 on the CPU from (seed, name), so that device, sharding and order of creation do not matter.
    """
    with torch.no_grad():
        for name, spec in specs.items():
            parameters[name].copy_(first_values(name, spec, config))


def first_values(name: str, spec: Parameter, config: RunConfig) -> torch.Tensor:
    """The initial tensor of one parameter, float32 on the CPU."""
    if spec.kind == "gain":
        return torch.ones(spec.shape)
    std = standard_deviation(spec, config)
    if std == 0:
        return torch.zeros(spec.shape)
    generator = torch.Generator().manual_seed(seed_of(config.seed, name))
    return torch.randn(spec.shape, generator=generator) * std


def epsilon_diagnostic(config: RunConfig) -> str:
    """One line: the mean square entering the first norm against its epsilon, and what follows."""
    if not isinstance(config.model, Decoder):
        return "no norms in this network"
    eps = config.model.norm_eps
    spec = Parameter((), "embedding")
    std = config.parametrisation.embedding_multiplier * standard_deviation(spec, config)
    # RMS(x) / sqrt(RMS(x)^2 + eps) is what is left of unit scale after the norm.
    left = std / math.sqrt(std**2 + eps) if std else 0.0
    verdict = "the norm is exact" if left > 0.95 else f"the norm leaves {left:.2g} of unit scale: lower norm_eps"
    rule, _ = config.init.rule("embedding")
    width = round(_fan_in(spec, config))
    critical = f" (gamma_eps = {epsilon_gamma(eps, width):.2f} at width {width})" if rule == "gamma" else ""
    return f"embedding std {std:.3g}, mean square {std**2:.2g} against norm eps {eps:g}: {verdict}{critical}"


def _fan_in(spec: Parameter, config: RunConfig) -> float:
    """What the rule counts: for tables and heads the width, the base's in muP; otherwise the inputs summed."""
    table = spec.kind == "embedding" and isinstance(config.model, Decoder)
    if table or spec.kind == "head":
        width, base = sizes_of(config)["d_model"]
        return base if config.parametrisation.kind == "mup" else width
    return spec.fan_in


def seed_of(seed: int, name: str) -> int:
    """A 63-bit seed of (seed, name), the same in every process and version."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little") >> 1
