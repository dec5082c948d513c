"""`scalegrow export`: one of our checkpoints as a directory of transformers."""

from pathlib import Path

from scalegrow.cli.grow_hf import note_if_unchecked
from scalegrow.cli.render import console, print_json
from scalegrow.errors import InputError


def run(checkpoint: Path, out: Path, asked: str, *, as_json: bool) -> None:
    """Export, and say what was done."""
    try:
        from scalegrow.train.hf_export import export_checkpoint
    except ImportError:
        raise InputError("exporting needs PyTorch: pip install 'scalegrow[train]', or '.[train]' here.") from None
    done = export_checkpoint(checkpoint, out, asked)
    note_if_unchecked(done)
    if as_json:
        print_json({"schema": "scalegrow-export/1", "directory": str(out), **done})
        return
    folded = f"multipliers folded into {len(done['folded'])} tensors" if done["folded"] else "tensors as trained"
    console().print(f"{done['architecture']}, {folded}\n\ninto {out}")
