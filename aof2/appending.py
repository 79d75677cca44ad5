"""The append calls of a stream: one record, an atomic batch, a packed buffer, any number."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from aof2.errors import WouldBlock
from aof2.flushing import Flushing
from aof2.waiting import Timeout
from aof2.writer import size_limits

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

EXTEND_RECORDS = 1000
EXTEND_BYTES = 256 * 1024
BATCH_HEAD_BYTES = 64
BATCH_ENTRY_BYTES = 4
"""What a batch takes beside its payloads, so that it fits where the payloads alone just do."""
YIELD_S = 0.001


class Appending(Flushing):
    """Append calls. On a writable stream the blocking and `_nowait` ones are bound straight to
    the core."""

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
            timeout: Seconds to wait for room or the disk; None for ever; left out,
                `wait_timeout_s`.

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
        return await self._appending_batch(
            functools.partial(self.append_many_nowait, items),
            functools.partial(self.append_many, items, timeout=timeout),
            ext_ids,
            durable,
            timeout,
        )

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
            ends: int32 or int64 array of n ascending end positions; the last is the length of
                `data`.
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
        return await self._appending_batch(
            functools.partial(self.append_packed_nowait, data, ends),
            functools.partial(self.append_packed, data, ends, timeout=timeout),
            ext_ids,
            durable,
            timeout,
        )

    def extend(self, payloads: Iterable[Buffer], *, timeout: Timeout = ...) -> range:
        """Append any number of records, cut into batches; not atomic as a whole.

        Args:
            payloads: Iterable of bytes-like objects, consumed as it goes.
            timeout: Seconds that each batch may wait for room.

        Returns:
            The `range` from the first to the last of them. Records of other threads may lie between
            two batches. An iterable that raises leaves the batches before it appended.
        """
        self._writer()
        if isinstance(payloads, (bytes, bytearray, memoryview, str)):
            raise TypeError(
                f"extend takes an iterable of payloads, not one {type(payloads).__name__}: "
                "use append, or put it into a list"
            )
        first = following = self.next_offset
        batch: list[Buffer] = []
        size = BATCH_HEAD_BYTES
        empty = True
        limit = min(EXTEND_BYTES, size_limits(self._config)[1])
        for payload in payloads:
            if isinstance(payload, str):
                raise TypeError("a payload is a str: encode it first, e.g. text.encode()")
            more = len(payload) if isinstance(payload, bytes) else memoryview(payload).nbytes
            more += BATCH_ENTRY_BYTES
            # A large record goes alone: it may be larger than a batch may be.
            if batch and (len(batch) >= EXTEND_RECORDS or size + more > limit):
                span = self._extend_by(batch, timeout)
                first, following, empty = (span.start if empty else first), span.stop, False
                batch, size = [], BATCH_HEAD_BYTES
            batch.append(payload)
            size += more
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
        """Like `extend`, without blocking the event loop; the iterable is read on another
        thread."""
        return await self._in_pool(functools.partial(self.extend, payloads, timeout=timeout))

    async def _appending(self, at_once: Callable[[], T], waiting: Callable[[], T]) -> T:
        try:
            result = at_once()
        except WouldBlock:
            return await self._in_pool(waiting)
        now_s = self._clock.monotonic_s()
        if now_s - self._yielded_s > YIELD_S:
            # A tight loop of appends that always succeed must not starve the other tasks.
            self._yielded_s = now_s
            await asyncio.sleep(0)
        return result

    async def _appending_batch(
        self,
        at_once: Callable[..., range],
        waiting: Callable[..., range],
        ext_ids: Iterable[int] | None,
        durable: bool,
        timeout: Timeout,
    ) -> range:
        ids = None if ext_ids is None else list(ext_ids)
        span = await self._appending(
            functools.partial(at_once, ext_ids=ids), functools.partial(waiting, ext_ids=ids)
        )
        if durable and span:
            await self.wait_async(span[-1], "local", timeout=timeout)
        return span

    _yielded_s = 0.0
