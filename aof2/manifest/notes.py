"""The small JSON objects of the manifest in a bucket, and what makes one of them believable.

A note is one JSON object in canonical form (ASCII, keys sorted, no blanks), at most 4 KiB, with the
fields `version`, `kind`, those of its kind, and `crc64`: the checksum of the canonical form without
that field. Anything that is not exactly this, or is another stream's, is `ManifestCorrupt` with the
key; a larger version under a good checksum is `VersionTooNew`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from aof2._core.checksum import crc64nvme
from aof2.errors import ManifestCorrupt, VersionTooNew
from aof2.manifest.bucket import EPOCH_MAX, Numbered
from aof2.manifest.chunks import ChainPoint
from aof2.objectstore import ObjectInfo, ObjectNotFound, ObjectStore, ObjectTooLarge
from aof2.sealedjson import canonical, crc64_of, with_crc64

NOTE_BYTES_MAX = 4096
"""Nothing longer is read; the longest note that is written has about 400 bytes."""

_VERSION = 1
_U64_MAX = (1 << 64) - 1
_POINT_FIELDS = ("chunk_id", "end_position", "end_offset", "chain_crc")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants to write the stream from an epoch on; the nonce tells claimants apart."""

    epoch: int
    nonce: bytes
    root_id: bytes
    claimed_ns: int

    def encode(self, uuid: bytes) -> bytes:
        """The object's bytes."""
        fields = {"epoch": self.epoch, "nonce": self.nonce.hex(), "root_id": self.root_id.hex()}
        return _encode("claim", {**fields, "claimed_ns": self.claimed_ns, "uuid": uuid.hex()})

    @classmethod
    def decode(cls, data: bytes, *, uuid: bytes, key: str) -> Claim:
        """Read it back; `ManifestCorrupt` names the key."""
        fields = _Fields(data, "claim", key, uuid)
        return cls(
            fields.number("epoch", EPOCH_MAX),
            fields.identifier("nonce"),
            fields.identifier("root_id"),
            fields.number("claimed_ns"),
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Where the chunks of an epoch begin.

    Attributes:
        epoch: Whose chunks.
        first_chunk: Number of the first.
        parent: Epoch that the chain goes on from; 0: the first chunk is the root of a chain.
        previous: End of the chunk before the first, all 0 in front of a root.
    """

    epoch: int
    first_chunk: int
    parent: int
    previous: ChainPoint

    def encode(self, uuid: bytes) -> bytes:
        """The object's bytes."""
        fields = {"epoch": self.epoch, "first_chunk": self.first_chunk, "parent": self.parent}
        return _encode("start", {**fields, "previous": _point(self.previous), "uuid": uuid.hex()})

    @classmethod
    def decode(cls, data: bytes, *, uuid: bytes, key: str) -> Start:
        """Read it back; `ManifestCorrupt` names the key."""
        fields = _Fields(data, "start", key, uuid)
        self = cls(
            fields.number("epoch", EPOCH_MAX),
            fields.number("first_chunk"),
            fields.number("parent", EPOCH_MAX),
            fields.point("previous"),
        )
        root = self.previous == ChainPoint()
        if (
            self.parent >= self.epoch
            or self.first_chunk == 0
            or (not root and self.previous.chunk_id + 1 != self.first_chunk)
            or (root and self.parent != 0)
        ):
            raise fields.refuse("it contradicts itself")
        return self


@dataclass(frozen=True, slots=True)
class Head:
    """How far the manifest is published; as the object HEAD, how far it was a while ago.

    Attributes:
        epoch: The newest one that has a `Start`.
        first_chunk: The first chunk of that epoch.
        next_chunk: Number of the chunk that is published next.
        previous: Where the next chunk begins: the end of the one before, all 0 in front of a root.
        snapshot: The newest snapshot, None before the first.
    """

    epoch: int
    first_chunk: int
    next_chunk: int
    previous: ChainPoint
    snapshot: Numbered | None = None

    def encode(self, uuid: bytes) -> bytes:
        """The object's bytes."""
        newest = None
        if self.snapshot is not None:
            newest = {"number": self.snapshot.number, "epoch": self.snapshot.epoch}
        fields: dict[str, Any] = {"epoch": self.epoch, "first_chunk": self.first_chunk}
        fields |= {"next_chunk": self.next_chunk, "previous": _point(self.previous)}
        return _encode("head", {**fields, "snapshot": newest, "uuid": uuid.hex()})

    @classmethod
    def decode(cls, data: bytes, *, uuid: bytes, key: str) -> Head:
        """Read it back; `ManifestCorrupt` names the key."""
        fields = _Fields(data, "head", key, uuid)
        snapshot, newest = fields.object("snapshot", none=True), None
        if snapshot is not None:
            newest = Numbered(
                fields.number("number", of=snapshot), fields.number("epoch", EPOCH_MAX, of=snapshot)
            )
        self = cls(
            fields.number("epoch", EPOCH_MAX),
            fields.number("first_chunk"),
            fields.number("next_chunk"),
            fields.point("previous"),
            newest,
        )
        if not 1 <= self.first_chunk <= self.next_chunk or (
            self.previous != ChainPoint() and self.previous.chunk_id + 1 != self.next_chunk
        ):
            raise fields.refuse("it contradicts itself")
        return self


def encode_current(uuid: bytes | None) -> bytes:
    """Bytes of the object that says which stream a name stands for; None: it was deleted."""
    return _encode("current", {"tombstone": True} if uuid is None else {"uuid": uuid.hex()})


def decode_current(data: bytes, *, key: str) -> bytes | None:
    """Read it back; `ManifestCorrupt` names the key."""
    fields = _Fields(data, "current", key)
    if fields.values.get("tombstone") is True and "uuid" not in fields.values:
        return None
    return fields.identifier("uuid")


def get_note(store: ObjectStore, key: str) -> bytes | None:
    """The bytes of a note, None when there is none; `ManifestCorrupt` when it is too large."""
    try:
        return store.get(key, NOTE_BYTES_MAX)
    except ObjectNotFound:
        return None
    except ObjectTooLarge as error:
        raise ManifestCorrupt(error.message, path=key) from error


def put_note(store: ObjectStore, key: str, data: bytes) -> ObjectInfo:
    """Create a note (create-only, like every put)."""
    return store.put(key, data, crc64=crc64nvme(data))


# --- JSON -----------------------------------------------------------------------------------------


def _encode(kind: str, fields: dict[str, Any]) -> bytes:
    return canonical(with_crc64({**fields, "kind": kind, "version": _VERSION}))


def _point(point: ChainPoint) -> dict[str, int]:
    return {name: getattr(point, name) for name in _POINT_FIELDS}


class _Fields:
    """The fields of a note that was checked; each is asked for by name and type."""

    def __init__(self, data: bytes, kind: str, key: str, uuid: bytes | None = None) -> None:
        self.key = key
        self.values = self._checked(data)
        if self.number("version") > _VERSION:
            raise VersionTooNew(f"version {self.values['version']}: upgrade aof2", path=key)
        if self.values.get("kind") != kind:
            raise self.refuse(f"it is no {kind!r}")
        if uuid is not None and self.identifier("uuid") != uuid:
            raise self.refuse("it belongs to another stream")

    def refuse(self, why: str) -> ManifestCorrupt:
        """The error for a note that cannot be believed."""
        return ManifestCorrupt(f"this object of the manifest is damaged: {why}", path=self.key)

    def _checked(self, data: bytes) -> dict[str, Any]:
        try:
            values = json.loads(data.decode("ascii"))
            # Written again it must be the same bytes, so there is one form of each note.
            if isinstance(values, dict) and (
                values.get("crc64") == crc64_of(values) and canonical(values) == data
            ):
                return values
        except (ValueError, RecursionError):
            pass  # Not JSON, or nested without end: refused like all the rest.
        raise self.refuse("it is not what was written there")

    def number(self, name: str, most: int = _U64_MAX, of: dict[str, Any] | None = None) -> int:
        value = (self.values if of is None else of).get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise self.refuse(f"{name} is no number from 0 to {most}")
        return value

    def identifier(self, name: str) -> bytes:
        value = self.values.get(name)
        if not isinstance(value, str) or re.fullmatch(r"[0-9a-f]{32}", value) is None:
            raise self.refuse(f"{name} has not 32 hex digits")
        return bytes.fromhex(value)

    def object(self, name: str, *, none: bool = False) -> dict[str, Any] | None:
        value = self.values.get(name)
        if value is None and none and name in self.values:
            return None
        if not isinstance(value, dict):
            raise self.refuse(f"{name} is no object")
        return value

    def point(self, name: str) -> ChainPoint:
        value = self.object(name)
        return ChainPoint(*(self.number(field, of=value) for field in _POINT_FIELDS))
