"""What calls that wait have in common: time limits, waits in three forms, the loop's turns."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeVar

from aof2.clock import Clock
from aof2.errors import (
    AofError,
    Closed,
    ForkedHandle,
    WaitTimeout,
    WouldBlock,
    WouldBlockKind,
)
from aof2.loopwaiters import Ready
from aof2.signals import Signal

LOGGER = logging.getLogger("aof2.tiered")
WARN_AFTER_S = 1.0
RUN_S = 0.001
"""So long calls of coroutines may succeed without giving their loop a turn."""

RETRY_AFTER_S = {
    WouldBlockKind.ADMISSION: 0.05,
    WouldBlockKind.ROLLOVER: 0.01,
    WouldBlockKind.FLUSH: 0.01,
    WouldBlockKind.HYDRATION: 0.05,
    WouldBlockKind.TAIL: 0.001,
    WouldBlockKind.REMOTE: 0.5,
    WouldBlockKind.TIER2_BACKLOG: 1.0,
    WouldBlockKind.DISK_FULL: 5.0,
}
"""A pause in seconds that suits what is waited for: a sync, a rename, a request, an operator."""

Timeout = float | EllipsisType | None
"""Seconds that a call may wait; None for ever; `...` (left out) what the configuration says."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limit:
    """The longest that anybody waits for something, whatever time a call has.

    Attributes:
        seconds: From the moment on at which the wait began.
        error: Makes the error of a wait that took so long.
    """

    seconds: float
    error: Callable[[], Exception]


def deadline(clock: Clock, timeout: Timeout, default_s: float | None) -> float | None:
    """Until when a call may wait, in seconds of the monotonic clock; None for ever."""
    limit_s = default_s if isinstance(timeout, EllipsisType) else timeout
    return None if limit_s is None else clock.monotonic_s() + limit_s


@dataclass(slots=True)
class Wait:
    """Something that a call waits for, in each of its three forms.

    Attributes:
        signal: Tells when to look.
        ready: Whether it holds. What it raises ends the wait.
        kind: Of the `WouldBlock`.
        message: What is not there yet.
        late: Makes the error of a wait whose time is up; None for a `WaitTimeout`.
        where: What the error says of the place.
        limit: Ends a wait that has more time than it makes sense to wait.
    """

    signal: Signal
    ready: Ready
    kind: WouldBlockKind
    message: str
    late: Callable[[], Exception] | None = None
    stream: str | None = None
    offset: int | None = None
    limit: Limit | None = None

    def blocked(self) -> WouldBlock:
        """The error of a call that may not wait."""
        self.signal.count(self.kind)
        return WouldBlock(
            self.message,
            kind=self.kind,
            retry_after_s=RETRY_AFTER_S[self.kind],
            waiter=self,
            stream=self.stream,
            offset=self.offset,
        )

    def timed_out(self) -> Exception:
        """The error of a call whose time is up."""
        if self.late is not None:
            return self.late()
        return WaitTimeout(
            f"{self.message}, and the time is up",
            kind=self.kind,
            retry_after_s=RETRY_AFTER_S[self.kind],
            waiter=self,
            stream=self.stream,
            offset=self.offset,
        )

    def check(self) -> None:
        """The form that never waits."""
        if not self.ready():
            raise self.blocked()

    def block(self, until_s: float | None) -> None:
        """The form that blocks a thread; it says so in the log once, after a second."""
        if not self.ready():
            self.signal.count(self.kind)
            self.go_on(until_s)

    def go_on(self, until_s: float | None) -> None:
        """Block a thread of which is counted already that it has to wait."""
        ends_s, error = self._end(until_s)
        if not self._block(ends_s):
            raise error()

    def _block(self, until_s: float | None) -> bool:
        warn_s = self.signal.now_s() + WARN_AFTER_S
        # At the tail of a quiet stream, waiting is what a reader does.
        if self.kind is not WouldBlockKind.TAIL and (until_s is None or until_s > warn_s):
            if self.signal.wait(self.ready, warn_s):
                return True
            LOGGER.warning(
                "%s waits for %s for %.1f s: %s",
                self.stream or "a call",
                self.kind.value,
                WARN_AFTER_S,
                self.message,
                extra={"event": "call_waits", "stream": self.stream, "kind": self.kind.value},
            )
        return self.signal.wait(self.ready, until_s)

    async def suspend(self, until_s: float | None) -> None:
        """The form that is a coroutine."""
        if not self.ready():
            self.signal.count(self.kind)
            await self.go_on_async(until_s)

    async def go_on_async(self, until_s: float | None) -> None:
        """Suspend a coroutine of which is counted already that it has to wait."""
        ends_s, error = self._end(until_s)
        if not await self.signal.wait_async(self.ready, ends_s):
            raise error()

    def _end(self, until_s: float | None) -> tuple[float | None, Callable[[], Exception]]:
        """Until when to wait, and what to raise then."""
        if self.limit is not None:
            limit_s = self.signal.now_s() + self.limit.seconds
            if until_s is None or limit_s < until_s:
                return limit_s, self.limit.error
        return until_s, self.timed_out

    def wait(self, timeout: float | None) -> bool:
        """For `WouldBlock.wait`: whether it holds before `timeout` seconds have passed."""
        return self.signal.wait(self._worth_a_retry, self._until(timeout))

    async def wait_async(self, timeout: float | None) -> bool:
        """For `WouldBlock.wait_async`."""
        return await self.signal.wait_async(self._worth_a_retry, self._until(timeout))

    def _until(self, timeout: float | None) -> float | None:
        return None if timeout is None else self.signal.now_s() + timeout

    def _worth_a_retry(self) -> bool:
        try:
            return self.ready()
        except (Closed, ForkedHandle):
            raise
        except AofError:
            # Waiting is over; the retry says why.
            return True


