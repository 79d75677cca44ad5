"""A store that hangs when it is told to, and threads whose end is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from blocked_states import Held

from aof2.objectstore import MemoryStore


class SlowStore(MemoryStore):
    """A store whose requests of some kinds hang until they are released."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.hangs: set[str] = set()
        self.reached, self.held = threading.Event(), Held()

    def _maybe(self, operation: str) -> None:
        if operation in self.hangs:
            self.reached.set()
            self.held()

    def put(self, key: str, data: Any, *, crc64: int) -> Any:
        if "/seg/" in key:
            self._maybe("put")
        return super().put(key, data, crc64=crc64)

    def get_range(self, key: str, start: int, end: int) -> Any:
        self._maybe("get")
        return super().get_range(key, start, end)

    def check(self) -> None:
        self._maybe("check")
        super().check()

    def get(self, key: str, bytes_max: int) -> bytes:
        self._maybe("get")
        return super().get(key, bytes_max)

    def head(self, key: str) -> Any:
        self._maybe("head")
        return super().head(key)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run work; what it returned or raised is in the list then."""
    ends: list[object] = []

    def body() -> None:
        try:
            ends.append(work())
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, ends


def our_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("aof2")}
