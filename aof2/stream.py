"""`Aof`: one stream, as users hold it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2._core.pointread import PointReader
from aof2._core.record import Record
from aof2.appending import Appending
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.runtime import Coordinator
from aof2.explain import BlockExplanation, explain
from aof2.fetching import Fetch
from aof2.places import Place, corrupt, open_cursor, resolve
from aof2.reader import AofReader, Until
from aof2.tiers.instance import StreamInstance
from aof2.types import RecoveryReport, SegmentInfo, Tier, Watermarks
from aof2.waiting import TURNS, Timeout


class Aof(Appending):
    """One append-only stream. Made by `AofManager.stream`; safe to use from many threads.

    Calls that wait come as `x(timeout=)`, `x_nowait()` and `x_async()`. `WouldBlock` means that
    nothing was accepted; `NotYetDurable` that the record was.

    Example, and more in `docs/reading.md`:

    ```python
    offset = log.append(b"order 1")
    log.wait(offset, "local")
    log.get(offset).payload
    ```
    """

    def __init__(
        self,
        instance: StreamInstance,
        config: AofManagerConfig,
        clock: Clock,
        coordinator: Coordinator | None,
        pool: Callable[[], ThreadPoolExecutor],
        recovery: RecoveryReport,
    ) -> None:
        super().__init__(instance, config, clock, coordinator, pool)
        self.recovery = recovery
        """The `RecoveryReport` of this open."""
        writer = instance.writer
        if writer is not None:
            # Bound straight to the core: one C call, and it stays right across rollovers.
            self.append = writer.append  # type: ignore[method-assign]
            self.append_nowait = writer.append_nowait  # type: ignore[method-assign]
            self.append_many = writer.append_many  # type: ignore[method-assign]
            self.append_many_nowait = writer.append_many_nowait  # type: ignore[method-assign]
            self.append_packed = writer.append_packed  # type: ignore[method-assign]
            self.append_packed_nowait = writer.append_packed_nowait  # type: ignore[method-assign]
            # Records of hot segments come from the core too, all others by the way around it.
            fold = instance.manifest.index.fold
            instance.points = PointReader(fold, writer, self._get, instance.touch)
            self.get = instance.points.get  # type: ignore[method-assign]

    @property
    def ext_id(self) -> int:
        """The 64-bit number of records that were appended without one of their own."""
        return 0 if self._instance.writer is None else self._instance.writer.ext_id

    @property
    def watermarks(self) -> Watermarks:
        """Offsets below which records are appended, on the local disk, in tier 2."""
        return Watermarks(
            self._instance.next_offset,
            self._instance.durable_offset,
            self._instance.remote_offset,
        )

    def explain_block(self, record_bytes: int = 0) -> BlockExplanation:
        """What an append would wait for now, since when, and what would free it.

        Args:
            record_bytes: Size of the payload that would be appended.

        Works beside the writing process too, as far as files and budgets tell. Like an append, it
        asks for a segment where one is missing.

        Raises:
            CoordinatorDied, StorageFull: what the append would get.

        Example: `print(log.explain_block().text)`; see `docs/cli.md`.
        """
        self._check_open()
        self._instance.refresh()
        assert self._coordinator is not None
        return explain(self._instance, self._coordinator, record_bytes)

    def segments(self) -> list[SegmentInfo]:
        """The residency map: every segment, oldest first, with the tiers that hold it."""
        self._check_open()
        self._instance.refresh()
        return list(self._instance.infos())

    def __repr__(self) -> str:
        return f"Aof({self.name!r}, next_offset={self.next_offset})"

    def __reduce__(self) -> str:
        raise TypeError("a stream does not pickle: open the root with readonly=True over there")

    def get(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """One record, from whichever tier holds it.

        Args:
            offset: The record.
            timeout: Seconds to wait for tier 2. Reading a local file is not cut short.

        Raises:
            OffsetOutOfRange: there is no such record.
            WaitTimeout: tier 2 did not answer in time; the request goes on.
            CorruptionError: it cannot be read.
        """
        return self._get(offset, timeout=timeout)

    def _get(self, offset: int, *, timeout: Timeout = ...) -> Record:
        segment_id = self._find(offset)
        if self._instance.nearest(segment_id) < Tier.COLD:
            return self._read(offset, segment_id)
        fetch = self._fetch(offset, segment_id)
        fetch.wait.block(self._until(timeout))
        return fetch.result()

    def get_nowait(self, offset: int) -> Record:
        """Like `get`; a record that is not in the hot tier raises `WouldBlock`(HYDRATION) at
        first."""
        segment_id = self._find(offset)
        if self._instance.nearest(segment_id) is Tier.HOT:
            return self._read(offset, segment_id)
        fetch = self._fetch(offset, segment_id)
        fetch.wait.check()
        return fetch.result()

    async def get_async(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """Like `get`, without blocking the event loop."""
        segment_id = self._find(offset)
        if self._instance.nearest(segment_id) is Tier.HOT:
            record = self._read(offset, segment_id)
            if TURNS.is_due(self._clock.monotonic_s()):
                await TURNS.give()
            return record
        fetch = self._fetch(offset, segment_id)
        await fetch.wait.suspend(self._until(timeout))
        return fetch.result()

    def _find(self, offset: int) -> int:
        """Id of the segment that holds a record."""
        self._check_open()
        instance = self._instance
        if instance.writer is None and not 0 <= offset < self.next_offset:
            instance.refresh()
        if not self.first_offset <= offset < self.next_offset:
            raise instance.out_of_range(offset)
        return instance.find(offset)[0]

    def _fetch(self, offset: int, segment_id: int) -> Fetch[Record]:
        """Have a record of another tier read on another thread."""
        return self._fetches.ask(
            segment_id,
            offset,
            functools.partial(self._read, offset, segment_id),
            "the record is on its way from another tier",
            offset,
        )

    def _read(self, offset: int, segment_id: int | None) -> Record:
        """Read a record on this thread, whatever that takes."""
        cursor = RecordCursor(offset, offset + 1)
        while True:
            held = open_cursor(self._instance, cursor, segment_id)
            while True:
                record = cursor.next_record()
                if record is not None:
                    self._instance.keep_at_hand(held)
                    return record
                window = None
                if cursor.status == CursorStatus.WINDOW_END:
                    window = held.source.window(cursor.position, cursor.needed)
                if window is None or window.end - cursor.position < max(1, cursor.needed):
                    break
                cursor.load(window)
            if held.sealed:
                raise corrupt(self._instance, held, cursor)
            # The landing ring was replaced, or the segment was sealed meanwhile: look again.
            self._instance.drop_open(held.segment_id)
            segment_id = None

    def reader(
        self,
        start: Place = "earliest",
        stop: Place | None = None,
        *,
        follow: bool = False,
        until: Until = "appended",
    ) -> AofReader:
        """Read a range in order, over all tiers.

        Args:
            start: First record: an offset (negative: from the end), `"earliest"`, `"latest"` (the
                next one to come) or an aware datetime.
            stop: End, half-open; None: the end as of now, or none when following.
            follow: Wait for records to come instead of ending, like `tail -f`.
            until: Read no further than `"appended"`, `"local"` or `"remote"`.

        Raises:
            OffsetOutOfRange: `start` is before the first or beyond the next offset.
        """
        self._check_open()
        if until not in ("appended", "local", "remote"):
            raise ValueError(f'until is {until!r}: "appended", "local" or "remote"')
        self._instance.refresh()
        reader = AofReader(
            self._instance,
            self._fetches,
            self._clock,
            start=self.first_offset,
            stop=None if stop is None else resolve(self._instance, stop),
            follow=follow,
            until=until,
            timeout_s=self._config.wait_timeout_s,
        )
        reader.seek(start)
        return reader
