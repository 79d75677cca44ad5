"""Walking through a stream: from window to window, segment to segment, tier to tier."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Set

from aof2._core.cursor import CursorStatus, RecordCursor
from aof2._core.record import Record
from aof2._core.salvage import SalvagedSegment
from aof2._core.window import Window
from aof2.damage import bad_frame, unreadable, with_gap
from aof2.errors import (
    Closed,
    CorruptionError,
    ForkedHandle,
    OffsetOutOfRange,
    SegmentCorrupt,
    SegmentLost,
    WouldBlockKind,
)
from aof2.framecache import Ticket
from aof2.leases import ResidentSegment
from aof2.readahead import ReadAhead
from aof2.tiers.cached import CachedSegment
from aof2.tiers.choice import is_damage
from aof2.tiers.instance import StreamInstance
from aof2.types import Gap, Tier
from aof2.waiting import Wait

LOOKS_MAX = 1000
"""So often a reader looks anew for a record that the stream says is there, before it calls it
damage."""


class Walk(RecordCursor):
    """A cursor that finds its bytes by itself, whichever tier they are in.

    It waits for nothing: where it would have to, `go_on` raises `WouldBlock`(HYDRATION) and does
    the same step again when it is called again.

    What the copy at hand does not have is taken from the next one.

    Args:
        stream: Where it walks.
        start, stop: Offsets, half-open.
        skip: Leave out what no copy has, and note it in `gaps`.

    Attributes:
        stop_offset: Where it ends.
        gaps: What was left out, in the order in which it was met.
    """

    def __init__(self, stream: StreamInstance, start: int, stop: int, *, skip: bool) -> None:
        super().__init__(start, stop)
        self.stop_offset = stop
        self._stream = stream
        self._held: ResidentSegment | None = None
        self._asked: tuple[Hashable, list[Ticket]] | None = None
        self._ahead: ReadAhead | None = None
        self._closed = False
        self.gaps: tuple[Gap, ...] = ()
        self._skip = skip
        self._segment: int | None = None
        self._arriving = True
        self._tried: dict[Tier, tuple[int, Exception]] = {}
        self._tried_at = -1
        self._salvaged: ResidentSegment | None = None
        self._looks = 0
        self._looked_at = -1

    def go_to(self, offset: int, stop: int) -> None:
        """Walk on from another place."""
        self._held = self._asked = self._segment = None
        self._arriving = True
        self.move(offset, stop)

    def go_on(self, below: Tier) -> bool:
        """Do one thing that lets the cursor go on where its status is another than STOP.

        Args:
            below: What this tier and those below it have is read on another thread.

        Returns:
            False when the stream has no more now.

        Raises:
            WouldBlock: of kind HYDRATION, while another thread reads.
            CorruptionError: no copy has the next record; the walk stays where it is.
        """
        segment_id, tried = self._segment, self._tries()
        if (
            tried
            and self._held is None
            and segment_id is not None
            and all(tier in tried for tier in self._stream.copies(segment_id))
        ):
            self.check_stream()
            return self._go_round(segment_id, below)
        try:
            return self._go_on(below)
        except (CorruptionError, OSError) as error:
            if not isinstance(error, SegmentLost) and not is_damage(error):
                raise
            self._turn_away(error)
            return True

    def _go_on(self, below: Tier) -> bool:
        status, held = self.status, self._held
        if held is None:
            return self._find_segment(below)
        if status == CursorStatus.END:
            return self._next_segment(held, below)
        if status == CursorStatus.WINDOW_END:
            window = self._window(held, below)
            if window is not None and window.end - self.position >= max(1, self.needed):
                self.load(window)
                return True
        if held.sealed:
            raise bad_frame(self._stream, held, self)
        return self._at_tail(held, status, below)

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
        stream, segment_id = self._stream, self._segment
        if segment_id is None:
            following = stream.next_offset
            if self.offset == following and all(u.ended for u in stream.unsealed()):
                stream.refresh()
                if self.offset == stream.next_offset:
                    stream.check_end(self.offset)
                    return False
            try:
                segment_id = self._segment = stream.find(self.offset)[0]
            except OffsetOutOfRange:
                if self.offset != following:
                    raise
                return False  # The last segment has ended in this moment.
        tried = self._tries()
        held = self._held = self._hold(segment_id, below, frozenset(tried))
        self._enter(held)
        stream.healed(segment_id, {tier: error for tier, (_, error) in tried.items()})
        if self._arriving:
            # Somebody chose to come here; whoever goes on from segment to segment did not.
            stream.hydration.touched(segment_id, held.tier)
        self._arriving = False
        return True

    def _next_segment(self, held: ResidentSegment, below: Tier) -> bool:
        self.check_stream()
        row = self._stream.manifest.index.segments.get(held.segment_id)
        if held.sealed and row is not None and self.offset < (row.end_offset or 0):
            raise SegmentCorrupt(
                "the segment ends early", path=held.source.path, position=self.position
            )
        following = self._stream.next_after(held.segment_id)
        if following is None:
            self._stream.refresh()
            following = self._stream.next_after(held.segment_id)
            if following is None:
                self._stream.check_end(self.offset)
                return False
        self._held, self._segment, self._arriving = None, following, False
        return self._find_segment(below)

    def _enter(self, held: ResidentSegment) -> None:
        source = held.source
        position = self._stream.locate(held, self.offset)
        self.enter(source.salt, source.base_offset, source.ext_id, position)

    def _at_tail(self, held: ResidentSegment, status: int, below: Tier) -> bool:
        """Nothing more in an unsealed segment as it was opened: look whether that has changed."""
        stream = self._stream
        if self.offset >= stream.next_offset:
            if stream.writer is None and not stream.is_written_to(held.segment_id):
                stream.refresh()
            if self.offset >= stream.next_offset:
                stream.check_end(self.offset)
                return False
        bad = status in (CursorStatus.BAD, CursorStatus.UNKNOWN) and self._stream.writer is not None
        self._looks = self._looks + 1 if self._looked_at == self.offset else 0
        self._looked_at = self.offset
        if self._looks == 0 and not bad:
            return True  # It may have been appended since the cursor looked.
        if bad or self._looks > LOOKS_MAX:
            raise bad_frame(self._stream, held, self)
        # The landing ring was replaced, or the segment was sealed meanwhile: look at it anew.
        self._stream.drop_open(held.segment_id)
        self.go_to(self.offset, self.stop_offset)
        return self._find_segment(below)

    # --- damage -----------------------------------------------------------------------------------

    def _tries(self) -> dict[Tier, tuple[int, Exception]]:
        """The copies that do not have the next record: what they may have next, and why."""
        return self._tried if self._tried_at == self.offset else {}

    def _turn_away(self, error: Exception) -> None:
        """The copy at hand does not have the next record: let the next step try another one."""
        stream, held, segment_id = self._stream, self._held, self._segment
        row = None if segment_id is None else stream.manifest.index.segments.get(segment_id)
        if row is None or row.end_offset is None or (held is not None and not held.sealed):
            raise error  # What is not sealed yet has no other copy.
        if self.offset < stream.first_offset:
            raise stream.out_of_range(self.offset) from error  # Trimmed meanwhile.
        if self._tried_at != self.offset:
            self._tried_at, self._tried = self.offset, {}
        if held is None:
            for tier in stream.copies(row.segment_id):
                self._tried.setdefault(tier, (row.end_offset, error))
        else:
            self._tried.setdefault(held.tier, (self._beyond(held, row.end_offset), error))
            stream.report_damage(row.segment_id, held.tier, error)
        self._held = None
        self.move(self.offset, self.stop_offset)
        if self.offset >= row.end_offset:
            # Every record was read: what is damaged is behind the last one.
            self._segment = None

    def _beyond(self, held: ResidentSegment, end_offset: int) -> int:
        """The next offset that a copy may have, as it does not have the one at hand."""
        source = held.source
        if isinstance(source, CachedSegment):
            span = source.packed.runs_of(self.position)
            if span is not None:
                return max(self.offset + 1, source.packed.run_offset(span[1]))
        return end_offset

    def _go_round(self, segment_id: int, below: Tier) -> bool:
        """No copy has the next record as it is: look for what is whole of the hot one, then skip
        what is damaged, or say so."""
        stream, row = self._stream, self._stream.manifest.index.segments[segment_id]
        hot = self._salvage(segment_id, below)
        following = min(following for following, _ in self._tried.values())
        if isinstance(hot, ResidentSegment):
            assert isinstance(hot.source, SalvagedSegment)
            found = hot.source.beyond(self.offset)
            if found == self.offset:
                self._held = hot
                self._enter(hot)
                return True
            following = min(following, found)
        errors = {tier: error for tier, (_, error) in self._tried.items()}
        error = unreadable(stream, row, self.offset, errors)
        # Whoever asks again finds what may have been repaired meanwhile.
        self._tried_at = -1
        stream.drop_open(segment_id)
        if not self._skip:
            self._salvaged = None
            raise error
        following = min(following, self.stop_offset)
        gap = Gap(self.offset, following, str(error))
        self.gaps = with_gap(self.gaps, stream, segment_id, gap)
        self.go_to(following, self.stop_offset)
        return True

    def _salvage(self, segment_id: int, below: Tier) -> object:
        """The damaged hot copy, as far as it is whole; an error where there is none."""
        if self._salvaged is not None and self._salvaged.segment_id == segment_id:
            return self._salvaged
        stream = self._stream
        if below is Tier.COLD:
            try:
                found: object = stream.salvage(segment_id)
            except OSError as error:
                return error
        else:
            what = segment_id, "salvage"
            (ticket,) = self._have(what, lambda: [stream.ask_salvage(segment_id)])
            found = ticket.outcome
        if isinstance(found, ResidentSegment):
            self._salvaged = found
        return found


def _are_over(tickets: list[Ticket]) -> bool:
    return all(ticket.is_over() for ticket in tickets)


class Lookup(Walk):
    """Finds one record, wherever it is."""

    def __init__(self, stream: StreamInstance, offset: int) -> None:
        super().__init__(stream, offset, offset + 1, skip=False)

    def attempt(self, below: Tier) -> Record:
        """The record; raises as `go_on` does."""
        while (record := self.next_record()) is None:
            if not self.go_on(below):
                raise self._stream.out_of_range(self.offset)
        if self._held is not None:
            self._stream.keep_at_hand(self._held)
        return record
