"""`scalegrow grow` for a directory of transformers: shapes, growth factors, zero-step KL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalegrow.cli.grow import NEEDS_TORCH, Operators, Target, deepens, show_growth, usual
from scalegrow.cli.render import console, note, print_json
from scalegrow.errors import InputError
from scalegrow.growth import deepened_shape
from scalegrow.shape import ModelShape

CONFIG, STATE = "config.json", "state.json"


@dataclass(frozen=True)
class Comparison:
    """The text on which base and grown are compared; none without one."""

    path: Path | None
    n_tokens: int


def is_directory(path: Path, comparison: Comparison) -> bool:
    """Whether this is a directory of transformers, not a checkpoint of ours. Raises InputError if neither."""
    if not path.exists():
        raise InputError(f"{path} does not exist: give a checkpoint, or a directory of transformers.")
    if within := sorted(path.glob("*/checkpoints/step_*")):
        raise InputError(f"{path} is a run: give one of its checkpoints, such as {within[0]}.")
    ours = (path / STATE).exists()
    if ours and comparison.path:
        raise InputError("--text is for directories of transformers: ours are compared on their held-out data.")
    if not ours and not (path / CONFIG).exists():
        raise InputError(f"{path} is no checkpoint: it has neither {STATE} nor {CONFIG}.")
    return not ours


def one_place(out: Path | None, path_out: Path | None) -> Path:
    """Where to write: said once. Raises InputError."""
    if out is None and path_out is None:
        raise InputError("where to? give --out DIR, or a second path.")
    if out is not None and path_out is not None:
        raise InputError("--out and a second path both say where to write: give one of them.")
    return out or path_out or Path()


def run(
    folder: Path,
    out: Path,
    target: Target,
    operators: Operators,
    arguments: dict[str, Any],
    policies: dict[str, str],
    comparison: Comparison,
    *,
    as_json: bool,
) -> None:
    """Grow, and say what was done."""
    require_no_policies(policies)
    if arguments["gamma"] is not None:
        raise InputError("--gamma is for checkpoints of ours: a directory says its own initializer_range.")
    try:
        from scalegrow.train.hf import grow_directory, open_base
    except ImportError:
        raise InputError(NEEDS_TORCH) from None
    from scalegrow.train.hf_check import Text
    from scalegrow.train.hf_config import scaled_shape
    from scalegrow.train.operators import LOCKING, Arguments, plan

    text = Text(comparison.path, comparison.n_tokens) if comparison.path else None
    base = open_base(folder)
    shape = base.config.shape
    sized = target.shape(shape, deepened_shape if deepens(operators) else scaled_shape)
    growth = plan(shape, sized, *usual(operators, shape, sized), Arguments(**arguments))
    assert isinstance(growth.target, ModelShape)
    done = grow_directory(base, out, growth, text)
    note_if_unchecked(done)
    if growth.operator in LOCKING and growth.target.d_model > shape.d_model:
        note(
            "note: copies are exact twins that a deterministic run never tells apart: take zero_pad or tile_noise."
        )
    if growth.target.vocab_size > shape.vocab_size:
        note("note: new tokens have logit 0 and take their share of the probability until they are trained.")
    if as_json:
        print_json({"schema": "scalegrow-grow-directory/1", "directory": str(out), **done})
        return
    show_growth(shape, growth.target, (done["parent"]["n_params"], done["n_params"]), done)
    page = console()
    if "zero_step_kl" in done:
        page.print(f"zero-step KL(base || grown) = {done['zero_step_kl']:.3g} nats per token")
    page.print(f"\ninto {out}")


def note_if_unchecked(done: dict[str, Any]) -> None:
    """A note where transformers could not be asked whether it loads what was written."""
    if not done["checked_with_transformers"]:
        note(
            "transformers is not installed, so that it loads this was not checked: pip install 'scalegrow[hf]', "
            "or '.[hf]' here."
        )


def require_no_policies(policies: dict[str, str]) -> None:
    """Raise InputError where a choice was made for a part of the state that a directory does not hold."""
    usual = {"moments": "auto", "counter": "auto", "schedule": "restart", "data": "continue"}
    for name, chosen in policies.items():
        if chosen != usual.get(name, "parametrisation"):
            raise InputError(f"a directory of transformers holds weights alone: leave --{name} out.")
