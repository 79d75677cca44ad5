"""The unsealed end of a stream that another process may be writing, as its files and ring show
it."""

from __future__ import annotations

from dataclasses import dataclass

from aof2._core.ringview import RingView
from aof2._core.scan import Scan, scan
from aof2.errors import AofError, CorruptionError, FormatError
from aof2.tiers.evidence import Unfinished, durable_offset, find_damage
from aof2.tiers.hot import HotTier


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A segment that was started and is not sealed: the active one, or one that waits for its
    seal."""

    segment_id: int
    base_offset: int
    end_offset: int
    bytes: int
    ended: bool


class ReadonlyTail:
    """Started segments behind the sealed ones; it applies the recovery rule in memory and writes
    nothing.

    Attributes:
        segments: What was found, oldest first.
        damage: What a reader gets behind the last of them: more was durable than can be read. None
            where nothing says so.
    """

    def __init__(self, hot: HotTier, stream: str) -> None:
        self.segments: list[Unsealed] = []
        self.damage: AofError | None = None
        self._hot = hot
        self._stream = stream
        self._scans: dict[int, Scan] = {}
        self._suspected: AofError | None = None

    def refresh(self, after: int, end_offset: int, ring: RingView | None) -> bool:
        """Look again.

        Args:
            after: Id of the last sealed segment, 0 for none.
            end_offset: Where it ends.
            ring: The landing ring, for frames that are not written out yet.

        Returns:
            False when something looks damaged for the first time. A live writer may have gone on
            between two looks at one thing and another, so it is believed when the next look, at the
            manifest too, finds the same.
        """
        self.segments = []
        self._scans.clear()
        started: list[tuple[int, Scan]] = []
        prepared: list[int] = []
        damage: AofError | None = None
        # Before the files, to which a live writer adds.
        durable = durable_offset(self._hot.read_pointer(), ring)
        try:
            self._scan_all(after, ring, started, prepared)
            unfinished = Unfinished(started, prepared, end_offset, durable)
            damage = find_damage(self._stream, self._hot, unfinished)
        except (CorruptionError, FormatError) as error:
            damage = error
        end_offset = self._take(started, end_offset)
        if damage is not None:
            damage = _at(damage, self._stream, end_offset)
        believed = _is_same(damage, self._suspected)
        self._suspected = damage
        self.damage = damage if believed else None
        return believed

    def _scan_all(
        self,
        after: int,
        ring: RingView | None,
        started: list[tuple[int, Scan]],
        prepared: list[int],
    ) -> None:
        for segment_id in self._hot.ids():
            if segment_id <= after:
                continue
            name = self._hot.name(segment_id)
            try:
                found = scan(self._hot.directory, name, ring=ring, look_ahead=True)
            except FileNotFoundError:
                # The writing process removed it between the two looks.
                return
            if found is None:
                prepared.append(segment_id)
            else:
                started.append((segment_id, found))

    def _take(self, started: list[tuple[int, Scan]], end_offset: int) -> int:
        """Serve the segments up to the first without an END; the offset at which that ends."""
        for segment_id, found in started:
            if found.start is None or found.start.base_offset != end_offset:
                break
            base_offset, end_offset = end_offset, found.end_offset
            self._scans[segment_id] = found
            self.segments.append(
                Unsealed(segment_id, base_offset, end_offset, found.end_position, found.whole)
            )
            if not found.whole:
                break
        return end_offset

    def offsets(self, ring: RingView | None, sealed_end: int) -> tuple[int, int]:
        """`(next offset, durable offset)`; from the ring while somebody writes, else from the
        files."""
        end = self.segments[-1].end_offset if self.segments else sealed_end
        if ring is None or ring.closed or self.damage is not None:
            return end, end
        following, durable = ring.offsets()
        # Nobody syncs a ring: after a power cut it may be older than the files.
        following, durable = max(following, end), max(durable, sealed_end)
        if self.segments:
            last = self.segments[-1]
            if following > last.end_offset and not last.ended:
                self.segments[-1] = Unsealed(
                    last.segment_id, last.base_offset, following, last.bytes, False
                )
        return following, durable

    def locate(self, segment_id: int, offset: int) -> int | None:
        """Position of a frame border at or before a record, None for a segment that is not here."""
        found = self._scans.get(segment_id)
        return None if found is None else found.locate(offset)

    def locate_time(self, segment_id: int, timestamp_ns: int) -> int | None:
        """Position of a frame border before which every record is older; None as for `locate`."""
        found = self._scans.get(segment_id)
        return None if found is None else found.locate_time(timestamp_ns)


def _at(error: AofError, stream: str, offset: int) -> AofError:
    """The error with the offset where the good prefix ends."""
    return type(error)(
        error.message,
        stream=stream,
        path=error.path,
        segment=error.segment,
        position=error.position,
        offset=offset,
    )


def _is_same(damage: AofError | None, before: AofError | None) -> bool:
    if damage is None or before is None:
        return damage is None
    return (type(damage), damage.path, damage.position, damage.offset) == (
        type(before),
        before.path,
        before.position,
        before.offset,
    )
