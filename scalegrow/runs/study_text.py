"""A study as the TOML that parse_study reads back."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from scalegrow.runs.recipe import Recipe
from scalegrow.runs.study import TABLES, Block, Study

DELETE = "\x7f"  # the one control character that JSON writes bare and TOML refuses


def study_text(study: Study) -> str:
    """[baseline] and a [[runs]] for every block, what is by default left out."""
    parts = [["[baseline]", *_assignments(study.baseline, ("settings",), ("size",))]]
    parts += [["[[runs]]", *_assignments(block, TABLES)] for block in study.runs]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _assignments(of: Recipe | Block, tables: tuple[str, ...], without: tuple[str, ...] = ()) -> Iterator[str]:
    """name = value of every field that is not as by default; tables' entries by dotted names."""
    yield from (f"{name} = {_value(value)}" for name, value in chosen(of, (*tables, *without)))
    for table in tables:
        yield from (f"{table}.{_key(name)} = {_value(item)}" for name, item in getattr(of, table).items())


def chosen(of: Recipe | Block, without: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every other field that is not as by default, with its value."""
    for each in fields(of):
        value = getattr(of, each.name)
        if each.name not in without and (each.default is MISSING or value != each.default):
            yield each.name, value


def _key(dotted: str) -> str:
    """Dotted names as dotted keys, quoted where a part is no bare word."""
    parts = dotted.split(".")
    return ".".join(part if _bare(part) else _text(part) for part in parts)


def _bare(part: str) -> bool:
    return part.isascii() and part.replace("_", "a").replace("-", "a").isalnum()


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace(DELETE, "\\u007f")
