"""JSON objects that carry a checksum of what they say."""

from __future__ import annotations

import json
from typing import Any

from aof2._core.checksum import crc64nvme


def canonical(fields: dict[str, Any]) -> bytes:
    """The one form of an object: keys sorted, no spaces."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def with_crc64(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields and `crc64`, 16 hex digits: CRC-64/NVME of the others' canonical form.

    Example:
        >>> with_crc64({"a": 1})
        {'a': 1, 'crc64': '6a3b27be00b88c9f'}
    """
    return {**fields, "crc64": crc64_of(fields)}


def crc64_of(fields: dict[str, Any]) -> str:
    """What `crc64` has to be, whether it is among the fields or not."""
    others = {name: value for name, value in fields.items() if name != "crc64"}
    return f"{crc64nvme(canonical(others)):016x}"
