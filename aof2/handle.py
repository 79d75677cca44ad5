"""What the parts of a stream's handle share: its instance, its configuration, how it waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from aof2._core.writer import SegmentWriter
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.runtime import Coordinator
from aof2.errors import Closed, ForkedHandle, WouldBlockKind
from aof2.fetching import Fetches
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Timeout, deadline


class StreamHandle:
    """The ground that a stream's handle stands on; made by its manager."""

    def __init__(
        self,
        instance: StreamInstance,
        config: AofManagerConfig,
        clock: Clock,
        coordinator: Coordinator | None,
        pool: Callable[[], Executor],
    ) -> None:
        self._instance = instance
        self._config = config
        self._clock = clock
        self._coordinator = coordinator
        self._pool = pool
        self._closed = False
        self._forked = False
        self._fetches = Fetches(
            pool, instance.signals.hydration, instance.name, instance.hydration.limit
        )

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._instance.name

    @property
    def first_offset(self) -> int:
        """Offset of the earliest record."""
        self._check_owner()
        return self._instance.first_offset

    @property
    def next_offset(self) -> int:
        """Offset that the next record gets."""
        self._check_owner()
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

    def _check_owner(self) -> None:
        if self._forked:
            raise ForkedHandle(
                "this handle belongs to the parent process: open the root again with readonly=True",
                stream=self.name,
            )

    def _check_open(self) -> None:
        self._check_owner()
        if self._closed:
            raise Closed("the stream is closed: open the root again", stream=self.name)

    def _check_alive(self) -> None:
        """Whether what a wait is for can still come."""
        self._check_open()
        if self._coordinator is not None:
            self._coordinator.check_alive()

    def _until(self, timeout: Timeout) -> float | None:
        """Until when a call may wait, in seconds of the monotonic clock; None for ever."""
        return deadline(self._clock, timeout, self._config.wait_timeout_s)

    def add_wake_callback(
        self, kind: WouldBlockKind, work: Callable[[], object]
    ) -> Callable[[], None]:
        """Have a function called whenever a call that raised `WouldBlock` may be worth a retry.

        For event loops other than asyncio, whose `WouldBlock.wait_async` needs none of it.

        Args:
            kind: Of the `WouldBlock`.
            work: Called on a thread of the library, also when nothing has changed; it must not
                block. What it raises is logged.

        Returns:
            A function that ends it.

        Raises:
            ConfigError: another process writes the stream.
        """
        self._check_open()
        ends = [signal.add_callback(work) for signal in self._instance.signals.of_kind(kind)]

        def remove() -> None:
            for end in ends:
                end()

        return remove

    def _mark_forked(self) -> None:
        """In a forked child: reading is the parent's too, its descriptors may change under it."""
        self._forked = self._instance.forked = True
        if self._instance.points is not None:
            self._instance.points.close()
        self._instance.signals.abandon()

    def _close(self) -> None:
        """Called by the manager, once the writer is closed."""
        self._closed = True
        self._fetches.close()
        self._instance.hydration.close()
        self._instance.signals.wake()
