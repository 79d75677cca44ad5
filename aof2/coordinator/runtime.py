"""The runtime: worker threads around the queue; it owns retries, timing, logging and shutdown."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from aof2._core.posix import lower_thread_priority
from aof2.coordinator import planner
from aof2.coordinator.commands import Command, Evict, Lane, Rollover
from aof2.coordinator.context import Context, is_disk_full
from aof2.coordinator.deaths import Deaths
from aof2.coordinator.handlers import handle
from aof2.coordinator.queue import ALL_LANES, CommandQueue, Entry
from aof2.coordinator.report import tell_death, tell_done, tell_failed
from aof2.coordinator.view import View
from aof2.errors import CoordinatorDied, CorruptionError
from aof2.pool import join_until
from aof2.tiers.instance import StreamInstance

LOGGER = logging.getLogger("aof2.tiered")
BACKOFF_FACTOR_MAX = 60


@dataclass(slots=True)
class Seat:
    """A worker's place: which lanes it serves, and what it is at. It outlives the worker.

    Attributes:
        tier2_first: Of background work, it takes what writes to tier 2 before the rest.
        alternates: It is the only one for background work, so it takes the two in turns.
    """

    number: int
    lanes: Collection[Lane]
    tier2_first: bool = False
    alternates: bool = False
    command: Command | None = None

    def turn(self) -> None:
        """Its command has ended."""
        command, self.command = self.command, None
        if self.alternates and command is not None and command.lane is Lane.BACKGROUND:
            self.tier2_first = not command.needs_tier2


class Coordinator:
    """Runs what the planner plans, on `workers` threads, until it is stopped.

    Idle means no CPU and no requests: workers sleep until `kick`, or until the time of a paused
    command, of a probe of tier 2 or of a segment's age has come.

    Attributes:
        before: Called with each command before its handler; for tests that hold or break one.
        turns: Grows whenever a command has ended, or when nothing more is under way: what somebody
            was told before may not hold any more.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.before: Callable[[Command], object] = lambda command: None
        self.turns = 0
        self._queue = CommandQueue(context.config.coordinator.queue_commands_max)
        self._wake = threading.Condition()
        self._kicked = True
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._deaths = Deaths(context.clock)
        self._died: BaseException | None = None
        self._probe: Command | None = None
        self._due_s: float | None = None
        self._settled_view: View | None = None
        context.breaker.changed = self._breaker_changed

    # --- for those who have work done ------------------------------------------------------------

    def start(self) -> None:
        """Start the workers."""
        for seat in seats(self.context.config.coordinator.workers):
            self._start_worker(seat)

    def kick(self, *, hasten: bool = False) -> None:
        """Something changed: plan again. `hasten` also ends the pauses of failed commands."""
        if hasten:
            self.context.breaker.hasten()
        with self._wake:
            self._kicked = True
            if hasten:
                self._queue.hasten()
            self._wake.notify_all()

    def submit(self, command: Command) -> bool:
        """Enqueue a command that somebody asks for; False when it is there already, or when there
        is no place, so that it must be asked for again.

        Raises:
            CoordinatorDied: nothing will ever run it.
        """
        self.check_alive()
        with self._wake:
            added = self._queue.put(command, self.context.clock.monotonic_s())
            self._wake.notify_all()
            return added

    def check_alive(self) -> None:
        """Raise `CoordinatorDied` when background work has stopped for good."""
        if self._died is not None:
            raise CoordinatorDied(
                f"background work has stopped, as its workers died again and again ({self._died!r})"
                ": records that were appended are safe; close and reopen the root"
            ) from self._died

    def is_settled(self, only: Callable[[Command], bool] = lambda _: True) -> bool:
        """Whether nothing (of the commands that `only` picks) waits, runs or is to be planned."""
        with self._wake:
            planned = planner.plan(self.context.view())
            pending = [c for c in planned if only(c)]
            return not pending and not any(only(c) for c in self._queue.running)

    def entries(self) -> list[Entry]:
        """What is in the queue now, and how it fares."""
        with self._wake:
            return self._queue.entries()

    # --- steps ------------------------------------------------------------------------------------

    def poll(self) -> dict[str, int]:
        """Plan and run everything that can run now, on this thread.

        The workers and a test's scheduler drive the same steps.

        Returns:
            How many commands of each type ran.
        """
        counts: Counter[str] = Counter()
        while (command := self.step()) is not None:
            counts[type(command).__name__] += 1
        return dict(counts)

    def step(self, lanes: Collection[Lane] = ALL_LANES) -> Command | None:
        """Run the next command of some lanes on this thread; None when none can run now."""
        seat = Seat(-1, lanes)
        if self._take(seat, wait=False):
            command = seat.command
            try:
                self._run(seat)
            except BaseException as error:
                self._worker_died(seat, error)
                if isinstance(error, KeyboardInterrupt):
                    raise
            return command
        return None

    # --- the end ----------------------------------------------------------------------------------

    def stop(self, until_s: float) -> list[Command]:
        """End the workers; commands that do not end until then are returned. Again is harmless, and
        waits again."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        # No worker is replaced from here on.
        join_until(self.context.clock, self._threads, until_s)
        with self._wake:
            return sorted(self._queue.running, key=repr)

    @property
    def threads(self) -> list[threading.Thread]:
        """The workers that live."""
        return [thread for thread in self._threads if thread.is_alive()]

    def seal_ended(self, stream: StreamInstance) -> None:
        """Seal what has an END, on this thread; for a close, after `stop`."""
        for ended in [u.segment_id for u in stream.unsealed() if u.ended]:
            handle(Rollover(stream.name, ended, stream.seals.ack(ended)), self.context)

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    @property
    def died(self) -> BaseException | None:
        """What ended the workers for good; None while they live."""
        return self._died

    # --- workers ----------------------------------------------------------------------------------

    def _start_worker(self, seat: Seat) -> None:
        thread = threading.Thread(
            target=self._work, args=(seat,), name=f"aof2-worker-{seat.number}", daemon=True
        )
        with self._wake:
            if self._stopping:
                return
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _work(self, seat: Seat) -> None:
        try:
            if Lane.BACKGROUND in seat.lanes:
                # Compression must not take time from the threads that append and write out.
                lower_thread_priority()
            while self._take(seat, wait=True):
                self._run(seat)
        except BaseException as error:
            self._worker_died(seat, error)

    def _take(self, seat: Seat, *, wait: bool) -> bool:
        """Give the seat its next command; False when there is none: stopped, or nothing to do and
        `wait` is False."""
        clock, breaker = self.context.clock, self.context.breaker
        with self._wake:
            while not self._stopping and self._died is None:
                now_s = clock.monotonic_s()
                self._plan(now_s)
                seat.command = self._queue.take(
                    now_s, seat.lanes, tier2=breaker.admits(), tier2_first=seat.tier2_first
                )
                if seat.command is not None:
                    if seat.command.needs_tier2 and breaker.begin():
                        self._probe = seat.command
                    return True
                if not wait:
                    return False
                self._wake.wait(self._wait_s(now_s))
            return False

    def _plan(self, now_s: float) -> None:
        """Ask the planner, if something changed or a segment's time has come."""
        if self._due_s is not None and self._due_s <= now_s:
            self._kicked = True
        if self._kicked:
            self._kicked = False
            # Before the view: what becomes due between the two is planned already, and what is not
            # due yet has its timer.
            self._due_s = self.context.next_due_s(now_s)
            view = self.context.view()
            commands = planner.plan(view)
            if sum(self._queue.put(command, now_s) for command in commands):
                self._wake.notify_all()
            if not commands and not self._queue.running:
                self._tell_settled(view)

    def _tell_settled(self, view: View) -> None:
        """Nothing is under way that could make room: whoever waits for some has to hear of it,
        once, as the answer may be that there never will be any."""
        if view != self._settled_view:
            self._settled_view = view
            self.turns += 1
            self.context.look_for_room()

    def _wait_s(self, now_s: float) -> float | None:
        """How long there is nothing to do: until a pause, the breaker's or a segment's time."""
        times = [self._queue.next_pause_s(), self._due_s]
        if self._queue.waits_for_tier2():
            times.append(self.context.breaker.next_probe_s())
        due = [time_s for time_s in times if time_s is not None]
        return max(0.0, min(due) - now_s) if due else None

    def _run(self, seat: Seat) -> None:
        command = seat.command
        assert command is not None
        began_s = self.context.clock.monotonic_s()
        try:
            self.before(command)
            handle(command, self.context)
        except Exception as error:
            self._failed(command, error, self.context.clock.monotonic_s() - began_s)
        else:
            self._succeeded(command, self.context.clock.monotonic_s() - began_s)
        seat.turn()
        # Now that it does not count as running any more.
        self.context.announcer.work.wake()

    def _succeeded(self, command: Command, took_s: float) -> None:
        with self._wake:
            entry = self._queue.done(command)
            meter = self.context.meters.command(type(command).__name__)
            meter.done += 1
            meter.retries += entry.failures > 0
            meter.latency.record(took_s)
            self._ended(command)
            if isinstance(command, Evict):
                # The disk has room again for what found none.
                self._queue.hasten(lambda entry: is_disk_full(entry.error))
            self._kicked = True
            self._wake.notify_all()
        tell_done(entry, took_s)

    def _failed(self, command: Command, error: Exception, took_s: float) -> None:
        """Pause the command and tell everybody who waits; nothing is dropped."""
        config, clock = self.context.config.coordinator, self.context.clock
        meters = self.context.meters
        with self._wake:
            now_s = clock.monotonic_s()
            backoff = min(2 ** min(self._queue.failures(command), 10), BACKOFF_FACTOR_MAX)
            pause_s = clock.jitter(config.retry_delay_s * backoff)
            entry = self._queue.pause(command, now_s, pause_s, error)
            meter = meters.command(type(command).__name__)
            meter.failures += 1
            meter.retries += entry.failures > 1
            meter.latency.record(took_s)
            if isinstance(error, CorruptionError):
                meters.corruption[error.code] += 1
            overdue = entry.is_overdue(now_s, config.retry_attempts_max)
            self._ended(command)
            self._wake.notify_all()
        command.refuse(error)
        if not self._stopping:
            tell_failed(entry, error, pause_s, took_s, overdue=overdue)
        stream = self.context.streams.get(command.stream)
        if stream is not None:
            stream.notify(type(command), error)
        if is_disk_full(error):
            # There may be another way: past tier 1, or by dropping what tier 2 has.
            self.kick()

    def _ended(self, command: Command) -> None:
        self.turns += 1
        if command is self._probe:
            self._probe = None
            self.context.breaker.end_probe()

    def _breaker_changed(self) -> None:
        """Tier 2 went or came back: what waited for it need not wait for its own pause as well."""
        with self._wake:
            self._queue.hasten(lambda entry: entry.command.needs_tier2)
            self._wake.notify_all()
        state = self.context.breaker.state.value
        logging.getLogger("aof2.tier2").warning(
            "the circuit breaker of tier 2 is %s", state, extra={"event": "breaker", "state": state}
        )

    # --- deaths -----------------------------------------------------------------------------------

    def _worker_died(self, seat: Seat, error: BaseException) -> None:
        """Replace a worker, and have its command run again; give up where that goes on and on."""
        with self._wake:
            command, seat.command = seat.command, None
            if command is not None:
                self._queue.put_back(command)
                self._ended(command)
            self.context.meters.worker_deaths += 1
            given_up = self._deaths.count() and self._died is None
            if given_up:
                self._died = error
            replace = self._died is None and not self._stopping and seat.number >= 0
            self._wake.notify_all()
        tell_death(command, error, given_up=given_up)
        if replace:
            try:
                self._start_worker(seat)
            except RuntimeError as no_thread:
                self._give_up(no_thread)
        if given_up:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Nothing will run any more: everybody who waits must hear of it."""
        with self._wake:
            self._died = error
            self._wake.notify_all()
        for stream in list(self.context.streams.values()):
            stream.notify(Coordinator, error)
        self.context.announcer.work.wake()


def seats(workers: int) -> list[Seat]:
    """The places of so many workers.

    The first of several does nothing that takes long, so that no compression and no upload is in an
    append's way, and the second none of those either, so that none is in a reader's way. Of the
    others, one takes uploads before compressions: under a load that never lets compression catch
    up, tier 2 would get nothing.

    Example:
        >>> [(len(seat.lanes), seat.tier2_first) for seat in seats(4)]
        [(1, False), (2, False), (3, False), (3, True)]
    """
    few: list[Collection[Lane]] = [frozenset((Lane.URGENT,)), frozenset((Lane.URGENT, Lane.READ))]
    few = {1: [], 2: few[1:]}.get(workers, few)
    lanes = [*few, *[ALL_LANES] * (workers - len(few))]
    alone = workers - len(few) == 1
    return [
        Seat(
            number,
            served,
            tier2_first=not alone and number == workers - 1,
            alternates=alone and number == workers - 1,
        )
        for number, served in enumerate(lanes)
    ]
