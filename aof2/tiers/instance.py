"""One stream as both sides see it: readers and writers above, the coordinator beside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from aof2._core.directory import Directory
from aof2._core.seal import FooterInfo
from aof2.admission import on_disk
from aof2.errors import OffsetOutOfRange, WouldBlockKind
from aof2.framecache import FrameCache
from aof2.manifest.log import Manifest
from aof2.meters import Meters
from aof2.seals import Seals
from aof2.signals import StreamSignals
from aof2.tiers.cold import ColdTier
from aof2.tiers.holding import Holding
from aof2.tiers.hot import HotTier
from aof2.tiers.pace import Pace
from aof2.tiers.remote import RemoteSide
from aof2.tiers.retention import Retention
from aof2.tiers.tail import Unsealed
from aof2.tiers.warm import WarmTier
from aof2.types import SegmentInfo, SegmentState, StreamIdentity, Tier

DAMAGE_LOOKS_MAX = 5
"""So often a readonly stream looks at an end that seems damaged before it goes on without one."""
FIND_LOOKS_MAX = 100
"""So often a readonly stream looks anew for an offset that the landing ring says is there."""


class StreamInstance(Holding):
    """What is known about one stream's segments, over all tiers.

    Attributes:
        why_no_segment: Asks for a segment that takes a frame of so many bytes, and says what an
            append waits for.
        spare_needed: Bytes of the largest frame that waits for a segment; 0 when none is wanted.
        ring_needed: Size of the landing ring's file that an append waits for; 0 when it has one.
        ring_failed: The append could not make it, the coordinator tries again.
        blocked_since_s: Since when an append waits for either, in monotonic seconds; 0 when none.
        granted_ns: When what an append had waited for was last made ready for it.
        size_steps: Doublings of the segment size so far.
        remote: The published manifest, and what is to go from tier 2.
        pace: How fast it is appended to.
        retention: What of the beginning is to be given up.
        failures: The newest failure of each kind of background work for this stream, oldest first;
            a success of the same kind takes it away.
        seals: Acknowledgements of seals that were asked for.
    """

    def __init__(
        self,
        identity: StreamIdentity,
        directory: Directory,
        manifest: Manifest,
        hot: HotTier,
        warm: WarmTier,
        cold: ColdTier | None,
        remote: RemoteSide,
        signals: StreamSignals,
        frames: FrameCache,
        meters: Meters,
    ) -> None:
        super().__init__(identity, manifest, hot, warm, cold, remote, signals, frames, meters)
        self.directory = directory
        self.pace = Pace()
        self.retention = Retention(manifest, remote)
        self.spare_needed = 0
        self.why_no_segment: Callable[[int], WouldBlockKind] = lambda frame_bytes: (
            WouldBlockKind.ROLLOVER
        )
        self.ring_needed = 0
        self.ring_failed = False
        self.blocked_since_s = 0.0
        self.granted_ns = 0
        self.spare_id = 0
        self.size_steps = 0
        self.failures: dict[object, BaseException] = {}
        self.seals = Seals(identity.name)
        self.owned: list[Directory] = []
        self.closed = False
        self.forked = False

    # --- offsets --------------------------------------------------------------------------------

    @property
    def first_offset(self) -> int:
        """The earliest offset there is."""
        return self.manifest.index.first_offset

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        if self.writer is not None:
            return self.writer.next_offset
        return self._tail.offsets(self.ring(), self.sealed_end())[0]

    @property
    def durable_offset(self) -> int:
        """Offset below which records are on the local disk."""
        if self.writer is not None:
            return self.writer.durable_offset
        return self._tail.offsets(self.ring(), self.sealed_end())[1]

    @property
    def remote_offset(self) -> int:
        """Offset below which every record is in a verified object that a published chunk names."""
        return self.remote.offset

    def sealed_end(self) -> int:
        """Offset just past the last sealed segment."""
        row = self.manifest.index.last_sealed()
        return 0 if row is None or row.end_offset is None else row.end_offset

    def unsealed(self) -> list[Unsealed]:
        """Started segments without a seal, oldest first."""
        if self.writer is None:
            self._tail.offsets(self.ring(), self.sealed_end())
            return self._tail.segments
        return [Unsealed(s[0], s[1], s[2], s[3], s[4]) for s in self.writer.unsealed()]

    def find(self, offset: int) -> tuple[int, bool]:
        """`(segment id, sealed)` of the segment that holds an offset.

        The offset just past the last record belongs to the active segment, where there is one.

        Raises:
            OffsetOutOfRange: it is below the first or beyond the next offset.
        """
        # A seal may happen between the two looks; then the second pass finds it in the index.
        for _ in range(2 if self.writer is not None else FIND_LOOKS_MAX):
            row = self.manifest.index.find_by_offset(offset)
            if row is not None and row.sealed:
                return row.segment_id, True
            for segment in reversed(self.unsealed()):
                if segment.base_offset <= offset and (
                    not segment.ended or offset < segment.end_offset
                ):
                    return segment.segment_id, False
            if self.writer is None:
                # The writing process went on since the last look, perhaps into another segment.
                self.refresh()
                if offset > self.next_offset:
                    break
        raise self.out_of_range(offset)

    def out_of_range(self, offset: int) -> OffsetOutOfRange:
        """The error for an offset that the stream does not hold."""
        first, following = self.first_offset, self.next_offset
        return OffsetOutOfRange(
            f"the stream holds offsets {first} to {following}, half-open",
            first=first,
            next=following,
            offset=offset,
            stream=self.name,
        )

    def lowest(self) -> Tier:
        """The lowest tier that a read of any segment may have to go to."""
        nearest = (min(info.residency, default=Tier.COLD) for info in self.infos())
        return max(nearest, default=Tier.HOT)

    def next_after(self, segment_id: int) -> int | None:
        """Id of the segment that follows, None when there is none yet."""
        following = [u.segment_id for u in self.unsealed() if u.segment_id > segment_id]
        row = self.manifest.index.next_row(segment_id)
        if row is not None and row.sealed:
            return row.segment_id
        return min(following, default=None)

    # --- residency ------------------------------------------------------------------------------

    def infos(self) -> Iterator[SegmentInfo]:
        """The residency map, oldest first."""
        unsealed = self.unsealed()
        for row in self.manifest.index.rows():
            if not row.sealed or row.end_offset is None or self.remote.is_trimmed(row):
                continue
            held = self.residency(row)
            yield SegmentInfo(
                row.segment_id,
                row.base_offset,
                row.end_offset,
                row.raw_bytes,
                True,
                held,
                self._state(row, held),
                None if row.cold is None else row.cold.key,
            )
        for u in unsealed:
            if u.base_offset >= self.sealed_end():
                yield SegmentInfo(
                    u.segment_id,
                    u.base_offset,
                    u.end_offset,
                    u.bytes,
                    False,
                    frozenset((Tier.HOT,)),
                    SegmentState.ACTIVE,
                )

    def trimmed_copies(self) -> Iterator[tuple[int, Tier]]:
        """Local copies of segments that lie wholly below what was trimmed."""
        index = self.manifest.index
        if index.trimmed == 0:
            return
        for tier, ids in ((Tier.HOT, list(self.hot.sizes)), (Tier.WARM, list(self.warm.sizes))):
            for segment_id in ids:
                row = index.segments.get(segment_id)
                if row is not None and self.remote.is_trimmed(row):
                    yield segment_id, tier

    @property
    def last_error(self) -> BaseException | None:
        """The newest failure that no success has followed; None when all is well."""
        with self.changed:
            return next(reversed(self.failures.values()), None)

    def notify(self, kind: object, error: BaseException | None = None) -> None:
        """Note how background work of a kind ended, and wake everybody who waits for some."""
        with self.changed:
            self.failures.pop(kind, None)
            if error is not None:
                self.failures[kind] = error
        self.signals.work.wake()
        if self.writer is not None:
            self.writer.announce()

    # --- readonly -------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what the writing process has done since; only for a readonly instance."""
        if self.writer is None:
            for _ in range(DAMAGE_LOOKS_MAX):
                if self._refresh():
                    return

    def _refresh(self) -> bool:
        """One look at everything; False when what it saw at the end may be a moment's."""
        self.manifest.refresh()
        for tier in (self.hot, self.warm):
            present = tier.ids()
            for segment_id in set(tier.sizes) - set(present):
                tier.dropped(segment_id)
            for segment_id in present:
                try:
                    tier.adopt(segment_id)
                except FileNotFoundError:
                    # The writing process dropped it between the two looks.
                    continue
        ring = self.ring()
        self.hot.set_ring(0 if ring is None or ring.closed else on_disk(ring.ring_bytes + 1))
        last = self.manifest.index.last_sealed()
        after = 0 if last is None else last.segment_id
        return self._tail.refresh(after, self.sealed_end(), self.ring())

    def is_written_to(self, segment_id: int) -> bool:
        """Whether the landing ring says that another process appends to this very segment, so that
        the ring has all that is new."""
        ring = self.ring()
        return ring is not None and not ring.closed and ring.segment_id == segment_id

    def check_end(self, offset: int) -> None:
        """For a reader at the end: whether it is one.

        Raises:
            CorruptionError, FormatError: more was durable there, and cannot be read.
        """
        damage = self._tail.damage
        if damage is not None and offset >= self.next_offset:
            raise copy.copy(damage)

    def close(self) -> None:
        """Close manifest and directories; the writer is closed before."""
        self.closed = True
        self.let_go()
        self.manifest.close()
        for directory in (self.hot.directory, self.warm.directory, self.directory, *self.owned):
            directory.close()

    def sealed_footer(self, segment_id: int, footer: FooterInfo, watermark: int) -> dict[str, int]:
        """Fields of the `SealSegment` record of a segment."""
        return {
            "durable_bytes": footer.file_bytes,
            "segment_crc64": footer.before_crc64,
            "ext_id": footer.ext_id,
            "coordinator_watermark": watermark,
            "flush_failure": int(footer.flush_failure),
        }
