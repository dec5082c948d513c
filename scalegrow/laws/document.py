"""A document of ours on disk: one JSON object with a schema, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalegrow.atomic import new_file
from scalegrow.errors import InputError


def write_document(path: Path, schema: str, data: Mapping[str, Any]) -> None:
    """Readers see the old file or the new one, never half of one. Raises InputError where it cannot be written."""
    text = json.dumps({"schema": schema, **data}, separators=(",", ":"), allow_nan=False)
    try:
        with new_file(path) as partial:
            partial.write_text(text.replace("],[", "],\n[") + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place.") from None


def read_document(path: Path, schema: str, advice: str) -> dict[str, Any]:
    """What `write_document` wrote. Raises InputError, ending in the advice, on anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}): {advice}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON: {advice}.") from None
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise InputError(f"{path} is not of schema {schema}: {advice}.")
    return data
