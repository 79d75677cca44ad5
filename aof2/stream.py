"""`Aof`: one stream, as users hold it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2._core.record import Record
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.runtime import Coordinator
from aof2.errors import (
    Closed,
    ConfigError,
    NotYetDurable,
    OffsetOutOfRange,
    RolloverFailed,
    WaitTimeout,
    WouldBlock,
    WouldBlockKind,
)
from aof2.reader import AofReader, Place, Until, corrupt, open_cursor, resolve
from aof2.tiers.instance import StreamInstance
from aof2.types import RecoveryReport, SegmentInfo, Watermarks

if TYPE_CHECKING:
    from typing_extensions import Buffer

Level = Literal["local", "remote"]
Timeout = float | EllipsisType | None
T = TypeVar("T")

EXTEND_RECORDS = 1000
EXTEND_BYTES = 256 * 1024


class Aof:
    """One append-only stream. Made by `AofManager.stream`; safe to use from many threads.

    Calls that wait come as `x(timeout=)`, `x_nowait()` and `x_async()`. `WouldBlock` means that nothing
    was accepted; `NotYetDurable` that the record was.

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
        self._instance = instance
        self._config = config
        self._clock = clock
        self._coordinator = coordinator
        self._pool = pool
        self._fetching: dict[int, Future[Record]] = {}
        self._closed = False
        self._seal_after = 0
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

    # --- facts ----------------------------------------------------------------------------------

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

    def segments(self) -> list[SegmentInfo]:
        """The residency map: every segment, oldest first, with the tiers that hold it."""
        self._check_open()
        self._instance.refresh()
        return list(self._instance.infos())

    def __repr__(self) -> str:
        return f"Aof({self.name!r}, next_offset={self.next_offset})"

    def __reduce__(self) -> str:
        raise TypeError("a stream does not pickle: open the root with readonly=True over there")

    # --- appending ------------------------------------------------------------------------------

    def append(
        self,
        payload: Buffer,
        *,
        ext_id: int | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> int:
        """Append one record and return its offset; it then survives the death of this process.

        Args:
            payload: Any C-contiguous bytes-like object; may be empty.
            ext_id: 64-bit number to store with it; None takes the stream's.
            durable: Wait until the local disk has it.
            timeout: Seconds to wait for room or the disk; None for ever; left out, `wait_timeout_s`.

        Raises:
            RecordTooLarge, StorageFull, DurabilityLost, WaitTimeout: nothing was appended.
            NotYetDurable: appended, but not durable in time: `wait` for it, do not append it again.
        """
        raise self._readonly()

    def append_nowait(self, payload: Buffer, *, ext_id: int | None = None) -> int:
        """Like `append`, but raises `WouldBlock` instead of waiting for room."""
        raise self._readonly()

    async def append_async(
        self,
        payload: Buffer,
        *,
        ext_id: int | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> int:
        """Like `append`, without blocking the event loop; does not suspend while there is room."""
        offset = await self._appending(
            functools.partial(self.append_nowait, payload, ext_id=ext_id),
            functools.partial(self.append, payload, ext_id=ext_id, timeout=timeout),
        )
        if durable:
            await self.wait_async(offset, "local", timeout=timeout)
        return offset

    def append_many(
        self,
        payloads: Iterable[Buffer],
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> range:
        """Append records as one atomic batch, all or nothing; returns the `range` of their offsets.

        Args:
            payloads: Iterable of bytes-like objects; read to its end before anything is written.
            ext_ids: One 64-bit number per record, or None for the stream's.
            durable, timeout: As for `append`.
        """
        raise self._readonly()

    def append_many_nowait(
        self, payloads: Iterable[Buffer], *, ext_ids: Iterable[int] | None = None
    ) -> range:
        """Like `append_many`, but raises `WouldBlock` instead of waiting for room."""
        raise self._readonly()

    async def append_many_async(
        self,
        payloads: Iterable[Buffer],
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> range:
        """Like `append_many`, without blocking the event loop."""
        items = list(payloads) if not isinstance(payloads, (bytes, bytearray, str)) else payloads
        ids = None if ext_ids is None else list(ext_ids)
        span = await self._appending(
            functools.partial(self.append_many_nowait, items, ext_ids=ids),
            functools.partial(self.append_many, items, ext_ids=ids, timeout=timeout),
        )
        if durable and span:
            await self.wait_async(span[-1], "local", timeout=timeout)
        return span

    def append_packed(
        self,
        data: Buffer,
        ends: Buffer,
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> range:
        """Append records that lie back to back in one buffer, as one atomic batch.

        Args:
            data: Bytes-like: the payloads one after the other.
            ends: int32 or int64 array of n ascending end positions; the last is the length of `data`.
            ext_ids, durable, timeout: As for `append_many`.
        """
        raise self._readonly()

    def append_packed_nowait(
        self, data: Buffer, ends: Buffer, *, ext_ids: Iterable[int] | None = None
    ) -> range:
        """Like `append_packed`, but raises `WouldBlock` instead of waiting for room."""
        raise self._readonly()

    async def append_packed_async(
        self,
        data: Buffer,
        ends: Buffer,
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: Timeout = ...,
    ) -> range:
        """Like `append_packed`, without blocking the event loop."""
        ids = None if ext_ids is None else list(ext_ids)
        span = await self._appending(
            functools.partial(self.append_packed_nowait, data, ends, ext_ids=ids),
            functools.partial(self.append_packed, data, ends, ext_ids=ids, timeout=timeout),
        )
        if durable and span:
            await self.wait_async(span[-1], "local", timeout=timeout)
        return span

    def extend(self, payloads: Iterable[Buffer], *, timeout: Timeout = ...) -> range:
        """Append any number of records, cut into batches; not atomic as a whole.

        Args:
            payloads: Iterable of bytes-like objects, consumed as it goes.
            timeout: Seconds that each batch may wait for room.

        Returns:
            The `range` from the first to the last of them. Records of other threads may lie between two
            batches. An iterable that raises leaves the batches before it appended.
        """
        first = following = self.next_offset
        batch: list[Buffer] = []
        size = 0
        empty = True
        for payload in payloads:
            batch.append(payload)
            size += len(payload) if isinstance(payload, bytes) else memoryview(payload).nbytes
            if len(batch) >= EXTEND_RECORDS or size >= EXTEND_BYTES:
                span = self._extend_by(batch, timeout)
                first, following, empty = (span.start if empty else first), span.stop, False
                batch, size = [], 0
        if batch:
            span = self._extend_by(batch, timeout)
            first, following = (span.start if empty else first), span.stop
        return range(first, following)

    def _extend_by(self, batch: list[Buffer], timeout: Timeout) -> range:
        if len(batch) == 1:
            # A record of its own may be larger than a batch may be.
            offset = self.append(batch[0], timeout=timeout)
            return range(offset, offset + 1)
        return self.append_many(batch, timeout=timeout)

    async def extend_async(self, payloads: Iterable[Buffer], *, timeout: Timeout = ...) -> range:
        """Like `extend`, without blocking the event loop; the iterable is read on another thread."""
        return await self._in_pool(functools.partial(self.extend, payloads, timeout=timeout))

    # --- durability -----------------------------------------------------------------------------

    def flush(self, *, timeout: Timeout = ...) -> None:
        """Wait until everything appended so far is on the local disk.

        Raises:
            NotYetDurable: `timeout` seconds ran out.
            DurabilityLost: the disk failed; the writer has stopped.
        """
        self._writer().wait_local(self.next_offset, timeout=timeout)

    def flush_nowait(self) -> None:
        """Return if everything appended so far is durable; else start a flush and raise `WouldBlock`."""
        self.wait_nowait()

    async def flush_async(self, *, timeout: Timeout = ...) -> None:
        """Like `flush`, without blocking the event loop."""
        await self._in_pool(functools.partial(self.flush, timeout=timeout))

    def wait(
        self, offset: int | None = None, level: Level = "local", *, timeout: Timeout = ...
    ) -> None:
        """Wait until a record has reached a level.

        Args:
            offset: The record; None means everything appended so far.
            level: `"local"` (on the local disk) or `"remote"` (a verified object in tier 2; asks for a
                seal where the record's segment is still active).
            timeout: Seconds to wait.

        Raises:
            NotYetDurable: `timeout` seconds ran out; the record stays accepted.
            OffsetOutOfRange: there is no such record yet.
        """
        upto = self._upto(offset, level)
        if level == "local":
            self._writer().wait_local(upto, timeout=timeout)
        else:
            self._ask_remote(upto)
            self._wait_changed(
                lambda: self._instance.remote_offset >= upto,
                timeout,
                lambda: NotYetDurable(
                    "accepted, but not in tier 2 in time: wait again",
                    offset=upto - 1,
                    level="remote",
                    stream=self.name,
                ),
            )

    def wait_nowait(self, offset: int | None = None, level: Level = "local") -> None:
        """Return if the record has reached the level, else get it going and raise `WouldBlock`."""
        upto = self._upto(offset, level)
        if level == "local":
            if self._writer().is_durable(upto):
                return
            kind = WouldBlockKind.FLUSH
        else:
            if self._instance.remote_offset >= upto:
                return
            self._ask_remote(upto)
            kind = WouldBlockKind.REMOTE
        raise WouldBlock(
            f"the records below {upto} have not reached level {level!r} yet",
            kind=kind,
            retry_after_s=self._config.flush.interval_s,
            stream=self.name,
            waiter=lambda timeout: self._waited(upto, level, timeout),
        )

    async def wait_async(
        self, offset: int | None = None, level: Level = "local", *, timeout: Timeout = ...
    ) -> None:
        """Like `wait`, without blocking the event loop."""
        await self._in_pool(functools.partial(self.wait, offset, level, timeout=timeout))

    def _waited(self, upto: int, level: Level, timeout: float | None) -> bool:
        try:
            self.wait(upto - 1, level, timeout=timeout)
        except NotYetDurable:
            return False
        return True

    def _upto(self, offset: int | None, level: str) -> int:
        if level not in ("local", "remote"):
            raise ValueError(f'level is {level!r}: "local" or "remote"')
        if level == "remote" and self._instance.cold is None:
            raise ConfigError(
                "the root has no tier 2, so no record ever reaches it: open it with tier2=",
                stream=self.name,
            )
        self._writer()
        following = self.next_offset
        if offset is None:
            return following
        if not 0 <= offset < following:
            raise OffsetOutOfRange(
                f"no record has offset {offset} yet",
                first=self.first_offset,
                next=following,
                offset=offset,
                stream=self.name,
            )
        return offset + 1

    def _ask_remote(self, upto: int) -> None:
        """Have the segment of a record sealed; at most once for each stretch of records."""
        if self._instance.sealed_end() < upto and self._seal_after < upto:
            self._seal_after = self.next_offset
            self._writer().end_segment()
        if self._coordinator is not None:
            self._coordinator.kick()

    # --- sealing --------------------------------------------------------------------------------

    def seal(self, *, timeout: Timeout = ...) -> None:
        """Seal the active segment, and return once the seal is durable.

        A segment without records is left as it is. Compression and upload follow by themselves.

        Raises:
            WaitTimeout: the seal was not acknowledged in time; it goes on.
            RolloverFailed: it could not be sealed; its records are intact.
        """
        upto = self._start_seal()
        self._wait_changed(
            lambda: self._is_sealed(upto),
            timeout,
            lambda: WaitTimeout(
                "the seal is not acknowledged yet; it goes on",
                kind=WouldBlockKind.ROLLOVER,
                stream=self.name,
            ),
        )

    def seal_nowait(self) -> None:
        """Start a seal and raise `WouldBlock`(ROLLOVER) until it is acknowledged."""
        upto = self._start_seal()
        if not self._is_sealed(upto):
            raise WouldBlock(
                "the seal is not acknowledged yet",
                kind=WouldBlockKind.ROLLOVER,
                stream=self.name,
                waiter=lambda timeout: self._sealed_within(upto, timeout),
            )

    async def seal_async(self, *, timeout: Timeout = ...) -> None:
        """Like `seal`, without blocking the event loop."""
        await self._in_pool(functools.partial(self.seal, timeout=timeout))

    def _start_seal(self) -> int:
        upto = self.next_offset
        self._writer().end_segment()
        if self._coordinator is not None:
            self._coordinator.kick()
        return upto

    def _is_sealed(self, upto: int) -> bool:
        if self._instance.sealed_end() >= upto:
            return True
        error = self._instance.last_error
        if error is not None and any(u.ended for u in self._instance.unsealed()):
            raise RolloverFailed(
                f"the segment could not be sealed ({error}); its records are intact, it is tried again",
                stream=self.name,
            ) from error
        return False

    def _sealed_within(self, upto: int, timeout: float | None) -> bool:
        try:
            self._wait_changed(lambda: self._is_sealed(upto), timeout, lambda: TimeoutError())
        except TimeoutError:
            return False
        return True

    # --- reading --------------------------------------------------------------------------------

    def get(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """One record, from whichever tier holds it.

        Args:
            offset: The record.
            timeout: Kept for symmetry; a read waits for nothing but the tiers' own time limits.

        Raises:
            OffsetOutOfRange: there is no such record.
            CorruptionError: it cannot be read.
        """
        del timeout
        self._check_open()
        if self._instance.writer is None and not 0 <= offset < self.next_offset:
            self._instance.refresh()
        if not self.first_offset <= offset < self.next_offset:
            raise OffsetOutOfRange(
                f"the stream holds offsets {self.first_offset} to {self.next_offset}, half-open",
                first=self.first_offset,
                next=self.next_offset,
                offset=offset,
                stream=self.name,
            )
        cursor = RecordCursor(offset, offset + 1)
        while True:
            held = open_cursor(self._instance, cursor)
            while True:
                record = cursor.next_record()
                if record is not None:
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

    def get_nowait(self, offset: int) -> Record:
        """Like `get`; a record that is not in the hot tier raises `WouldBlock`(HYDRATION) at first."""
        self._check_open()
        future = self._fetching.get(offset)
        if future is None:
            segment_id, _ = self._instance.find(offset)
            if segment_id in self._instance.hot.sizes or self._instance.writer is None:
                return self.get(offset)
            future = self._fetching[offset] = self._pool().submit(self.get, offset)
        if not future.done():
            fetching = future
            raise WouldBlock(
                "the record is on its way from another tier",
                kind=WouldBlockKind.HYDRATION,
                stream=self.name,
                offset=offset,
                waiter=lambda timeout: _ended(fetching, timeout),
            )
        return self._fetching.pop(offset).result()

    async def get_async(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """Like `get`, without blocking the event loop."""
        return await self._in_pool(functools.partial(self.get, offset, timeout=timeout))

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
            start: First record: an offset (negative: from the end), `"earliest"`, `"latest"` (the next
                one to come) or an aware datetime.
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
            self._pool,
            self._clock,
            start=self.first_offset,
            stop=None if stop is None else resolve(self._instance, stop),
            follow=follow,
            until=until,
            timeout_s=self._config.wait_timeout_s,
        )
        reader.seek(start)
        return reader

    # --- helpers --------------------------------------------------------------------------------

    def _writer(self) -> Any:
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
        if self._closed:
            raise Closed("the stream is closed: open the root again", stream=self.name)

    def _wait_changed(
        self,
        reached: Callable[[], bool],
        timeout: Timeout,
        error: Callable[[], Exception],
    ) -> None:
        """Wait for background work of this stream until something holds."""
        limit_s = self._config.wait_timeout_s if isinstance(timeout, EllipsisType) else timeout
        until = None if limit_s is None else self._clock.monotonic_s() + limit_s
        changed = self._instance.changed
        with changed:
            while not reached():
                self._check_open()
                left_s = None if until is None else until - self._clock.monotonic_s()
                if left_s is not None and left_s <= 0:
                    raise error()
                changed.wait(left_s)

    async def _appending(self, at_once: Callable[[], T], waiting: Callable[[], T]) -> T:
        try:
            result = at_once()
        except WouldBlock:
            return await self._in_pool(waiting)
        now_s = self._clock.monotonic_s()
        if now_s - self._yielded_s > 0.001:
            # A tight loop of appends that always succeed must not starve the other tasks.
            self._yielded_s = now_s
            await asyncio.sleep(0)
        return result

    _yielded_s = 0.0

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool(), work)

    def _mark_forked(self) -> None:
        """In a forked child: reading is the parent's too, its descriptors may change under it."""
        self._closed = True

    def _close(self) -> None:
        """Called by the manager, once the writer is closed."""
        self._closed = True
        with self._instance.changed:
            self._instance.changed.notify_all()


def _ended(future: Future[Record], timeout: float | None) -> bool:
    """Wait for a future's end, however it ends."""
    from concurrent.futures import wait

    return bool(wait([future], timeout).done)
