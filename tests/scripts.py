"""Scripts as modules, for the tests that call their functions."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ANALYSES = Path(__file__).parents[1] / "analyses"


def analysis(name: str) -> ModuleType:
    """analyses/NAME.py, run as an import would."""
    return module_at(ANALYSES / f"{name}.py")


def module_at(path: Path, *, known: bool = False) -> ModuleType:
    """A script as a module of its own; known: to imports too by its name, where its dataclasses look for it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if known:
        sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
