"""Closing a manager's streams: finish or leave to the next open, join every thread, drop nothing.

What hangs (a store that does not answer, a device) is not waited for longer than the limit, and
nothing is closed under it: a thread of its own closes the rest once it has ended.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aof2.clock import Clock
from aof2.coordinator.commands import Command, Prepare, Relinquish, ReturnSpare, Rollover
from aof2.coordinator.context import is_disk_full
from aof2.coordinator.runtime import Coordinator
from aof2.errors import AofError, NotYetDurable
from aof2.pool import DaemonPool, join_until
from aof2.signals import Announcer
from aof2.tiers.instance import StreamInstance

LOGGER = logging.getLogger("aof2.tiered")
PROMPT_S = 0.1
"""So long work under way may take before those are told who wait for something else."""
FLUSH_WAIT_S = 5.0
USE_WRITER = (Prepare, ReturnSpare, Relinquish, Rollover)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a manager consists of.

    Attributes:
        streams: Its streams.
        handles: Called to end the users' handles, so that whoever waits on one wakes.
        coordinator: Its workers end first; what they leave is derived again by the next open.
        announcer: Its thread ends last.
        clock: For the limit.
        pool: Threads of the async forms; None when none were needed.
        opened: Waits for so many seconds until nobody opens a stream any more; whether that is so.
        releases: Called at the very end: root and store.
        keep: Called when something is left: notes for whoever wants the root meanwhile.
    """

    streams: Sequence[StreamInstance]
    handles: Sequence[Callable[[], None]]
    coordinator: Coordinator
    announcer: Announcer
    clock: Clock
    pool: DaemonPool | None
    opened: Callable[[float], bool]
    releases: Sequence[Callable[[], None]]
    keep: Callable[[str], None]


def shut_down(parts: Parts, limit_s: float) -> list[BaseException]:
    """Stop the background work, close every stream, release the root.

    Args:
        parts: Of the manager.
        limit_s: Seconds to wait for work under way. What goes on longer is reported in the log, and
            keeps what it uses open until it has ended.

    Returns:
        Every failure, in order; nothing is left open because of one.
    """
    return _Closing(parts, parts.clock.monotonic_s() + limit_s).run()


class _Closing:
    """One close, and what is left of it for later."""

    def __init__(self, parts: Parts, until_s: float) -> None:
        self._parts = parts
        self._until_s = until_s
        self._failures: list[BaseException] = []
        self._writing: list[StreamInstance] = []
        self._left: list[Command] = []

    def run(self) -> list[BaseException]:
        parts, coordinator = self._parts, self._parts.coordinator
        self._writing = [stream for stream in parts.streams if stream.writer is not None]
        for stream in self._writing:
            self._attempt(functools.partial(_end_intake, stream))
        self._left = coordinator.stop(min(self._until_s, self._now_s() + PROMPT_S))
        self._attempt(coordinator.check_alive)
        self._end_writers()
        for end in parts.handles:
            self._attempt(end)
        for stream in parts.streams:
            stream.closed = True
            stream.signals.wake()
        # Now that whoever waits is told so: the rest of what is under way.
        parts.announcer.work.wake()
        self._left = coordinator.stop(self._until_s)
        self._end_writers()
        reading = [] if parts.pool is None else parts.pool.end(parts.clock, self._until_s)
        opened = parts.opened(max(0.0, self._until_s - self._now_s()))
        if self._left or reading or self._writing or not opened:
            self._leave(reading, opened=opened)
        else:
            self._finish()
        parts.announcer.close()
        return self._failures

    def _now_s(self) -> float:
        return self._parts.clock.monotonic_s()

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._failures.append(error)

    # --- writers ----------------------------------------------------------------------------------

    def _end_writers(self) -> None:
        """Close the writers that nothing uses any more; the others stay."""
        self._writing = [stream for stream in self._writing if not self._end_writer(stream)]

    def _end_writer(self, stream: StreamInstance) -> bool:
        ours = [command for command in self._left if command.stream == stream.name]
        if any(isinstance(command, USE_WRITER) for command in ours) or not self._flush(stream):
            return False
        if not ours:
            # Seals that were under way are finished; everything after them is derived again.
            self._attempt(functools.partial(self._parts.coordinator.seal_ended, stream))
        assert stream.writer is not None
        self._attempt(functools.partial(_close_writer, stream))
        return True

    def _flush(self, stream: StreamInstance) -> bool:
        """Have everything flushed, as long as there is time; nobody can leave a sync that hangs, so
        the writer's own thread does it."""
        writer = stream.writer
        assert writer is not None
        while True:
            left_s = self._until_s - self._now_s()
            try:
                writer.wait_local(writer.next_offset, timeout=min(FLUSH_WAIT_S, max(0.0, left_s)))
            except NotYetDurable:
                if left_s <= FLUSH_WAIT_S:
                    return False
            except AofError:
                return True  # The writer has stopped; closing it says why.
            else:
                return True

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self) -> None:
        for stream in self._parts.streams:
            self._attempt(functools.partial(_retire, stream))
        for release in self._parts.releases:
            self._attempt(release)

    def _leave(self, reading: list[threading.Thread], *, opened: bool) -> None:
        """Report what is still under way, and have the rest closed when that has ended."""
        found = [repr(command) for command in self._left]
        found += [f"{len(reading)} requests of readers"] if reading else []
        found += [f"a flush of stream {stream.name!r}" for stream in self._writing]
        found += [] if opened else ["the opening of a stream"]
        what = ", ".join(found)
        LOGGER.warning(
            "closed, but %s did not end in time: it keeps its files and the root's lock until it "
            "does; what it leaves is taken up by the next open",
            what,
            extra={"event": "close_left", "left": found},
        )
        self._parts.keep(what)
        threads = [*self._parts.coordinator.threads, *reading]
        late = threading.Thread(
            target=self._finish_late, args=(threads,), name="aof2-late-close", daemon=True
        )
        # At the interpreter's end there are no new threads; whatever hangs ends with it.
        with contextlib.suppress(RuntimeError):
            late.start()

    def _finish_late(self, threads: list[threading.Thread]) -> None:
        self._until_s = float("inf")
        told = len(self._failures)
        join_until(self._parts.clock, threads, threading.TIMEOUT_MAX)
        self._parts.opened(-1.0)
        self._left = []
        self._end_writers()
        self._finish()
        for failure in self._failures[told:]:
            LOGGER.error("closing late: %s", failure, extra={"event": "close_late_failed"})
        LOGGER.info("closed at last", extra={"event": "close_late"})


def _end_intake(stream: StreamInstance) -> None:
    assert stream.writer is not None
    stream.writer.end_intake()
    # Coroutines that wait for room are told by the signal.
    stream.signals.room.wake()


def _close_writer(stream: StreamInstance) -> None:
    """Close the writer, then note where the records end, which nothing depends on."""
    assert stream.writer is not None
    stream.writer.close()
    if not stream.forked:
        try:
            stream.hot.note_close(stream.writer.durable_offset)
        except OSError as error:
            if not is_disk_full(error):
                raise
            LOGGER.warning(
                "stream %s was closed, but the disk is full: where its records end stands in the "
                "segment alone",
                stream.name,
                extra={"event": "close_not_noted", "stream": stream.name},
            )


def _retire(instance: StreamInstance) -> None:
    """Remove the spare segment, which nothing was written to, and close the stream's files."""
    if instance.writer is not None:
        spare = instance.writer.give_back_spare()
        if spare is not None:
            instance.hot.evict(spare)
    instance.close()
