"""A document of ours on disk: one JSON object with a schema, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalegrow.atomic import output_file
from scalegrow.errors import InputError

OURS = b'{"schema":"scalegrow-'  # how every document of ours begins


def write_document(path: Path, schema: str, data: Mapping[str, Any]) -> None:
    """Readers see the old file or the new one, never half of one. Raises InputError where it cannot be written."""
    require_ours(path)
    fields = [f"{_compact(name)}:{_lines(value)}" for name, value in {"schema": schema, **data}.items()]
    with output_file(path) as partial:
        partial.write_text("{" + ",\n".join(fields) + "}\n", encoding="utf-8")


def require_ours(path: Path) -> None:
    """Raise InputError where another's file is in the way, such as the table that was read."""
    if not path.is_file():
        return  # nothing there, or what new_file refuses
    with path.open("rb") as there:
        if there.read(len(OURS)) != OURS:
            raise InputError(f"{path} is there and holds something else: choose another place.")


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


def _lines(value: Any) -> str:
    """A list of lists a line each, so that a changed draw is a changed line."""
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        return "[" + ",\n".join(map(_compact, value)) + "]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
