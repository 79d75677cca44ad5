"""Signals: where threads and coroutines wait, and where what they wait for is told.

A signal says that something may have changed; whoever waits looks for himself. The order that
loses no change: register, arm the source, look, wait. One wake of a signal costs one callback per
event loop, however many of its coroutines wait, and no thread waits for a coroutine.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable

from aof2._core.bell import Bell
from aof2._core.durability import DURABLE, ROOM, TAIL
from aof2._core.ringview import RingView
from aof2._core.writer import SegmentWriter
from aof2.clock import Clock, Pauses
from aof2.errors import ConfigError, WouldBlockKind
from aof2.loopwaiters import LoopWaiters, Ready

LOGGER = logging.getLogger("aof2.tiered")
POLL_FIRST_S = 50e-6
POLL_LAST_S = 1e-3
RING_WAIT_S = 0.05

class Signal:
    """One thing that threads, coroutines of any loop, and callbacks wait for.

    Args:
        clock: For deadlines.
        announcer: Its thread runs the callbacks.
        arm: Called before each look: have the source tell of the next change.
    """

    def __init__(
        self,
        clock: Clock,
        announcer: Announcer,
        arm: Callable[[], None] = lambda: None,
    ) -> None:
        self.arm = arm
        self.now_s = clock.monotonic_s
        self._announcer = announcer
        self.threads: set[threading.Event] = set()
        self._loops: dict[asyncio.AbstractEventLoop, LoopWaiters] = {}
        self._callbacks: list[Callable[[], object]] = []

    @property
    def waiters(self) -> int:
        """Threads and coroutines that wait now."""
        return len(self.threads) + sum(len(g._waiting) for g in list(self._loops.values()))

    def wake(self) -> None:
        """Something changed: everybody who waits looks again. From any thread; never raises."""
        for event in list(self.threads):
            event.set()
        for group in list(self._loops.values()):
            group.wake()
        if self._callbacks:
            self._announcer.call(self)

    def count(self, kind: WouldBlockKind) -> None:
        """A call could not go on at once: it was refused, or it waits."""
        self._announcer.would_block[kind.value] += 1

    def wait(self, ready: Ready, until_s: float | None) -> bool:
        """Block this thread until `ready()`; False when `until_s` of the clock came first."""
        if ready():
            return True
        event = threading.Event()
        self.threads.add(event)
        try:
            while True:
                event.clear()
                self.arm()
                if ready():
                    return True
                left_s = None if until_s is None else until_s - self.now_s()
                if left_s is not None and left_s <= 0:
                    return False
                event.wait(left_s)
        finally:
            self.threads.discard(event)

    async def wait_async(
        self, ready: Ready, until_s: float | None, ask: Callable[[], None] | None = None
    ) -> bool:
        """Like `wait`, as a coroutine; cancelling it at any moment leaves nothing behind.

        Args:
            ask: What gets going what is waited for; called once for all that begin to wait in the
                same turn of the loop, at the end of it.
        """
        loop = asyncio.get_running_loop()
        group = self._loops.get(loop)
        if group is None:
            group = self._loops[loop] = LoopWaiters(loop, self.arm, self.now_s, self.forget)
        future = group.add(ready, until_s)
        try:
            # Who comes later in the same turn is looked at with those for whom it was armed.
            if ask is None or group.ask_soon(ask):
                self.arm()
            if ready():
                return True
            if until_s is not None and until_s <= self.now_s():
                return False
            outcome = await future
        finally:
            if group.remove(future):
                self.forget(loop)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """No coroutine of this loop waits any more."""
        self._loops.pop(loop, None)

    def abandon(self) -> None:
        """Forget everybody, without the locks that their threads may have held."""
        self.threads, self._loops, self._callbacks = set(), {}, []

    def add_callback(self, work: Callable[[], object]) -> Callable[[], None]:
        """Have `work` called on the announcer's thread at each wake; returns what ends that."""
        self._callbacks.append(work)
        self.arm()

        def remove() -> None:
            if work in self._callbacks:
                self._callbacks.remove(work)

        return remove

    def run_callbacks(self) -> None:
        """Call what was registered; on the announcer's thread."""
        if self._callbacks:
            self.arm()
        for work in list(self._callbacks):
            try:
                work()
            except Exception:
                LOGGER.exception("a wake callback failed", extra={"event": "wake_callback"})


class PolledSignal(Signal):
    """A signal whose source is another process and cannot tell: whoever waits looks again and
    again."""

    def __init__(self, clock: Clock, announcer: Announcer) -> None:
        super().__init__(clock, announcer)
        self._clock = clock

    def wait(self, ready: Ready, until_s: float | None) -> bool:
        """Look every 50 microseconds at first, then every millisecond."""
        pauses = Pauses(self._clock, POLL_FIRST_S, POLL_LAST_S)
        while not ready():
            if until_s is not None and self.now_s() >= until_s:
                return False
            pauses.sleep()
        return True

    def add_callback(self, work: Callable[[], object]) -> Callable[[], None]:
        """Refused: nobody would ever call it."""
        raise ConfigError(
            "the stream is written by another process, which cannot call functions here: use wait "
            "or wait_async of the WouldBlock"
        )

    async def wait_async(
        self, ready: Ready, until_s: float | None, ask: Callable[[], None] | None = None
    ) -> bool:
        """Look every millisecond at first, then every ten."""
        pauses = Pauses(self._clock, POLL_LAST_S, 10 * POLL_LAST_S)
        while not ready():
            if until_s is not None and self.now_s() >= until_s:
                return False
            await asyncio.sleep(pauses.next_s())
        return True


