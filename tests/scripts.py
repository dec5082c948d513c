"""Scripts of analyses/ as modules, for the tests that call their functions."""

import importlib.util
from pathlib import Path
from types import ModuleType

ANALYSES = Path(__file__).parents[1] / "analyses"


def analysis(name: str) -> ModuleType:
    """analyses/NAME.py, run as an import would."""
    spec = importlib.util.spec_from_file_location(name, ANALYSES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
