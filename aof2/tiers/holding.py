"""Segments held open for reading, each from the nearest tier that has a good copy of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Set

from aof2._core.mapping import MappedSegment
from aof2._core.ringview import RingView
from aof2._core.salvage import SalvagedSegment
from aof2.errors import CorruptionError, SegmentCorrupt, SegmentLost
from aof2.framecache import FrameCache, Read, Ticket
from aof2.leases import ResidentSegment
from aof2.manifest.index import SegmentRow
from aof2.manifest.log import Manifest
from aof2.meters import Meters
from aof2.objectstore import ObjectNotFound
from aof2.signals import StreamSignals
from aof2.tiers.cached import CachedSegment
from aof2.tiers.choice import NONE_TRIED, Choice, is_damage
from aof2.tiers.cold import ColdTier
from aof2.tiers.hot import HotTier
from aof2.tiers.remote import RemoteSide
from aof2.tiers.tail import ReadonlyTail, Unsealed
from aof2.tiers.warm import WarmTier
from aof2.types import StreamIdentity, Tier

OPEN_SEGMENTS_MAX = 16
"""Segments that a stream keeps open for random reads, so that `get` need not open files."""
LOOKS_MAX = 16
"""So often one copy may go and another come while a segment is opened."""


class Holding(Choice):
    """The part of an instance that readers get their bytes from.

    Attributes:
        writer: None where another process writes.
        signals: Woken on every seal, tier move and failure, among others.
        frames: Keeps what was decompressed, and reads it, over all streams.
    """

    def __init__(
        self,
        identity: StreamIdentity,
        manifest: Manifest,
        hot: HotTier,
        warm: WarmTier,
        cold: ColdTier | None,
        remote: RemoteSide,
        signals: StreamSignals,
        frames: FrameCache,
        meters: Meters,
    ) -> None:
        super().__init__(identity, manifest, hot, warm, cold, remote, meters)
        self.signals = signals
        self.frames = frames
        self._open: OrderedDict[tuple[int, Tier], ResidentSegment] = OrderedDict()
        self._ring: RingView | None = None
        self._tail = ReadonlyTail(hot, identity.name)

    def unsealed(self) -> list[Unsealed]:
        """Started segments without a seal, oldest first."""
        raise NotImplementedError

    # --- opening ----------------------------------------------------------------------------------

    def opened(self, segment_id: int, but: Set[Tier] = NONE_TRIED) -> ResidentSegment | None:
        """A segment that is held open already, from the tier that a read goes to."""
        tier = self.nearest(segment_id, but)
        return None if tier in but else self._opened(segment_id, tier)

    def _opened(self, segment_id: int, tier: Tier) -> ResidentSegment | None:
        with self.changed:
            held = self._open.get((segment_id, tier))
            row = self.manifest.index.segments.get(segment_id)
            if held is None or held.sealed != (row is not None and row.sealed):
                return None
            self._open.move_to_end((segment_id, tier))
            return held

    def open_segment(self, segment_id: int, but: Set[Tier] = NONE_TRIED) -> ResidentSegment:
        """Hold a segment's bytes, from the nearest tier that has a good copy of them.

        Args:
            segment_id: Which one.
            but: Tiers whose copies are known not to have what is wanted.

        Raises:
            SegmentLost: no tier has a copy.
            CorruptionError: none has a good one.
            FetchFailed, Tier2Unavailable, Tier2Auth: only tier 2 has one, and it cannot be read.
        """
        self.touch(segment_id)
        held = self.opened(segment_id, but)
        if held is None and self.nearest(segment_id, but) is Tier.HOT:
            held = self._open_anew(segment_id, but)
        if held is None:
            found = self.frames.bring(*self._wish(segment_id, but), self.signals.hydration)
            assert isinstance(found, ResidentSegment)
            held = found
        return held

    def ask_segment(
        self, segment_id: int, but: Set[Tier] = NONE_TRIED, *, ahead: bool = False
    ) -> Ticket:
        """Have a segment opened on another thread; the ticket's outcome is a `ResidentSegment`."""
        self.touch(segment_id)
        wish = self._wish(segment_id, but)
        return self.frames.ask(*wish, self.signals.hydration, ahead=ahead)

    def _wish(self, segment_id: int, but: Set[Tier]) -> tuple[list[Hashable], Read]:
        key = self.identity.uuid, self.name, segment_id, frozenset(but)
        return [key], lambda _: [self._open_anew(segment_id, but)]

    def touch(self, segment_id: int) -> None:
        """Note that a segment is in use, for what is evicted first."""
        for tier in (self.hot, self.warm):
            tier.budget.order.touch(self.name, segment_id)

    def keep_at_hand(self, held: ResidentSegment) -> None:
        """Have single records of a hot segment found at once from now on."""
        if self.points is not None and isinstance(held.source, MappedSegment):
            self.points.keep(held.segment_id, held.source)

    def _open_anew(self, segment_id: int, but: Set[Tier]) -> ResidentSegment:
        """Open the first copy that can be; what is found damaged on the way is reported."""
        damaged: dict[Tier, Exception] = {}
        for _ in range(LOOKS_MAX):
            held = self._open_first(segment_id, but, damaged)
            if held is not None:
                return held
            if not self._elsewhere(segment_id, but | damaged.keys()):
                break
        bad = [error for error in damaged.values() if not isinstance(error, FileNotFoundError)]
        raise bad[0] if bad else self._lost(segment_id)

    def _elsewhere(self, segment_id: int, tried: Set[Tier]) -> bool:
        """Whether there is a copy that was not tried, as it came while another one was dropped."""
        row = self.manifest.index.segments.get(segment_id)
        here = frozenset[Tier]() if row is None or not row.sealed else self.residency(row)
        return any(tier in here and tier not in tried for tier in self.copies(segment_id))

    def _open_first(
        self, segment_id: int, but: Set[Tier], damaged: dict[Tier, Exception]
    ) -> ResidentSegment | None:
        for tier in self.copies(segment_id):
            if tier in but or tier in damaged:
                continue
            held = self._opened(segment_id, tier)
            try:
                held = held or self._open_copy(segment_id, tier)
            except (CorruptionError, OSError) as error:
                row = self.manifest.index.segments.get(segment_id)
                gone = isinstance(error, FileNotFoundError)
                if row is None or not row.sealed or not (gone or is_damage(error)):
                    raise
                self.report_damage(segment_id, tier, error)
                damaged[tier] = error
                continue
            if held is not None:
                self._keep(held)
                self.healed(segment_id, damaged)
                return held
        return None

    def _keep(self, held: ResidentSegment) -> None:
        with self.changed:
            self._open[held.segment_id, held.tier] = held
            while len(self._open) > OPEN_SEGMENTS_MAX:
                self._open.popitem(last=False)

    def _lost(self, segment_id: int) -> SegmentLost:
        row = self.manifest.index.segments.get(segment_id)
        elsewhere = row is not None and row.cold is not None and self.cold is None
        return SegmentLost(
            "no tier has a copy of the segment"
            + (": open the root with its tier 2" if elsewhere else "; restore it from a backup"),
            stream=self.name,
            segment=segment_id,
            path=self.hot.directory.join(self.hot.name(segment_id)),
            offset=None if row is None else row.base_offset,
        )

    def _open_copy(self, segment_id: int, tier: Tier) -> ResidentSegment | None:
        """A copy, or None when there is none any more."""
        if tier is Tier.HOT:
            return self._open_hot(segment_id)
        row = self.manifest.index.segments[segment_id]
        try:
            if tier is Tier.WARM and row.compressed is not None:
                packed = self.warm.open(segment_id, row.compressed.table_bytes)
            elif tier is Tier.COLD and row.cold is not None and self.cold is not None:
                packed = self.cold.open(row.cold)
            else:
                return None
        except FileNotFoundError:
            if self._is_missing(row, tier):
                raise
            return None
        except ObjectNotFound as error:
            if self.remote.is_trimmed(row):
                return None
            raise self._lost(segment_id) from error
        whose = packed.stream_uuid, packed.base_offset, packed.end_offset
        self._check_identity(row, packed.path, whose, packed.segment_id)
        source = CachedSegment(packed, self.frames, self.signals.hydration)
        return ResidentSegment(segment_id, tier, source, True)

    def _open_hot(self, segment_id: int) -> ResidentSegment | None:
        # Once more where it was sealed between two looks.
        for _ in range(2):
            try:
                source = self._map(segment_id)
            except FileNotFoundError:
                row = self.manifest.index.segments.get(segment_id)
                if row is not None and self._is_missing(row, Tier.HOT):
                    raise
                return None
            row = self.manifest.index.segments.get(segment_id)
            if row is None or not row.sealed:
                # One that got its footer, but is not in the index yet, still changes its place.
                return ResidentSegment(segment_id, Tier.HOT, source, False)
            if source.footer is not None:
                footer = source.footer
                whose = source.header.stream_uuid, footer.base_offset, footer.end_offset
                self._check_identity(row, source.path, whose, source.header.file_id)
                return ResidentSegment(segment_id, Tier.HOT, source, True)
        raise SegmentCorrupt("it was sealed, but has no good footer", path=source.path)

    def _map(self, segment_id: int) -> MappedSegment:
        row = self.manifest.index.segments.get(segment_id)
        ring, written = None, None
        if row is None or not row.sealed:
            # Before the ring: where there is none, all that was appended until here is written out.
            unsealed = () if self.writer is None else self.unsealed()
            written = next((u.bytes for u in unsealed if u.segment_id == segment_id), None)
            ring = self.ring()
        return self.hot.open(segment_id, ring, written)

    def _check_identity(
        self, row: SegmentRow, path: str, whose: tuple[bytes, int, int], segment_id: int
    ) -> None:
        """A copy that belongs elsewhere is as good as none."""
        if whose != (self.identity.uuid, row.base_offset, row.end_offset) or (
            segment_id != row.segment_id
        ):
            raise SegmentCorrupt("it is another segment than its name says", path=path)

    # --- damage -----------------------------------------------------------------------------------

    def _is_missing(self, row: SegmentRow, tier: Tier) -> bool:
        """Whether a file that is not there was not dropped by us, nor by another process."""
        files = self.hot if tier is Tier.HOT else self.warm
        dropped = row.hot_evicted if tier is Tier.HOT else row.warm_evicted
        if self.writer is None or not row.sealed or dropped or self.remote.is_trimmed(row):
            return False
        return row.segment_id in files.sizes

    def ask_salvage(self, segment_id: int) -> Ticket:
        """Have what is whole of a damaged hot copy found on another thread; the ticket's outcome is
        a `ResidentSegment`, or the error that there is no such file."""
        wish: tuple[list[Hashable], Read] = (
            [(self.identity.uuid, "salvage", segment_id)],
            lambda _: [self.salvage(segment_id)],
        )
        return self.frames.ask(*wish, self.signals.hydration)

    def salvage(self, segment_id: int) -> ResidentSegment:
        """What is whole of a damaged hot copy; `FileNotFoundError` when there is none."""
        row = self.manifest.index.segments[segment_id]
        assert row.end_offset is not None
        source = SalvagedSegment(
            self.hot.directory,
            self.hot.name(segment_id),
            stream_uuid=self.identity.uuid,
            segment_id=segment_id,
            base_offset=row.base_offset,
            end_offset=row.end_offset,
            ext_id=row.ext_id,
        )
        return ResidentSegment(segment_id, Tier.HOT, source, True)

    # --- places -----------------------------------------------------------------------------------

    def locate(self, held: ResidentSegment, offset: int) -> int:
        """Position of a frame border at or before a record of a held segment."""
        position = None
        if not held.sealed:
            unsealed = self._tail if self.writer is None else self.writer
            position = unsealed.locate(held.segment_id, offset)
        return held.source.locate(offset) if position is None else position

    def locate_time(self, held: ResidentSegment, timestamp_ns: int) -> int:
        """Position of a frame border in a held segment before which every record is older."""
        position = None
        if not held.sealed:
            unsealed = self._tail if self.writer is None else self.writer
            position = unsealed.locate_time(held.segment_id, timestamp_ns)
        return held.source.locate_time(timestamp_ns) if position is None else position

    def ring(self) -> RingView | None:
        """The landing ring as it is now, for reading what is not written out yet."""
        if self._ring is None or self._ring.closed:
            self._ring = self.hot.open_ring(waits=self.writer is None)
        return self._ring

    # --- letting go -------------------------------------------------------------------------------

    def drop_open(self, segment_id: int) -> None:
        """Forget a held segment, so that the next reader gets it from where it is now."""
        with self.changed:
            for tier in Tier:
                self._open.pop((segment_id, tier), None)
        if self.points is not None:
            self.points.drop(segment_id)

    def forget(self, segment_id: int) -> None:
        """Drop what was remembered about a segment, one of whose copies has come or gone."""
        with self.changed:
            self._damaged.pop(segment_id, None)
        self.resort(segment_id)
        self.drop_open(segment_id)

    def ring_gone(self) -> None:
        """The landing ring was given back: let go of it, so that its bytes go too."""
        with self.changed:
            self._ring = None
            for unsealed in self.unsealed():
                self._open.pop((unsealed.segment_id, Tier.HOT), None)

    def let_go(self) -> None:
        """Hold nothing any more."""
        if self.points is not None:
            self.points.close()
        with self.changed:
            self._open.clear()
        self._ring = None
