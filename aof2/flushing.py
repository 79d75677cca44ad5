"""The calls of a stream that wait for a level: the local disk, tier 2, a seal."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

from aof2.errors import ConfigError, NotYetDurable, WouldBlock, WouldBlockKind
from aof2.handle import StreamHandle
from aof2.seals import SealAck
from aof2.waiting import Timeout, Wait, retried, retried_async, wait_of

Level = Literal["local", "remote"]


class Flushing(StreamHandle):
    """Calls that wait until records are durable, remote or sealed."""

    _seal_after = 0

    def flush(self, *, timeout: Timeout = ...) -> None:
        """Wait until everything appended so far is on the local disk.

        Raises:
            NotYetDurable: `timeout` seconds ran out.
            DurabilityLost: the disk failed; the writer has stopped.
        """
        self.wait(timeout=timeout)

    def flush_nowait(self) -> None:
        """Return if everything appended so far is durable; else start a flush and raise
        `WouldBlock`(FLUSH)."""
        self.wait_nowait()

    async def flush_async(self, *, timeout: Timeout = ...) -> None:
        """Like `flush`, without blocking the event loop; all that wait share a sync."""
        await self.wait_async(timeout=timeout)

    def wait(
        self, offset: int | None = None, level: Level = "local", *, timeout: Timeout = ...
    ) -> None:
        """Wait until a record has reached a level.

        Args:
            offset: The record; None means everything appended so far.
            level: `"local"` (on the local disk) or `"remote"` (a verified object in tier 2; asks
                for a seal where the record's segment is still active).
            timeout: Seconds to wait.

        Raises:
            NotYetDurable: `timeout` seconds ran out; the record stays accepted.
            OffsetOutOfRange: there is no such record yet.
        """
        upto = self._upto(offset, level)
        if level == "local":
            self._writer().wait_local(upto, timeout=timeout)
        else:
            until_s = self._until(timeout)
            retried(functools.partial(self._remote, upto), until_s).block(until_s)

    def wait_nowait(self, offset: int | None = None, level: Level = "local") -> None:
        """Return if the record has reached the level, else get it going and raise `WouldBlock`
        (FLUSH or REMOTE)."""
        upto = self._upto(offset, level)
        (self._durable(upto) if level == "local" else self._remote(upto)).check()

    async def wait_async(
        self, offset: int | None = None, level: Level = "local", *, timeout: Timeout = ...
    ) -> None:
        """Like `wait`, without blocking the event loop."""
        upto = self._upto(offset, level)
        if level == "local":
            await self._suspend_durable(upto, timeout)
        else:
            until_s = self._until(timeout)
            start = functools.partial(self._remote, upto)
            await (await retried_async(start, until_s)).suspend(until_s)

    async def _suspend_durable(self, upto: int, timeout: Timeout) -> None:
        """Like `_durable(upto).suspend(...)`, with as little around it as can be: thousands of
        coroutines come here for each sync."""
        writer, until_s = self._writer(), self._until(timeout)
        ready = functools.partial(writer.is_durable, upto, False)
        durable = self._instance.signals.durable
        if not await durable.wait_async(ready, until_s, ask=writer.ask_flush):
            raise self._not_yet(upto, "local")

    def _durable(self, upto: int) -> Wait:
        return Wait(
            self._instance.signals.durable,
            functools.partial(self._writer().is_durable, upto),
            WouldBlockKind.FLUSH,
            "the records are not on the local disk yet",
            functools.partial(self._not_yet, upto, "local"),
            self.name,
            upto - 1,
        )

    def _remote(self, upto: int) -> Wait:
        """Get records on their way to tier 2; `WouldBlock`(FLUSH) when the ring has no room for the
        END."""
        late = functools.partial(self._not_yet, upto, "remote")
        try:
            self._ask_remote(upto)
        except WouldBlock as blocked:
            raise dataclasses.replace(wait_of(blocked), late=late).blocked() from None
        return Wait(
            self._instance.signals.work,
            functools.partial(self._is_remote, upto),
            WouldBlockKind.REMOTE,
            "the records are not in tier 2 yet",
            late,
            self.name,
            upto - 1,
        )

    def _is_remote(self, upto: int) -> bool:
        if self._instance.remote_offset >= upto:
            return True
        self._check_alive()
        self._instance.check_manifest()
        if self._instance.sealed_end() < upto:
            self._instance.check_seals()
        self._instance.remote.check_ours()
        return False

    def _drained(self, level: Level) -> Wait:
        """For a manager's drain: on the local disk, and on the way to tier 2 if asked for."""
        if level == "remote":
            self._writer().end_segment(nowait=True)
        return dataclasses.replace(self._durable(self.next_offset), late=None)

    def _not_yet(self, upto: int, level: Level) -> NotYetDurable:
        return NotYetDurable(
            f"accepted, but not at level {level!r} in time: do not append it again, wait for it",
            offset=upto - 1,
            level=level,
            stream=self.name,
        )

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
            raise self._instance.out_of_range(offset)
        return offset + 1

    def _ask_remote(self, upto: int) -> None:
        """Have the segment of a record sealed; at most once for each stretch of records."""
        if self._instance.sealed_end() < upto and self._seal_after < upto:
            self._writer().end_segment(nowait=True)
            self._seal_after = self.next_offset
        if self._coordinator is not None:
            self._coordinator.check_alive()
            self._coordinator.kick()

    def seal(self, *, timeout: Timeout = ...) -> None:
        """Seal the active segment, and return once the seal is durable.

        A segment without records is left as it is. Compression and upload follow by themselves.

        Raises:
            WaitTimeout: the seal was not acknowledged in time; it goes on.
            RolloverFailed: it could not be sealed; its records are intact.
        """
        until_s = self._until(timeout)
        retried(self._start_seal, until_s).block(until_s)

    def seal_nowait(self) -> None:
        """Start a seal and raise `WouldBlock`(ROLLOVER) until it is acknowledged."""
        self._start_seal().check()

    async def seal_async(self, *, timeout: Timeout = ...) -> None:
        """Like `seal`, without blocking the event loop."""
        until_s = self._until(timeout)
        await (await retried_async(self._start_seal, until_s)).suspend(until_s)

    def _start_seal(self) -> Wait:
        """Put the END into the active segment; `WouldBlock`(FLUSH) when the ring has no room."""
        self._writer().end_segment(nowait=True)
        if self._coordinator is not None:
            self._coordinator.kick()
        # An earlier segment may have its END and no seal yet; the last ack tells of all of them.
        ended = max((u.segment_id for u in self._instance.unsealed() if u.ended), default=0)
        return Wait(
            self._instance.signals.work,
            functools.partial(self._is_sealed, self._instance.seals.ack(ended)),
            WouldBlockKind.ROLLOVER,
            "the seal is not acknowledged yet; it goes on",
            stream=self.name,
        )

    def _is_sealed(self, ack: SealAck) -> bool:
        if ack.acked:
            return True
        self._check_alive()
        self._instance.check_seals()
        return ack.check()
