"""Walking through a stream: from window to window, segment to segment, tier to tier."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Set

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2._core.record import Record
from aof2._core.window import Window
from aof2.errors import Closed, ForkedHandle, OffsetOutOfRange, WouldBlockKind
from aof2.framecache import Ticket
from aof2.leases import ResidentSegment
from aof2.places import corrupt
from aof2.readahead import ReadAhead
from aof2.tiers.cached import CachedSegment
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier
from aof2.waiting import Wait

LOOKS_MAX = 1000
"""So often a reader looks anew for a record that the stream says is there, before it calls it
damage."""


class Walk(RecordCursor):
    """A cursor that finds its bytes by itself, whichever tier they are in.

    It waits for nothing: where it would have to, `go_on` raises `WouldBlock`(HYDRATION) and does
    the same step again when it is called again.

    Args:
        stream: Where it walks.
        start, stop: Offsets, half-open.

    Attributes:
        stop_offset: Where it ends.
    """

    def __init__(self, stream: StreamInstance, start: int, stop: int) -> None:
        super().__init__(start, stop)
        self.stop_offset = stop
        self._stream = stream
        self._held: ResidentSegment | None = None
        self._asked: tuple[Hashable, list[Ticket]] | None = None
        self._ahead: ReadAhead | None = None
        self._closed = False
        self._looks = 0
        self._looked_at = -1

    def go_to(self, offset: int, stop: int) -> None:
        """Walk on from another place."""
        self._held = self._asked = None
        self.move(offset, stop)

    def go_on(self, below: Tier) -> bool:
        """Do one thing that lets the cursor go on where its status is another than STOP.

        Args:
            below: What this tier and those below it have is read on another thread.

        Returns:
            False when the stream has no more now.

        Raises:
            WouldBlock: of kind HYDRATION, while another thread reads.
            CorruptionError: the next record cannot be read; the walk stays where it is.
        """
        status = self.status
        if status == CursorStatus.END:
            return self._next_segment(below)
        if self._held is None:
            return self._find_segment(below)
        if status == CursorStatus.WINDOW_END:
            window = self._window(self._held, below)
            if window is not None and window.end - self.position >= max(1, self.needed):
                self.load(window)
                return True
        if self._held.sealed:
            raise corrupt(self._stream, self._held, self)
        return self._at_tail(status, below)

    # --- waiting ----------------------------------------------------------------------------------

    def check_stream(self) -> None:
        """Whoever waits for a stream that was closed would do so for ever."""
        if self._stream.forked:
            raise ForkedHandle(
                "this reader belongs to the parent process: open the root with readonly=True",
                stream=self._stream.name,
            )
        if self._stream.closed:
            raise Closed("the stream was closed: open the root again", stream=self._stream.name)

    def _have(self, what: Hashable, ask: Callable[[], list[Ticket]]) -> list[Ticket]:
        """What `ask` answers, once all of it has come; it is asked once."""
        if self._asked is None or self._asked[0] != what:
            self._asked = what, ask()
        tickets = self._asked[1]
        self._check_over(tickets)
        while any(ticket.is_lost for ticket in tickets):
            # The failure of a read that somebody else began before: now one of our own.
            tickets = ask()
            for ticket in tickets:
                ticket.late = False
            self._asked = what, tickets
            self._check_over(tickets)
        self._asked = None
        return tickets

    def _check_over(self, tickets: list[Ticket]) -> None:
        if _are_over(tickets):
            return
        further: list[Ticket] = []

        def ready() -> bool:
            self.check_stream()
            if self._closed:
                return True
            if not _are_over(tickets):
                return False
            if not further:
                # A segment was opened: the wait ends when the record's bytes are here too.
                further.extend(self._first_bytes(tickets))
            return _are_over(further)

        raise Wait(
            self._stream.signals.hydration,
            ready,
            WouldBlockKind.HYDRATION,
            "the bytes are on their way from another tier",
            stream=self._stream.name,
            offset=self.offset,
            limit=self._stream.hydration.limit(self.offset),
        ).blocked()

    def _first_bytes(self, tickets: list[Ticket]) -> list[Ticket]:
        held = tickets[0].outcome
        if not isinstance(held, ResidentSegment) or not isinstance(held.source, CachedSegment):
            return []
        return held.source.ask(held.source.locate(self.offset))

    # --- bytes ------------------------------------------------------------------------------------

    def _window(self, held: ResidentSegment, below: Tier) -> Window | None:
        """The bytes from the cursor's position on, as many as it needs."""
        source, position, needed = held.source, self.position, self.needed
        if held.tier < below or not isinstance(source, CachedSegment):
            return source.window(position, needed)

        def ask() -> list[Ticket]:
            tickets = source.ask(position, needed)
            span = source.packed.runs_of(position, needed)
            if self._ahead is not None and span is not None:
                self._ahead.enter(held, *span, self.stop_offset, below)
            return tickets

        what = held.segment_id, held.tier, position, needed
        return source.cut(position, self._have(what, ask))

    def _hold(self, segment_id: int, below: Tier, but: Set[Tier] = frozenset()) -> ResidentSegment:
        """A segment's bytes, held from the nearest tier that has a good copy of them."""
        stream = self._stream
        held = stream.opened(segment_id, but)
        if held is not None:
            stream.touch(segment_id)
            return held
        if stream.nearest(segment_id, but) < below:
            return stream.open_segment(segment_id, but)
        what = segment_id, frozenset(but)
        (ticket,) = self._have(what, lambda: [stream.ask_segment(segment_id, but)])
        outcome = ticket.outcome
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, ResidentSegment)
        return outcome

    # --- segments ---------------------------------------------------------------------------------

    def _find_segment(self, below: Tier) -> bool:
        """Enter the segment of the offset; there may be none yet at the very end."""
        self.check_stream()
        stream, following = self._stream, self._stream.next_offset
        if self.offset == following and all(u.ended for u in stream.unsealed()):
            stream.refresh()
            if self.offset == stream.next_offset:
                return False
        try:
            segment_id = stream.find(self.offset)[0]
        except OffsetOutOfRange:
            if self.offset != following:
                raise
            return False  # The last segment has ended in this moment.
        held = self._hold(segment_id, below)
        # Somebody chose to come here; whoever goes on from segment to segment did not.
        stream.hydration.touched(held.segment_id, held.tier)
        self._held = self._enter(held)
        return True

    def _next_segment(self, below: Tier) -> bool:
        self.check_stream()
        assert self._held is not None
        following = self._stream.next_after(self._held.segment_id)
        if following is None:
            self._stream.refresh()
            following = self._stream.next_after(self._held.segment_id)
            if following is None:
                return False
        self._held = self._enter(self._hold(following, below))
        return True

    def _enter(self, held: ResidentSegment) -> ResidentSegment:
        source = held.source
        position = self._stream.locate(held, self.offset)
        self.enter(source.salt, source.base_offset, source.ext_id, position)
        return held

    def _at_tail(self, status: int, below: Tier) -> bool:
        """Nothing more in an unsealed segment as it was opened: look whether that has changed."""
        assert self._held is not None
        if self._stream.writer is None and self.offset >= self._stream.next_offset:
            self._stream.refresh()
        if self.offset >= self._stream.next_offset:
            return False
        bad = status in (CursorStatus.BAD, CursorStatus.UNKNOWN) and self._stream.writer is not None
        self._looks = self._looks + 1 if self._looked_at == self.offset else 0
        self._looked_at = self.offset
        if bad or self._looks > LOOKS_MAX:
            raise corrupt(self._stream, self._held, self)
        # The landing ring was replaced, or the segment was sealed meanwhile: look at it anew.
        self._stream.drop_open(self._held.segment_id)
        self.go_to(self.offset, self.stop_offset)
        return self._find_segment(below)


def _are_over(tickets: list[Ticket]) -> bool:
    return all(ticket.is_over() for ticket in tickets)


class Lookup(Walk):
    """Finds one record, wherever it is."""

    def __init__(self, stream: StreamInstance, offset: int) -> None:
        super().__init__(stream, offset, offset + 1)

    def attempt(self, below: Tier) -> Record:
        """The record; raises as `go_on` does."""
        while (record := self.next_record()) is None:
            if not self.go_on(below):
                raise self._stream.out_of_range(self.offset)
        if self._held is not None:
            self._stream.keep_at_hand(self._held)
        return record
