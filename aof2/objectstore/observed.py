"""A wrapper round any store that counts what is asked of it, and tells the breaker how it went."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from aof2.errors import AofError
from aof2.objectstore.base import BytesLike, Contents, ObjectInfo, ObjectNotFound, ObjectStore
from aof2.objectstore.breaker import Breaker

T = TypeVar("T")


class ObservedStore(ObjectStore):
    """Passes every call on to `inner`; see `ObjectStore`.

    A call counts as one request, however many tries and pieces the store made of it.

    Attributes:
        inner: The store itself.
        requests, errors, bytes: Calls, failed calls and bytes moved, by operation.
    """

    def __init__(self, inner: ObjectStore, breaker: Breaker) -> None:
        self.inner = inner
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._breaker = breaker
        self._lock = threading.Lock()

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        info = self._call("put", lambda: self.inner.put(key, data, crc64=crc64))
        self._moved("put", info.size)
        return info

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        info = self._call("replace", lambda: self.inner.replace(key, data, crc64=crc64))
        self._moved("replace", info.size)
        return info

    def get(self, key: str, bytes_max: int) -> bytes:
        data = self._call("get", lambda: self.inner.get(key, bytes_max))
        self._moved("get", len(data))
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        data = self._call("get_range", lambda: self.inner.get_range(key, start, end))
        self._moved("get_range", len(data))
        return data

    def head(self, key: str) -> ObjectInfo | None:
        return self._call("head", lambda: self.inner.head(key))

    def delete(self, key: str) -> None:
        self._call("delete", lambda: self.inner.delete(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = self._call("list", lambda: self.inner.list(prefix))
        while (info := self._next(found)) is not None:
            yield info

    def check(self) -> None:
        self._call("check", self.inner.check)

    def describe(self) -> str:
        return self.inner.describe()

    def close(self) -> None:
        self.inner.close()

    def _next(self, found: Iterator[ObjectInfo]) -> ObjectInfo | None:
        try:
            return next(found, None)
        except AofError as error:
            self._failed("list", error)
            raise

    def _call(self, operation: str, work: Callable[[], T]) -> T:
        with self._lock:
            self.requests[operation] += 1
        try:
            result = work()
        except ObjectNotFound:
            # An answer like any other; whoever asked may have expected it.
            self._breaker.record(None)
            raise
        except AofError as error:
            self._failed(operation, error)
            raise
        self._breaker.record(None)
        return result

    def _failed(self, operation: str, error: AofError) -> None:
        with self._lock:
            self.errors[operation] += 1
        self._breaker.record(error)

    def _moved(self, operation: str, count: int) -> None:
        with self._lock:
            self.bytes[operation] += count
