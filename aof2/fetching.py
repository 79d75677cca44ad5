"""Reads that go to another tier: on a few threads, once however many ask, waited for by anybody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aof2.errors import Closed, WouldBlockKind
from aof2.signals import Signal
from aof2.waiting import Limit, Wait

T = TypeVar("T")

KEPT_MAX = 64
"""Results that nobody has come for yet; older ones are read again if somebody does."""


@dataclass(frozen=True, slots=True)
class Fetch(Generic[T]):
    """A read that is under way, or was.

    Attributes:
        wait: For its end; in each of the three forms.
        future: Its result.
    """

    wait: Wait
    future: Future[T]
    collected: Callable[[], object]

    def result(self) -> T:
        """What was read, once the wait is over; the next one who asks has it read anew."""
        self.collected()
        return self.future.result()


class Fetches:
    """The reads of one stream that go to another tier.

    Args:
        pool: Where they run; it is only occupied while one does.
        signal: Woken by the end of each.
        name: For the errors.
        limit: Of a wait for a record; None: there is none.
    """

    def __init__(
        self,
        pool: Callable[[], Executor],
        signal: Signal,
        name: str,
        limit: Callable[[int | None], Limit] | None = None,
    ) -> None:
        self._pool = pool
        self._signal = signal
        self._stream = name
        self._limit = limit
        self._lock = threading.Lock()
        self._futures: dict[object, Future[Any]] = {}
        self._lanes: dict[object, list[tuple[Future[Any], Callable[[], Any]]]] = {}
        self._closed = False

    def ask(
        self,
        lane: object,
        key: object,
        work: Callable[[], T],
        message: str,
        offset: int | None = None,
    ) -> Fetch[T]:
        """Have `work()` done, unless it is being done.

        Args:
            lane: One read of a lane runs at a time: what the first one fetched is in a cache then.
            key: Who asks for the same gets the same.
            work: Reads; on another thread.
            message: What is on its way.
            offset: Of the record that is wanted, if it is one.
        """
        pool = self._pool()
        with self._lock:
            future = self._futures.get(key)
            begin = future is None and lane not in self._lanes
            if future is None:
                future = self._futures[key] = Future()
                self._lanes.setdefault(lane, []).append((future, work))
                self._forget_old()
        if begin:
            pool.submit(self._run, lane)
        wait = Wait(
            self._signal,
            lambda: self._is_done(future),
            WouldBlockKind.HYDRATION,
            message,
            limit=None if self._limit is None else self._limit(offset),
            stream=self._stream,
            offset=offset,
        )
        return Fetch(wait, future, lambda: self._futures.pop(key, None))

    def _is_done(self, future: Future[Any]) -> bool:
        if self._closed:
            raise Closed("the stream was closed: open the root again", stream=self._stream)
        return future.done()

    def _forget_old(self) -> None:
        if len(self._futures) > KEPT_MAX:
            for key in [key for key, f in self._futures.items() if f.done()][:-KEPT_MAX]:
                del self._futures[key]

    def _run(self, lane: object) -> None:
        while True:
            with self._lock:
                queue = self._lanes[lane]
                if not queue or self._closed:
                    del self._lanes[lane]
                    return
                future, work = queue.pop(0)
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            self._signal.wake()

    def close(self) -> None:
        """Nothing more will come: whoever waits is told so."""
        self._closed = True
        self._signal.wake()
