"""Reading a stream: one iterator over all tiers, in offset order, each checksum verified."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal, TypeVar

from aof2._core.cursor import CursorStatus, PayloadIterator
from aof2._core.record import Record
from aof2.batch import RecordBatch
from aof2.clock import Clock
from aof2.errors import Closed, WouldBlockKind
from aof2.fetching import Fetches
from aof2.places import Place, resolve
from aof2.readahead import ReadAhead
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier
from aof2.waiting import TURNS, Timeout, Wait, deadline, retried, retried_async
from aof2.walking import Walk

Until = Literal["appended", "local", "remote"]
OnCorruption = Literal["raise", "skip"]
T = TypeVar("T")

NO_STOP = 2**64 - 1


class _Step(enum.Enum):
    """What a reader found out when its cursor could not go on."""

    MORE = 0
    TAIL = 1
    DONE = 2


class AofReader(Walk):
    """Reads records in order, whichever tier they are in. Made by `Aof.reader`.

    An iterator, an async iterator and a context manager; one thread or task at a time, except
    `close`, which may come from any thread and ends the iteration. See `docs/reading.md`.

    ```python
    for record in log.reader(start=1000, stop=2000):
        print(record.offset, record.payload)
    ```
    """

    def __init__(
        self,
        stream: StreamInstance,
        fetches: Fetches,
        clock: Clock,
        *,
        start: int,
        stop: int | None,
        follow: bool,
        until: Until,
        on_corruption: OnCorruption,
        timeout_s: float | None,
        check_alive: Callable[[], None],
    ) -> None:
        super().__init__(stream, start, 0, skip=on_corruption == "skip")
        self._ahead = ReadAhead(stream, stream.frames)
        self._fetches = fetches
        self._clock = clock
        self._follow = follow
        self._until = until
        self._timeout_s = timeout_s
        self._check_alive = check_alive
        self._hard_stop = stop
        self._to_the_end = stop is None
        if stop is None and not follow:
            self._hard_stop = self._watermark()
        self._raise_stop()

    # --- public ---------------------------------------------------------------------------------

    def read(self, *, timeout: Timeout = ...) -> Record | None:
        """The next record; None at the end of a reader that does not follow.

        Args:
            timeout: Seconds to wait for tier 2, or for a record when following; None for ever.
                Reading a local file is not cut short.

        Raises:
            WaitTimeout: none came in time.
            CorruptionError: the next record cannot be read; the reader stays where it is.
        """
        return self._blocking(self.next_record, timeout)

    def read_nowait(self) -> Record | None:
        """Like `read`, but raises `WouldBlock` (TAIL or HYDRATION) instead of waiting."""
        return self._at_once(self.next_record)

    async def read_async(self, *, timeout: Timeout = ...) -> Record | None:
        """Like `read`, without blocking the event loop."""
        return await self._awaiting(self.next_record, timeout)

    def read_batch(self, bytes_max: int = 1 << 20, *, timeout: Timeout = ...) -> RecordBatch | None:
        """The next records as columns; None at the end of a reader that does not follow.

        Args:
            bytes_max: About so many payload bytes at most; a batch that was appended as one is not
                cut.
            timeout: As for `read`.
        """
        return self._blocking(lambda: self._batch(bytes_max), timeout)

    def read_batch_nowait(self, bytes_max: int = 1 << 20) -> RecordBatch | None:
        """Like `read_batch`, but raises `WouldBlock` instead of waiting."""
        return self._at_once(lambda: self._batch(bytes_max))

    async def read_batch_async(
        self, bytes_max: int = 1 << 20, *, timeout: Timeout = ...
    ) -> RecordBatch | None:
        """Like `read_batch`, without blocking the event loop."""
        return await self._awaiting(lambda: self._batch(bytes_max), timeout)

    def batches(self, bytes_max: int = 1 << 20) -> Iterator[RecordBatch]:
        """Iterate over the rest as `RecordBatch`es of about `bytes_max` bytes."""
        while (batch := self.read_batch(bytes_max, timeout=None)) is not None:
            yield batch

    def payloads(self) -> Iterator[bytes]:
        """Iterate over the rest as bytes, without an object for the record around them."""
        return PayloadIterator(self)

    def seek(self, start: Place, *, timeout: Timeout = ...) -> None:
        """Go to another place, as for `Aof.reader(start=)`.

        Args:
            start: An offset, `"earliest"`, `"latest"` or an aware datetime (which may have to look
                into segments of other tiers).
            timeout: Seconds to wait for tier 2.

        Raises:
            OffsetOutOfRange: the stream does not have it.
            WaitTimeout: tier 2 did not answer in time; the reader stays where it is.
        """
        self._check_open()
        until_s = deadline(self._clock, timeout, self._timeout_s)
        retried(lambda: self._seek(start, Tier.COLD), until_s)

    def seek_nowait(self, start: Place) -> None:
        """Like `seek`; a datetime that needs another tier raises `WouldBlock`(HYDRATION)."""
        self._check_open()
        self._seek(start, Tier.WARM)

    async def seek_async(self, start: Place, *, timeout: Timeout = ...) -> None:
        """Like `seek`, without blocking the event loop."""
        self._check_open()
        until_s = deadline(self._clock, timeout, self._timeout_s)
        await retried_async(lambda: self._seek(start, Tier.WARM), until_s)

    def _seek(self, start: Place, below: Tier) -> None:
        """Go there; tier `below` and those below it are asked on another thread."""
        if isinstance(start, datetime) and self._stream.lowest() >= below:
            fetch = self._fetches.ask(
                (self, "seek"),
                (self, start),
                lambda: resolve(self._stream, start),
                "the time is looked up in another tier",
                self.offset,
            )
            fetch.wait.check()
            offset = fetch.result()
        else:
            offset = resolve(self._stream, start)
        if not self._stream.first_offset <= offset <= self._stream.next_offset:
            raise self._stream.out_of_range(offset)
        self.go_to(offset, self.stop_offset)

    def close(self) -> None:
        """End the reader; a waiting iteration ends. Again is harmless, from any thread too."""
        self._closed = True
        self.set_stop(0)
        self._held = self._asked = None
        if self._ahead is not None:
            self._ahead.end()
        self._stream.signals.wake()

    def __enter__(self) -> AofReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AofReader:
        return self

    async def __anext__(self) -> Record:
        record = None if self._closed else await self.read_async(timeout=None)
        if record is None:
            raise StopAsyncIteration
        return record

    def __repr__(self) -> str:
        return f"AofReader({self._stream.name!r}, offset={self.offset})"

    def __reduce__(self) -> str:
        raise TypeError("a reader does not pickle: open the root with readonly=True over there")

    # --- waiting --------------------------------------------------------------------------------

    def refill(self) -> bool:
        """Called by iteration: go on, waiting at the tail when following."""
        return not self._closed and retried(lambda: self._step(Tier.COLD), None) is _Step.MORE

    def _blocking(self, take: Callable[[], T | None], timeout: Timeout) -> T | None:
        self._check_open()
        item = take()
        if item is None:
            until_s = deadline(self._clock, timeout, self._timeout_s)
            item = retried(lambda: self._attempt(take, Tier.COLD), until_s)
        return item

    def _at_once(self, take: Callable[[], T | None]) -> T | None:
        self._check_open()
        return self._attempt(take, Tier.WARM)

    async def _awaiting(self, take: Callable[[], T | None], timeout: Timeout) -> T | None:
        self._check_open()
        item = take()
        if item is None:
            until_s = deadline(self._clock, timeout, self._timeout_s)
            item = await retried_async(lambda: self._attempt(take, Tier.WARM), until_s)
        if TURNS.is_due(self._clock.monotonic_s()):
            await TURNS.give()
        return item

    def _attempt(self, take: Callable[[], T | None], below: Tier) -> T | None:
        """Take something, or None at the end; `WouldBlock` (TAIL, HYDRATION) when it has to wait.
        What tier `below` and those below it have is read on another thread."""
        while (item := take()) is None:
            if self._step(below) is not _Step.MORE:
                return None
        return item

    def _step(self, below: Tier) -> _Step:
        """Let the cursor go on; never TAIL of a reader that follows, which is `WouldBlock`."""
        self.check_stream()
        step = self._advance(below)
        if step is _Step.TAIL and self._follow:
            self._check_uploads()
            raise self._tail().blocked()
        return step

    def _check_uploads(self) -> None:
        """Raise `CoordinatorDied` when nothing will reach tier 2 any more that could be waited for.
        """
        if self._until == "remote":
            self._check_alive()

    def _tail(self) -> Wait:
        """For records beyond the last one that may be read."""
        signals = self._stream.signals
        by_level = {"appended": signals.tail, "local": signals.durable, "remote": signals.work}
        return Wait(
            by_level[self._until],
            self._has_more,
            WouldBlockKind.TAIL,
            "the reader is at the end of the stream",
            stream=self._stream.name,
            offset=self.offset,
        )

    def _has_more(self) -> bool:
        self.check_stream()
        if self._closed or self._watermark() > self.offset:
            return True
        self._check_uploads()
        return False

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the reader is closed", stream=self._stream.name)
        self.check_stream()

    # --- going on -------------------------------------------------------------------------------

    def _batch(self, bytes_max: int) -> RecordBatch | None:
        parts = self.next_batch(bytes_max)
        return None if parts is None else RecordBatch(*parts)

    def _watermark(self) -> int:
        """Offset that the reader may read up to now."""
        if self._until == "local":
            return self._stream.durable_offset
        if self._until == "remote":
            return self._stream.remote_offset
        return self._stream.next_offset

    def _raise_stop(self) -> bool:
        """Let the cursor go as far as it may; True when that is further than where it is."""
        limit = NO_STOP if self._follow and self._until == "appended" else self._watermark()
        self.stop_offset = limit if self._hard_stop is None else min(limit, self._hard_stop)
        self.set_stop(0 if self._closed else self.stop_offset)
        return self.offset < self.stop_offset

    def _advance(self, below: Tier) -> _Step:
        """Do one thing that lets the cursor go on, or say that nothing can be done now."""
        if self._closed or self.status == CursorStatus.STOP:
            if self._closed or (self._hard_stop is not None and self.offset >= self._hard_stop):
                if self._to_the_end and not self._closed:
                    self._stream.check_end(self.offset)
                return _Step.DONE
            if self._raise_stop():
                return _Step.MORE
            self._stream.check_end(self.offset)
            return _Step.TAIL
        return _Step.MORE if self.go_on(below) else _Step.TAIL
