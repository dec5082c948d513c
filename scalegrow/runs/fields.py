"""From plain data (TOML, JSON) to frozen dataclasses, by their annotations."""

import dataclasses
import math
import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from scalegrow.errors import InputError

T = TypeVar("T")


def build(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """A dataclass from nested mappings. Raises InputError that names the field and what it wants."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where} = {data!r} is not a table of settings.")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = get_close_matches(key, fields, n=1) or [", ".join(fields)]
            raise InputError(f"{where} has no setting {key!r}: did you mean {near[0]}?")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise InputError(f"{where} lacks {name!r}: add it.")
    return cls(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as this annotation wants it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise InputError(f"{where} = {value!r} is no list.")
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where} = {value!r} is unknown: choose {' or '.join(map(str, arguments))}.")
        return value
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and type(value) is float and not math.isfinite(value):
        raise InputError(f"{where} = {value!r} is no finite number: give one.")
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise InputError(f"{where} = {value!r} is not {names.get(kind, kind)}.")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value as the member of a union that fits: None, or the dataclass that knows most of its keys."""
    if value is None and type(None) in kinds:
        return None
    best = max((kind for kind in kinds if kind is not type(None)), key=lambda kind: _known_keys(kind, value))
    return _value(best, value, where)


def _known_keys(kind: Any, value: Any) -> int:
    """How many keys of nested data a dataclass has fields for."""
    if not dataclasses.is_dataclass(kind) or not isinstance(value, Mapping):
        return 0
    hints = get_type_hints(kind)
    return sum(1 + _known_keys(hints[key], item) for key, item in value.items() if key in hints)


def flatten(tables: Any, prefix: str = "") -> dict[str, Any]:
    """{"optimiser": {"lr": 1}} -> {"optimiser.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        name = f"{prefix}.{key}" if prefix else key
        found |= flatten(value, name) if isinstance(value, dict) else {name: value}
    return found
