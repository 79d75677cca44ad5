"""Objects in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from aof2._core.checksum import crc64nvme
from aof2.errors import FetchFailed
from aof2.objectstore.base import (
    BytesLike,
    Contents,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    check_key,
    check_key_prefix,
    check_range,
    checked_pieces,
    content_differs,
    require_crc64,
    require_size,
)

_named: dict[str, MemoryStore] = {}
_named_lock = threading.Lock()


class MemoryStore(ObjectStore):
    """An `ObjectStore` that keeps its objects until the process ends; see `ObjectStore`."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """The store of that name: the same one for every caller in this process."""
        with _named_lock:
            return _named.setdefault(name, cls(name))

    def load(self, objects: Mapping[str, bytes]) -> None:
        """Have exactly these objects, whatever was there before."""
        made = {key: (bytes(data), crc64nvme(data)) for key, data in objects.items()}
        with self._lock:
            self._objects = made

    @classmethod
    def stand_in(cls, name: str, store: MemoryStore) -> None:
        """Have `named` give this store, e.g. one that fails at times."""
        with _named_lock:
            _named[name] = store

    @classmethod
    def forget(cls, name: str) -> None:
        """Have the next `named` of this name begin with an empty store."""
        with _named_lock:
            _named.pop(name, None)

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        check_key(key)
        content = b"".join(map(bytes, checked_pieces(key, data, crc64)))
        with self._lock:
            found = self._info(key)
            if found is None:
                self._objects[key] = (content, crc64)
                return ObjectInfo(key, len(content), crc64, f"{crc64:016x}")
        if (found.size, found.crc64) != (len(content), crc64):
            raise content_differs(key, len(content), crc64, found)
        return found

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        check_key(key)
        with memoryview(data).cast("B") as view:
            require_crc64(key, view, crc64)
            content = bytes(view)
        with self._lock:
            self._objects[key] = (content, crc64)
        return ObjectInfo(key, len(content), crc64, f"{crc64:016x}")

    def get(self, key: str, bytes_max: int) -> bytes:
        check_key(key)
        content = self._content(key)
        require_size(key, len(content), bytes_max)
        return content

    def get_range(self, key: str, start: int, end: int) -> bytes:
        check_key(key)
        check_range(key, start, end)
        if start == end:
            return b""
        content = self._content(key)
        if end > len(content):
            raise FetchFailed(
                f"[{start}, {end}) is not inside the object of {len(content)} bytes", path=key
            )
        return content[start:end]

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        with self._lock:
            return self._info(key)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_key_prefix(prefix)
        with self._lock:
            found = [self._info(key) for key in sorted(self._objects) if key.startswith(prefix)]
        return (info for info in found if info is not None)

    def check(self) -> None:
        """Nothing to ask: this process is there."""

    def describe(self) -> str:
        return f"memory://{self._name}"

    def _content(self, key: str) -> bytes:
        with self._lock:
            stored = self._objects.get(key)
        if stored is None:
            raise ObjectNotFound(f"there is no such object in {self.describe()}", path=key)
        return stored[0]

    def _info(self, key: str) -> ObjectInfo | None:
        stored = self._objects.get(key)
        if stored is None:
            return None
        content, crc64 = stored
        return ObjectInfo(key, len(content), crc64, f"{crc64:016x}")
