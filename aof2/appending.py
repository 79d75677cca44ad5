"""The append calls of a stream: one record, an atomic batch, a packed buffer, any number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from aof2.errors import WouldBlock
from aof2.trimming import Trimming
from aof2.waiting import TURNS, Timeout, retried_async, wait_of
from aof2.writer import size_limits

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

EXTEND_RECORDS = 1000
EXTEND_BYTES = 256 * 1024
BATCH_HEAD_BYTES = 64
BATCH_ENTRY_BYTES = 4
"""What a batch takes beside its payloads, so that it fits where the payloads alone just do."""


class Appending(Trimming):
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
        """Like `append`, without blocking the event loop; does not suspend while there is room.

        Cancelled before it returns, the record is wholly there or not at all.
        """
        try:
            offset = self.append_nowait(payload, ext_id=ext_id)
        except WouldBlock as blocked:
            attempt = functools.partial(self.append_nowait, payload, ext_id=ext_id)
            offset = await self._wait_for_room(attempt, blocked, timeout)
        if durable:
            await self._suspend_durable(offset + 1, timeout)
        elif TURNS.is_due(self._clock.monotonic_s()):
            await TURNS.give()
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
        # Read once, because a try that finds no room is followed by another one.
        items = list(payloads) if not isinstance(payloads, (bytes, bytearray, str)) else payloads
        return await self._appending_batch(
            functools.partial(self.append_many_nowait, items), ext_ids, durable, timeout
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
            functools.partial(self.append_packed_nowait, data, ends), ext_ids, durable, timeout
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
        first = following = self.next_offset
        for n, batch in enumerate(self._cut(payloads)):
            if len(batch) == 1:
                offset = self.append(batch[0], timeout=timeout)
                span = range(offset, offset + 1)
            else:
                span = self.append_many(batch, timeout=timeout)
            first, following = (first if n else span.start), span.stop
        return range(first, following)

    async def extend_async(self, payloads: Iterable[Buffer], *, timeout: Timeout = ...) -> range:
        """Like `extend`, without blocking the event loop, which reads the iterable bit by bit.

        Cancelled, the batches before stay appended.
        """
        first = following = self.next_offset
        for n, batch in enumerate(self._cut(payloads)):
            if len(batch) == 1:
                offset = await self.append_async(batch[0], timeout=timeout)
                span = range(offset, offset + 1)
            else:
                span = await self.append_many_async(batch, timeout=timeout)
            first, following = (first if n else span.start), span.stop
        return range(first, following)

    def _cut(self, payloads: Iterable[Buffer]) -> Iterator[list[Buffer]]:
        """Batches that fit; a record that is larger than a batch may be comes alone."""
        self._writer()
        if isinstance(payloads, (bytes, bytearray, memoryview, str)):
            raise TypeError(
                f"extend takes an iterable of payloads, not one {type(payloads).__name__}: "
                "use append, or put it into a list"
            )
        limit = min(EXTEND_BYTES, size_limits(self._config)[1])
        batch: list[Buffer] = []
        size = BATCH_HEAD_BYTES
        for payload in payloads:
            if isinstance(payload, str):
                raise TypeError("a payload is a str: encode it first, e.g. text.encode()")
            more = len(payload) if isinstance(payload, bytes) else memoryview(payload).nbytes
            more += BATCH_ENTRY_BYTES
            if batch and (len(batch) >= EXTEND_RECORDS or size + more > limit):
                yield batch
                batch, size = [], BATCH_HEAD_BYTES
            batch.append(payload)
            size += more
        if batch:
            yield batch

    async def _wait_for_room(
        self, attempt: Callable[[], T], blocked: WouldBlock, timeout: Timeout
    ) -> T:
        """Try again until there is room, from the moment on that a first try found none."""
        until_s, began_s = self._until(timeout), self._clock.monotonic_s()
        await wait_of(blocked).go_on_async(until_s)
        done = await retried_async(attempt, until_s)
        assert self._coordinator is not None
        self._coordinator.context.meters.admission.record(self._clock.monotonic_s() - began_s)
        return done

    async def _appending_batch(
        self,
        append: Callable[..., range],
        ext_ids: Iterable[int] | None,
        durable: bool,
        timeout: Timeout,
    ) -> range:
        attempt = functools.partial(append, ext_ids=None if ext_ids is None else list(ext_ids))
        try:
            span = attempt()
        except WouldBlock as blocked:
            span = await self._wait_for_room(attempt, blocked, timeout)
        if durable and span:
            await self._suspend_durable(span.stop, timeout)
        elif TURNS.is_due(self._clock.monotonic_s()):
            await TURNS.give()
        return span
