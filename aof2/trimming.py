"""`Aof`: giving up the beginning of a stream."""

from __future__ import annotations

import functools

from aof2.flushing import Flushing
from aof2.waiting import Timeout, in_pool


class Trimming(Flushing):
    """The call that gives records up for good."""

    def trim(self, before: int, *, timeout: Timeout = ...) -> None:
        """Give up every record below an offset, for good.

        They cannot be read any more once this returns. Segments that lie wholly below are removed
        from every tier in the background: local copies at once, objects
        `retention.delete_grace_s` seconds later. The records that are kept are made durable first.

        Args:
            before: First offset that stays, at most `next_offset`. One that is trimmed already
                changes nothing.
            timeout: Seconds to wait for the flush.

        Raises:
            OffsetOutOfRange: `before` lies beyond the end.
            NotYetDurable: the flush was not over in time; nothing was trimmed.

        Example:

        ```python
        log.trim(before=1_000_000)
        ```
        See `docs/reading.md`.
        """
        if self._is_ahead(before):
            # A crash must not bring back an end below the new beginning.
            self.flush(timeout=timeout)
            self._trim(before)

    def trim_nowait(self, before: int) -> None:
        """Like `trim`; `WouldBlock`(FLUSH) while what is kept is not durable, nothing is trimmed
        then."""
        if self._is_ahead(before):
            self.flush_nowait()
            self._trim(before)

    async def trim_async(self, before: int, *, timeout: Timeout = ...) -> None:
        """Like `trim`, without blocking the event loop."""
        if self._is_ahead(before):
            await self.flush_async(timeout=timeout)
            await in_pool(self._pool(), functools.partial(self._trim, before))

    def _is_ahead(self, before: int) -> bool:
        self._writer()
        if not 0 <= before <= self.next_offset:
            raise self._instance.out_of_range(before)
        return before > self.first_offset

    def _trim(self, before: int) -> None:
        self._instance.retention.give_up(before)
        if self._coordinator is not None:
            self._coordinator.kick()
