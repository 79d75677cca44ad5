"""What the parts of a stream's handle share: its instance, its configuration, how it waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aof2._core.writer import SegmentWriter
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.runtime import Coordinator
from aof2.errors import Closed, ForkedHandle
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Timeout, deadline, in_pool

T = TypeVar("T")


class StreamHandle:
    """The ground that a stream's handle stands on; made by its manager."""

    def __init__(
        self,
        instance: StreamInstance,
        config: AofManagerConfig,
        clock: Clock,
        coordinator: Coordinator | None,
        pool: Callable[[], ThreadPoolExecutor],
    ) -> None:
        self._instance = instance
        self._config = config
        self._clock = clock
        self._coordinator = coordinator
        self._pool = pool
        self._closed = False
        self._forked = False

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._instance.name

    @property
    def first_offset(self) -> int:
        """Offset of the earliest record."""
        return self._instance.first_offset

    @property
    def next_offset(self) -> int:
        """Offset that the next record gets."""
        return self._instance.next_offset

    def _writer(self) -> SegmentWriter:
        self._check_open()
        if self._instance.writer is None:
            raise self._readonly()
        return self._instance.writer

    def _readonly(self) -> Exception:
        return Closed(
            "the root was opened with readonly=True: open it for writing to change it",
            stream=self.name,
        )

    def _check_open(self) -> None:
        if self._forked:
            raise ForkedHandle(
                "this handle belongs to the parent process: open the root again with readonly=True",
                stream=self.name,
            )
        if self._closed:
            raise Closed("the stream is closed: open the root again", stream=self.name)

    def _wait_changed(
        self,
        reached: Callable[[], bool],
        timeout: Timeout,
        error: Callable[[], Exception],
    ) -> None:
        """Wait for background work of this stream until something holds."""
        until = deadline(self._clock, timeout, self._config.wait_timeout_s)
        changed = self._instance.changed
        with changed:
            while not reached():
                self._check_open()
                if self._coordinator is not None:
                    self._coordinator.check_alive()
                left_s = None if until is None else until - self._clock.monotonic_s()
                if left_s is not None and left_s <= 0:
                    raise error()
                changed.wait(left_s)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await in_pool(self._pool(), work)

    def _mark_forked(self) -> None:
        """In a forked child: reading is the parent's too, its descriptors may change under it."""
        self._forked = True

    def _close(self) -> None:
        """Called by the manager, once the writer is closed."""
        self._closed = True
        with self._instance.changed:
            self._instance.changed.notify_all()
