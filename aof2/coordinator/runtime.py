"""The runtime: worker threads around the queue; it owns retries, timing, logging and shutdown."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from aof2._core.posix import lower_thread_priority
from aof2.coordinator import planner
from aof2.coordinator.commands import Command, Rollover
from aof2.coordinator.context import Context
from aof2.coordinator.handlers import handle
from aof2.coordinator.queue import CommandQueue
from aof2.tiers.instance import StreamInstance

LOGGER = logging.getLogger("aof2.tiered")
BACKOFF_FACTOR_MAX = 60
RETRIED_QUIETLY = 3
"""Failures of one command before a warning becomes an error in the log."""


class Coordinator:
    """Runs what the planner plans, on `workers` threads, until it is stopped.

    Idle means no CPU: workers sleep until `kick` or until a paused command's time has come.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._queue = CommandQueue()
        self._wake = threading.Condition()
        self._kicked = True
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers."""
        for n in range(self.context.config.coordinator.workers):
            # The first of several only does what an append may wait for, so that no compression
            # or upload is ever in its way.
            quick = n == 0 and self.context.config.coordinator.workers > 1
            thread = threading.Thread(
                target=self._work, args=(quick,), name=f"aof2-worker-{n}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def kick(self, *, hasten: bool = False) -> None:
        """Something changed: plan again. `hasten` also ends the pauses of failed commands."""
        with self._wake:
            self._kicked = True
            if hasten:
                self._queue.hasten()
            self._wake.notify_all()

    def poll(self) -> int:
        """Plan and run everything that can run now, on this thread; returns how many commands ran.

        The service threads and a test's scheduler drive the same steps.
        """
        count = 0
        while (command := self._take(wait=False)) is not None:
            self._run(command)
            count += 1
        return count

    def is_settled(self, only: Callable[[Command], bool] = lambda _: True) -> bool:
        """Whether nothing (of the commands that `only` picks) waits, runs or is to be planned."""
        with self._wake:
            planned = planner.plan(self.context.view())
            pending = [c for c in planned if only(c)]
            return not pending and not any(only(c) for c in self._queue.running)

    def stop(self, timeout_s: float) -> list[Command]:
        """End the workers; commands that do not end in time are returned, the next open finds
        them."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        until = self.context.clock.monotonic_s() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - self.context.clock.monotonic_s()))
        with self._wake:
            return sorted(self._queue.running, key=repr)

    def seal_ended(self, stream: StreamInstance) -> None:
        """Seal what has an END, on this thread; for a close, after `stop`."""
        for ended in [u.segment_id for u in stream.unsealed() if u.ended]:
            handle(Rollover(stream.name, ended), self.context)

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    # --- workers --------------------------------------------------------------------------------

    def _work(self, quick: bool) -> None:
        if not quick:
            # Compression must not take time from the threads that append and write out.
            lower_thread_priority()
        while (command := self._take(wait=True, quick=quick)) is not None:
            self._run(command)

    def _take(self, *, wait: bool, quick: bool = False) -> Command | None:
        """The next command; None when stopped, or when there is nothing and `wait` is False."""
        with self._wake:
            while not self._stopping:
                if self._kicked:
                    self._kicked = False
                    if sum(self._queue.put(c) for c in planner.plan(self.context.view())):
                        self._wake.notify_all()
                now_s = self.context.clock.monotonic_s()
                command = self._queue.take(now_s, quick=quick)
                if command is not None:
                    return command
                if not wait:
                    return None
                pause_s = self._queue.next_pause_s()
                self._wake.wait(None if pause_s is None else max(0.0, pause_s - now_s))
            return None

    def _run(self, command: Command) -> None:
        try:
            handle(command, self.context)
        except Exception as error:
            self._failed(command, error)
        else:
            LOGGER.debug("done %s", command, extra={"event": "command_done"})
            with self._wake:
                self._queue.done(command)
                self._kicked = True
                self._wake.notify_all()

    def _failed(self, command: Command, error: Exception) -> None:
        """Pause the command and tell everybody who waits; nothing is dropped."""
        delay_s = self.context.config.coordinator.retry_delay_s
        with self._wake:
            failures = self._queue.count_failure(command)
            backoff = delay_s * min(2 ** (failures - 1), BACKOFF_FACTOR_MAX)
            pause_s = backoff / 2 + self.context.clock.jitter(backoff / 2)
            self._queue.pause(command, self.context.clock.monotonic_s() + pause_s)
            self._wake.notify_all()
        if not self._stopping:
            LOGGER.log(
                logging.WARNING if failures <= RETRIED_QUIETLY else logging.ERROR,
                "%s failed (%d times), next try in %.1f s: %s",
                command,
                failures,
                pause_s,
                error,
                extra={"event": "command_failed", "command": repr(command)},
            )
        stream = self.context.streams.get(command.stream)
        if stream is not None:
            stream.notify(type(command), error)
