"""A stream's directory below a root: its name, and the names of its files; what small ones say."""

from __future__ import annotations

import hashlib
import json
import re

from aof2._core.directory import Directory
from aof2._core.pointer import PointerInfo, decode_pointer
from aof2.errors import FormatError, InvalidStreamName, VersionTooNew
from aof2.sealedjson import crc64_of
from aof2.types import StreamIdentity

FORMAT_VERSION = 1
IDENTITY_NAME = "stream.json"
POINTER_NAME = "current.sealed"
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")
_DIRECTORY = re.compile(r"(?!\.)([A-Za-z0-9._-]{1,100})-[0-9a-f]{8}")
_HOT = re.compile(r"(\d{20})\.seg")
_WARM = re.compile(r"(\d{20})\.seg\.zst")


def stream_directory(name: str) -> str:
    """Directory name of a stream: a hash keeps names apart on file systems that fold case.

    Raises:
        InvalidStreamName: the name is not `[A-Za-z0-9._-]{1,100}`, or begins with a dot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidStreamName(
            f"{name!r} is no stream name: 1 to 100 of A-Z a-z 0-9 . _ -, not beginning with a dot"
        )
    return f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_pointer(segments: Directory, stream_uuid: bytes) -> PointerInfo | None:
    """What `current.sealed` says, None when it is missing or damaged: it is only a hint."""
    try:
        data = segments.read(POINTER_NAME, limit=4096)
    except OSError:
        return None
    return decode_pointer(data, stream_uuid)


def stream_names(root: Directory) -> list[str]:
    """Names of the streams below a root, sorted."""
    names = []
    for entry in root.names():
        match = _DIRECTORY.fullmatch(entry)
        if match and stream_directory(match[1]) == entry:
            names.append(match[1])
    return sorted(names)


def read_identity(directory: Directory, name: str) -> StreamIdentity:
    """Who the stream in a directory is.

    Raises:
        VersionTooNew: a newer version made it.
        FormatError: its `stream.json` cannot be understood.
    """
    try:
        fields = json.loads(directory.read(IDENTITY_NAME, limit=65536))
        if "crc64" in fields and fields["crc64"] != crc64_of(fields):
            raise ValueError("its checksum does not match")
        if fields["format_version"] > FORMAT_VERSION:
            raise VersionTooNew(
                f"the stream has format version {fields['format_version']}: upgrade aof2",
                path=directory.join(IDENTITY_NAME),
            )
        if fields["name"] != name:
            raise ValueError(f"it names the stream {fields['name']!r}")
        uuid, root_id = bytes.fromhex(fields["uuid"]), bytes.fromhex(fields["root_id"])
        if len(uuid) != 16 or len(root_id) != 16:
            raise ValueError("an identifier has not 16 bytes")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"the stream's identity cannot be read ({error}): restore the file, it never changes",
            stream=name,
            path=directory.join(IDENTITY_NAME),
        ) from error
    return StreamIdentity(name, stream_directory(name), uuid, root_id)


def hot_name(segment_id: int) -> str:
    """File name of a segment below `segments/`.

    Example:
        >>> hot_name(1)
        '00000000000000000001.seg'
    """
    return f"{segment_id:020d}.seg"


def warm_name(segment_id: int) -> str:
    """File name of a segment's compressed form below `warm/`.

    Example:
        >>> warm_name(1)
        '00000000000000000001.seg.zst'
    """
    return f"{segment_id:020d}.seg.zst"


def hot_ids(directory: Directory) -> list[int]:
    """Ids of the segment files in a directory, ascending."""
    return sorted(int(m[1]) for m in map(_HOT.fullmatch, directory.names()) if m)


def warm_ids(directory: Directory) -> list[int]:
    """Ids of the compressed segments in a directory, ascending."""
    return sorted(int(m[1]) for m in map(_WARM.fullmatch, directory.names()) if m)