class RingSignal(PolledSignal):
    """News of another process that its landing ring shows: its writer wakes the threads that wait.

    Without a ring, or where its header cannot be mapped writable, it is polled.

    Args:
        ring: The stream's ring as it is now, None when there is none.
    """

    def __init__(
        self, clock: Clock, announcer: Announcer, ring: Callable[[], RingView | None]
    ) -> None:
        super().__init__(clock, announcer)
        self._ring = ring
        self._waited: RingView | None = None

    def wait(self, ready: Ready, until_s: float | None) -> bool:
        """Look for a moment, then sleep until the writer goes on; at most `RING_WAIT_S` at a time,
        as one that died wakes nobody."""
        pauses = Pauses(self._clock, POLL_FIRST_S, POLL_LAST_S)
        while True:
            # Before the look: what comes after it ends the wait.
            ring = self._ring()
            seen = (0, 0) if ring is None else ring.offsets()
            if ready():
                return True
            left_s = RING_WAIT_S if until_s is None else min(RING_WAIT_S, until_s - self.now_s())
            if left_s <= 0:
                return False
            if ring is None or ring.closed or not ring.can_wait:
                pauses.sleep()
            else:
                self._waited = ring
                ring.wait(*seen, left_s)

    def wake(self) -> None:
        """Everybody who waits looks again; in other processes too, which is harmless."""
        super().wake()
        if self._waited is not None:
            self._waited.wake()


class StreamSignals:
    """What one stream tells of.

    Attributes:
        room: An append may fit now.
        durable: The durable offset moved.
        tail: A record was appended.
        work: Background work of the stream ended, one way or the other.
        hydration: Bytes that were asked for came from another tier.
        writer: Whose news they are; None for a stream that another process writes.
        ring: Such a stream's landing ring as it is now, None when there is none.
    """

    def __init__(self, clock: Clock, announcer: Announcer, *, readonly: bool) -> None:
        def signal(news: int) -> Signal:
            if readonly and news != ROOM:
                return RingSignal(clock, announcer, lambda: self.ring())
            if readonly:
                return PolledSignal(clock, announcer)
            arm = functools.partial(self._arm, news)
            return Signal(clock, announcer, arm)

        self.writer: SegmentWriter | None = None
        self.ring: Callable[[], RingView | None] = lambda: None
        self._announcer = announcer
        self.room = signal(ROOM)
        self.durable = signal(DURABLE)
        self.tail = signal(TAIL)
        self.work = (PolledSignal if readonly else Signal)(clock, announcer)
        self.hydration = Signal(clock, announcer)

    def _arm(self, news: int) -> None:
        if self.writer is not None:
            self._announcer.follow(self)
            self.writer.watch(news)

    def of_kind(self, kind: WouldBlockKind) -> tuple[Signal, ...]:
        """The signals that can end a wait of a kind."""
        return {
            WouldBlockKind.FLUSH: (self.durable, self.room),
            WouldBlockKind.HYDRATION: (self.hydration,),
            WouldBlockKind.TAIL: (self.tail, self.durable, self.work),
            WouldBlockKind.REMOTE: (self.work,),
            WouldBlockKind.ROLLOVER: (self.work, self.room),
        }.get(kind, (self.room,))

    def on_news(self, news: int) -> None:
        """Wake whoever waits for news of these kinds."""
        for bit, signal in ((ROOM, self.room), (DURABLE, self.durable), (TAIL, self.tail)):
            if news & bit:
                signal.wake()

    def wake(self) -> None:
        """Have everybody look, e.g. because the stream was closed."""
        for signal in self._all():
            signal.wake()

    def abandon(self) -> None:
        """In a forked child: whoever waited does so in the parent."""
        for signal in self._all():
            signal.abandon()

    def _all(self) -> tuple[Signal, ...]:
        return self.room, self.durable, self.tail, self.work, self.hydration


class Announcer:
    """The thread of a manager that tells Python what C threads did; there from the first wait on.

    Attributes:
        bell: What C threads ring.
        work: Background work of any stream ended.
        would_block: How often a call could not go on at once, by kind.
        thread: Runs the callbacks too; None until there is something to tell.
    """

    def __init__(self, clock: Clock, would_block: Counter[str]) -> None:
        self.bell = Bell()
        self.work = Signal(clock, self)
        self.would_block = would_block
        self._followed: set[StreamSignals] = set()
        self._calls: list[Signal] = []
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def follow(self, signals: StreamSignals) -> None:
        """Tell of a stream's news from now on."""
        if signals not in self._followed:
            self._followed.add(signals)
            self._start()

    def call(self, signal: Signal) -> None:
        """Run a signal's callbacks, on this thread and not on the one that changed something."""
        self._calls.append(signal)
        self._start()
        self.bell.ring()

    def _start(self) -> None:
        if self.thread is None:
            with self._lock:
                if self.thread is None and not self._closed:
                    self.thread = threading.Thread(
                        target=self._run, name="aof2-announcer", daemon=True
                    )
                    self.thread.start()

    def _run(self) -> None:
        while self.bell.wait():
            for signals in list(self._followed):
                if signals.writer is not None:
                    signals.on_news(signals.writer.take_news())
            while self._calls:
                self._calls.pop().run_callbacks()

    def close(self) -> None:
        """End the thread; again is harmless."""
        with self._lock:
            self._closed = True
        self.bell.close()
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
