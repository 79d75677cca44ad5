"""Values of a configuration from files and variables, turned into the fields' types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aof2.errors import ConfigError


def section(cls: Any, name: str, values: Mapping[str, Any]) -> Any:
    """One table of the configuration, with text values turned into the fields' types."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"unknown field {name}.{key}: {', '.join(fields)}")
        chosen[key] = convert(f"{name}.{key}", str(fields[key].type), value)
    try:
        return cls(**chosen)
    except TypeError as error:
        raise ConfigError(f"table {name}: {error}") from error


def convert(where: str, wanted: str, value: Any) -> Any:
    if "None" in wanted and (value is None or str(value).lower() == "none"):
        return None
    try:
        if wanted.startswith("int"):
            return int(value)
        if wanted.startswith("float"):
            return float(value)
        if wanted.startswith("bool"):
            return _flag(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} is {value!r}, {_KINDS[wanted.split()[0]]} is needed") from error
    if not isinstance(value, str):
        raise ConfigError(f"{where} is {value!r}, a text is needed")
    return value


_KINDS = {"int": "a number", "float": "a number", "bool": "true or false"}
_FLAGS = {"true": True, "1": True, "yes": True, "on": True}
_FLAGS |= {"false": False, "0": False, "no": False, "off": False}


def _flag(value: Any) -> bool:
    """A flag from a file or a variable; `ValueError` for what is none."""
    if str(value).lower() not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[str(value).lower()]
