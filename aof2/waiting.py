"""What calls that wait have in common: time limits, threads to wait on, results on their way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from types import EllipsisType
from typing import Any, TypeVar

from aof2.clock import Clock
from aof2.errors import WouldBlock, WouldBlockKind

Timeout = float | EllipsisType | None
"""Seconds that a call may wait; None for ever; `...` (left out) what the configuration says."""

T = TypeVar("T")


def deadline(clock: Clock, timeout: Timeout, default_s: float | None) -> float | None:
    """Until when a call may wait, in seconds of the monotonic clock; None for ever."""
    limit_s = default_s if isinstance(timeout, EllipsisType) else timeout
    return None if limit_s is None else clock.monotonic_s() + limit_s


def check_done(future: Future[Any], message: str, *, stream: str, offset: int) -> None:
    """Raise `WouldBlock`(HYDRATION) while another thread is still fetching something."""
    if not future.done():
        raise WouldBlock(
            message,
            kind=WouldBlockKind.HYDRATION,
            stream=stream,
            offset=offset,
            waiter=lambda timeout: bool(wait([future], timeout).done),
        )


async def in_pool(pool: Executor, work: Callable[[], T]) -> T:
    """The result of work that blocks, on one of the pool's threads."""
    return await asyncio.get_running_loop().run_in_executor(pool, work)


async def in_thread(name: str, work: Callable[[], None]) -> None:
    """Wait for work on a thread of its own, which goes on when the waiting task is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            work()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, error)
        else:
            loop.call_soon_threadsafe(settle, None)

    threading.Thread(target=run, name=name).start()
    await asyncio.shield(done)
