"""A JSON copy of the index beside the log: `manifest/index.json`, with `log_only = false`.

The library never reads it back. It is for people and other programs, to go back to and to compare
with; the log alone decides. Checksums are 16 hex digits, because JSON readers round large numbers.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from aof2._core.directory import Directory
from aof2.errors import ManifestCorrupt
from aof2.manifest.index import Index, SegmentRow

LOGGER = logging.getLogger("aof2.tiered")
MIRROR_NAME = "index.json"
MIRROR_BYTES_MAX = 1 << 31

_ROW = (
    "segment_id",
    "base_offset",
    "end_offset",
    "epoch",
    "sealed",
    "raw_bytes",
    "segment_crc64",
    "ext_id",
    "coordinator_watermark",
    "flush_failure",
    "warm_present",
    "upload_key",
    "hot_evicted",
    "delete_queued",
)
_COMPRESSED = ("bytes", "table_bytes", "crc64", "raw_crc64")
_COLD = ("key", "size", "crc64", "etag", "table_bytes")


def _values(thing: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Attributes as JSON has them; None of None."""
    if thing is None:
        return None
    values = {name: getattr(thing, name) for name in names}
    return {
        name: f"{value:016x}" if name.endswith("crc64") else value for name, value in values.items()
    }


def row_fields(row: SegmentRow) -> dict[str, Any]:
    """One segment's row, in plain values."""
    fields = _values(row, _ROW) or {}
    return {
        **fields,
        "compressed": _values(row.compressed, _COMPRESSED),
        "cold": _values(row.cold, _COLD),
    }


def mirror_of(index: Index) -> dict[str, Any]:
    """An index in plain values, as the JSON copy holds it."""
    return {
        "format": 1,
        "records": index.applied,
        "first_offset": index.first_offset,
        "segments": [row_fields(row) for row in index.rows()],
    }


def write_mirror(directory: Directory, index: Index) -> None:
    """Replace the JSON copy as a whole: temp, fsync, rename, fsync of the directory.

    Args:
        directory: The `manifest` directory.
        index: Must not change meanwhile.

    `OSError` when the disk fails or is full; the copy before it stays.
    """
    text = json.dumps(mirror_of(index), indent=1, ensure_ascii=False)
    directory.replace(MIRROR_NAME, text.encode())


def keep_mirror(directory: Directory, index: Index) -> None:
    """`write_mirror` where nothing may depend on it: a failure is an ERROR in the log."""
    try:
        write_mirror(directory, index)
    except OSError as error:
        LOGGER.error(
            "the JSON copy of the index was not written, an older one may stand: %s",
            error,
            extra={"event": "mirror_failed", "path": directory.join(MIRROR_NAME)},
        )


def read_mirror(directory: Directory) -> dict[str, Any] | None:
    """The JSON copy, None where there is none; `ManifestCorrupt` when it is no such thing."""
    try:
        data = directory.read(MIRROR_NAME, limit=MIRROR_BYTES_MAX)
    except FileNotFoundError:
        return None
    try:
        mirror = json.loads(data)
        int(mirror["records"])
        if not isinstance(mirror["segments"], list):
            raise TypeError("segments")
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestCorrupt(
            f"the JSON copy of the index cannot be understood ({error}); the log does not need it: "
            "remove it, the next close writes a new one",
            path=directory.join(MIRROR_NAME),
        ) from error
    found: dict[str, Any] = mirror
    return found


def differences(mirror: dict[str, Any], index: Index) -> list[str]:
    """What a JSON copy and an index of as many records do not agree in, a line each."""
    ours = mirror_of(index)
    found = [
        f"{name} is {mirror.get(name)!r} in the copy, {ours[name]!r} by the log"
        for name in ("records", "first_offset")
        if mirror.get(name) != ours[name]
    ]
    theirs = {_id_of(row): row for row in mirror["segments"]}
    for row in ours["segments"]:
        other = theirs.pop(row["segment_id"], None)
        if other is None:
            found.append(f"segment {row['segment_id']} is missing in the copy")
            continue
        found += [
            f"segment {row['segment_id']}: {name} is {other.get(name)!r} in the copy, "
            f"{value!r} by the log"
            for name, value in row.items()
            if other.get(name) != value
        ]
    found += [f"segment {segment_id} is in the copy only" for segment_id in theirs]
    return found


def _id_of(row: Any) -> Any:
    return row.get("segment_id") if isinstance(row, dict) else row
