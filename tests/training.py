"""Small runs that the tests of the training room share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from scalegrow.runs.config import Decoder, Evaluation, Network, RunConfig, Schedule
from scalegrow.runs.log import read_records
from scalegrow.shape import MLPShape, ModelShape

TINY = ModelShape(
    d_model=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=8,
    d_ff=40,
    vocab_size=256,
    tied=True,
    context=24,
)


def tiny_config(**changes: Any) -> RunConfig:
    """A run of some seconds: 40 steps of 4 sequences; changes to RunConfig's fields."""
    plain: dict[str, Any] = {
        "model": Decoder(TINY),
        "budgets": ("1920 tokens", "3840 tokens"),
        "batch": 4,
        "evaluation": Evaluation(sequences=16, times=4),
        "checkpoint_seconds": 3600.0,
        "log_every": 3,
        "schedule": Schedule(warmup="480 tokens"),
    }
    return RunConfig(**{**plain, **changes})


def tiny_network(**changes: Any) -> RunConfig:
    """A dense network's run of some seconds."""
    from scalegrow.runs.config import Data

    plain = {"model": Network(MLPShape(12, 3, 4, 2)), "data": Data("regression"), "batch": 16}
    return tiny_config(**{"budgets": ("320 tokens", "640 tokens"), **plain, **changes})


def with_shape(config: RunConfig, **changes: Any) -> RunConfig:
    """The same run of a decoder of another shape."""
    assert isinstance(config.model, Decoder)
    return replace(config, model=replace(config.model, shape=replace(config.model.shape, **changes)))


def records_of(folder: Path, stage: str) -> list[dict[str, Any]]:
    """A stage's records but for what a clock decides."""
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in read_records(folder / stage / "log.jsonl")
    ]


def held_out(folder: Path, stage: str) -> dict[int, dict[str, Any]]:
    """A stage's held-out records by step."""
    return {record["step"]: record for record in records_of(folder, stage) if "heldout_loss" in record}
