"""Closing a manager's streams: finish or leave to the next open, join every thread, drop
nothing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aof2.coordinator.runtime import Coordinator
from aof2.signals import Announcer
from aof2.tiers.instance import StreamInstance

LOGGER = logging.getLogger("aof2.tiered")


def shut_down(
    instances: list[StreamInstance],
    handles: list[Callable[[], None]],
    coordinator: Coordinator,
    executor: ThreadPoolExecutor | None,
    limit_s: float,
    announcer: Announcer,
) -> list[BaseException]:
    """Stop the background work and close every stream.

    Args:
        instances: The streams.
        handles: Called to end the users' handles, so that whoever waits on one wakes.
        coordinator: Its workers end first; what they leave is derived again by the next open.
        executor: Threads of the async forms, None when none were needed.
        limit_s: Seconds to wait for work under way.
        announcer: Its thread ends last.

    Returns:
        Every failure, in order; nothing is left open because of one.
    """
    failures: list[BaseException] = []

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    left = coordinator.stop(limit_s)
    attempt(coordinator.check_alive)
    if left:
        LOGGER.warning(
            "closing without %s; the next open takes it up", left, extra={"event": "close_left"}
        )
    for instance in instances:
        if instance.writer is not None:
            # Seals that were under way are finished; everything after them is derived again.
            attempt(functools.partial(coordinator.seal_ended, instance))
            attempt(instance.writer.close)
    for end in handles:
        attempt(end)
    for instance in instances:
        attempt(functools.partial(_retire, instance))
    # Now that everything is closed: whoever waits looks again, and is told so.
    for instance in instances:
        instance.signals.wake()
    announcer.work.wake()
    if executor is not None:
        executor.shutdown(wait=True, cancel_futures=True)
    announcer.close()
    return failures


def _retire(instance: StreamInstance) -> None:
    """Remove the spare segment, which nothing was written to, and close the stream's files."""
    if instance.writer is not None:
        spare = instance.writer.give_back_spare()
        if spare is not None:
            instance.hot.evict(spare)
    instance.close()
