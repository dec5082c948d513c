"""A checkpoint's model, ready to use."""

from pathlib import Path

import torch
from torch import nn

from scalegrow.errors import InputError
from scalegrow.runs.config import Network, RunConfig
from scalegrow.train.mlp import build_network
from scalegrow.train.model import build_decoder
from scalegrow.train.state import MODEL, read_facts, read_tensors


def load_model(checkpoint: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model of a checkpoint folder, its weights checked against their hash, in evaluation mode.

    Raises InputError where the folder is no whole checkpoint.
    """
    facts = read_facts(checkpoint)
    config = RunConfig.from_dict(facts["config"])
    model = build_network(config) if isinstance(config.model, Network) else build_decoder(config)
    try:
        model.load_state_dict(read_tensors(checkpoint / MODEL, facts["sha256"][MODEL]))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{checkpoint} does not fit its own config ({reason}): restore it.") from None
    return model.to(device).eval()
