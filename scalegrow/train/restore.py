"""A checkpoint's model, ready to use."""

from pathlib import Path

import torch
from torch import Tensor, nn

from scalegrow.errors import InputError
from scalegrow.runs.config import Network, RunConfig
from scalegrow.train.mlp import build_network
from scalegrow.train.model import build_decoder
from scalegrow.train.state import MODEL, read_facts, read_tensors


def load_checkpoint(checkpoint: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model of a checkpoint folder, its weights checked against their hash, in evaluation mode.

    Raises InputError where the folder is no whole checkpoint.
    """
    facts = read_facts(checkpoint)
    weights = read_tensors(checkpoint / MODEL, facts["sha256"][MODEL])
    try:
        return load_model(weights, RunConfig.from_dict(facts["config"])).to(device)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{checkpoint} does not fit its own config ({reason}): restore it.") from None


def load_model(weights: dict[str, Tensor], config: RunConfig) -> nn.Module:
    """A config's model with these weights, in evaluation mode. Raises RuntimeError where they do not fit."""
    model = build(config)
    model.load_state_dict(weights)
    return model.eval()


def build(config: RunConfig) -> nn.Module:
    """A config's decoder or network with its first weights."""
    return build_network(config) if isinstance(config.model, Network) else build_decoder(config)
