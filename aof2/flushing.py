"""The calls of a stream that wait for a level: the local disk, tier 2, a seal."""

from __future__ import annotations

import functools
from typing import Literal

from aof2.coordinator.commands import Rollover
from aof2.errors import (
    ConfigError,
    NotYetDurable,
    RolloverFailed,
    WaitTimeout,
    WouldBlock,
    WouldBlockKind,
)
from aof2.handle import StreamHandle
from aof2.waiting import Timeout

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
        self._writer().wait_local(self.next_offset, timeout=timeout)

    def flush_nowait(self) -> None:
        """Return if everything appended so far is durable; else start a flush and raise
        `WouldBlock`."""
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
            raise self._instance.out_of_range(offset)
        return offset + 1

    def _ask_remote(self, upto: int) -> None:
        """Have the segment of a record sealed; at most once for each stretch of records."""
        if self._instance.sealed_end() < upto and self._seal_after < upto:
            self._seal_after = self.next_offset
            self._writer().end_segment()
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
        # Of seals only: a tier 2 that is down is no reason why a segment could not be sealed.
        if self._coordinator is not None:
            self._coordinator.check_alive()
        error = self._instance.failures.get(Rollover)
        if error is not None and any(u.ended for u in self._instance.unsealed()):
            raise RolloverFailed(
                f"the segment could not be sealed ({error}); its records are intact, it is "
                "tried again",
                stream=self.name,
            ) from error
        return False

    def _sealed_within(self, upto: int, timeout: float | None) -> bool:
        try:
            self._wait_changed(lambda: self._is_sealed(upto), timeout, lambda: TimeoutError())
        except TimeoutError:
            return False
        return True
