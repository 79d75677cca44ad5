"""A few threads for work that may hang at a store: they keep no process from ending."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from aof2.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")


class DaemonPool(Executor):
    """Up to so many threads, made when they are needed.

    The standard library's pool joins its threads at the interpreter's exit and in `shutdown`, so a
    request that hangs would hold up both for as long as it likes.

    Args:
        threads_max: So many at most.
        name: Beginning of their names.

    Example:
        >>> pool = DaemonPool(1, "doc")
        >>> pool.submit(sum, (1, 2)).result()
        3
        >>> pool.end(Clock(), Clock().monotonic_s() + 10)
        []
    """

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn(*args, **kwargs)` called on one of the threads.

        Raises:
            RuntimeError: the pool has ended.
        """
        future: Future[T] = Future()
        with self._wake:
            if self._ended:
                raise RuntimeError(f"the threads {self._name} have ended")
            self._work.append((future, functools.partial(fn, *args, **kwargs)))
            if self._idle < len(self._work) and len(self._threads) < self._threads_max:
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._wake.notify()
        return future

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            future, work = taken
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            # An idle thread holds no result.
            del taken, future, work

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._wake:
            self._idle += 1
            while not self._work and not self._ended:
                self._wake.wait()
            self._idle -= 1
            return self._work.popleft() if self._work else None

    def end(self, clock: Clock, until_s: float) -> list[threading.Thread]:
        """Begin nothing more, and wait for what is under way; again is harmless.

        Args:
            clock: For the limit.
            until_s: Wait so long, in seconds of its monotonic time.

        Returns:
            Those that are still at something.
        """
        with self._wake:
            self._ended = True
            waiting = list(self._work)
            self._work.clear()
            self._wake.notify_all()
        for future, _ in waiting:
            future.cancel()
        return join_until(clock, self._threads, until_s)


def join_until(
    clock: Clock, threads: list[threading.Thread], until_s: float
) -> list[threading.Thread]:
    """Wait for threads, at most until then; returns those that have not ended.

    Example:
        >>> join_until(Clock(), [], 0.0)
        []
    """
    for thread in list(threads):
        if thread is not threading.current_thread():
            thread.join(max(0.0, until_s - clock.monotonic_s()))
    return [thread for thread in threads if thread.is_alive()]
