"""The coroutines of one event loop that wait for a signal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

ASK_EVERY = 256

Ready = Callable[[], bool]
"""Whether a wait is over; it may raise instead, which ends the wait too."""


class LoopWaiters:
    """The coroutines of one event loop that wait for a signal.

    Only the loop's own thread touches it, `wake` aside.

    Args:
        loop: Theirs.
        arm: Called before each look: have the source tell of the next change.
        now_s: For deadlines.
        forget: Called with the loop when it was closed with tasks that nobody will run again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        arm: Callable[[], None],
        now_s: Callable[[], float],
        forget: Callable[[asyncio.AbstractEventLoop], None],
    ) -> None:
        self._loop = loop
        self._arm = arm
        self._now_s = now_s
        self._forget = forget
        self._thread_id = threading.get_ident()
        self._waiting: dict[asyncio.Future[bool | Exception], tuple[Ready, float | None]] = {}
        self._scheduled = False
        self._asking = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def add(self, ready: Ready, until_s: float | None) -> asyncio.Future[bool | Exception]:
        """A future that tells when the wait is over: True, False when its time is up, or an
        error."""
        future: asyncio.Future[bool | Exception] = self._loop.create_future()
        self._waiting[future] = ready, until_s
        if until_s is not None and (self._timer is None or until_s < self._timer_at_s):
            self._set_timer(self._now_s(), until_s)
        return future

    def ask_soon(self, ask: Callable[[], None]) -> bool:
        """Call `ask` once everything that can run in this turn of the loop has run, and before that
        whenever so many have come that what is asked for can begin; True for the first one."""
        self._asking += 1
        if self._asking == 1:
            self._loop.call_soon(self._ask, ask)
            return True
        if self._asking % ASK_EVERY == 0:
            ask()
        return False

    def _ask(self, ask: Callable[[], None]) -> None:
        self._asking = 0
        ask()

    def remove(self, future: asyncio.Future[bool | Exception]) -> bool:
        """Forget a wait, whichever way it ended; True when it was the last one."""
        self._waiting.pop(future, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return not self._waiting

    def wake(self) -> None:
        """Have the loop look at all of them: one callback, from whichever thread."""
        if self._scheduled:
            return
        self._scheduled = True
        try:
            if self._thread_id == threading.get_ident():
                self._loop.call_soon(self._look)
            else:
                self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            self._forget(self._loop)

    def _look(self) -> None:
        # Cleared and armed first, so that what changes from now on comes back here.
        self._scheduled = False
        if not self._waiting:
            return
        self._arm()
        for future, (ready, _) in list(self._waiting.items()):
            if not future.done():
                self._settle(future, ready)

    def _settle(self, future: asyncio.Future[bool | Exception], ready: Ready) -> None:
        try:
            if ready():
                future.set_result(True)
        except Exception as error:
            # As a value: a future that keeps an exception which nobody fetches complains about it.
            future.set_result(error)

    def _set_timer(self, now_s: float, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_later(max(0.0, at_s - now_s), self._tick)

    def _tick(self) -> None:
        """End the waits whose time is up."""
        due_s = max(self._now_s(), self._timer_at_s)
        self._timer = None
        following: float | None = None
        for future, (_, until_s) in self._waiting.items():
            if future.done() or until_s is None:
                continue
            if until_s <= due_s:
                future.set_result(False)
            elif following is None or until_s < following:
                following = until_s
        if following is not None:
            self._set_timer(due_s, following)