def wait_of(blocked: WouldBlock) -> Wait:
    """What an attempt that was refused waits for."""
    waiter = blocked._waiter
    if not isinstance(waiter, Wait):
        raise blocked
    return waiter


def retried(attempt: Callable[[], T], until_s: float | None) -> T:
    """Try until that does not raise `WouldBlock`; its `WaitTimeout` when the time is up first."""
    while True:
        try:
            return attempt()
        except WouldBlock as blocked:
            wait = wait_of(blocked)
        wait.go_on(until_s)


async def retried_async(attempt: Callable[[], T], until_s: float | None) -> T:
    """Like `retried`, as a coroutine; nothing is under way while it waits."""
    while True:
        try:
            return attempt()
        except WouldBlock as blocked:
            wait = wait_of(blocked)
        await wait.go_on_async(until_s)


class Turns(threading.local):
    """Counts how long calls of this thread's event loop have succeeded without a turn of the
    loop."""

    since_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether the loop should get a turn now; called after each call that did not suspend."""
        if self.since_s is None:
            self.since_s = now_s
            # It runs when the loop has its turn, whoever gave it.
            asyncio.get_running_loop().call_soon(self._turned)
            return False
        return now_s - self.since_s > RUN_S

    def _turned(self) -> None:
        self.since_s = None

    async def give(self) -> None:
        """Let the loop do what else it has."""
        self.since_s = None
        await asyncio.sleep(0)


TURNS = Turns()


async def in_pool(pool: Executor, work: Callable[[], T]) -> T:
    """The result of work that blocks, on one of the pool's threads."""
    return await asyncio.get_running_loop().run_in_executor(pool, work)


async def in_thread(name: str, work: Callable[[], T], undo: Callable[[T], object]) -> T:
    """The result of work on a thread of its own, which goes on when the waiting task is cancelled.

    Args:
        undo: Called on a thread with a result that nobody waits for any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    outcome: Future[T] = Future()
    lock, gone = threading.Lock(), threading.Event()

    def settle() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            with lock:
                outcome.set_result(result)
                wanted = not gone.is_set()
            if not wanted:
                undo(result)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name=name).start()
    try:
        await done
    except asyncio.CancelledError:
        with lock:
            gone.set()
            unwanted = outcome.done()
        if unwanted and outcome.exception() is None:
            threading.Thread(target=undo, args=(outcome.result(),), name=name).start()
        raise
    return outcome.result()
