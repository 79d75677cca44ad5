"""Recovery: what opening a stream for writing does, by the evidence that files give.

Files are facts, records are decisions. A tail is cut only where nothing shows that a flush ever
covered it; anything else is a typed corruption error. Running it again, or after being cut itself,
ends the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from aof2._core import scan, seal
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2._core.ring import RING_NAME
from aof2._core.ringview import RingView
from aof2._core.scan import Scan
from aof2._core.seal import FooterInfo
from aof2.clock import Clock
from aof2.copies import recover_copies
from aof2.errors import AofError, SegmentCorrupt
from aof2.tiers.evidence import Unfinished, durable_offset, find_damage, lost_its_start
from aof2.tiers.instance import StreamInstance
from aof2.types import RecoveryReport

LOGGER = logging.getLogger("aof2.tier0")
QUARANTINE_BYTES_MAX = 64 * 1024 * 1024


@dataclass
class Recovered:
    """What recovery hands to the writer: where to go on.

    Attributes:
        report: For the user.
        next_offset: Offset of the next record.
        previous: `(segment id, END position, end offset, chain crc)` of the last sealed segment, or
            None.
        resume: Segment that a clean close left open, with its scan; None to begin a fresh one.
        last_id: Largest segment id that was ever used.
    """

    report: RecoveryReport
    next_offset: int
    previous: tuple[int, int, int, int] | None
    resume: tuple[int, Scan] | None
    last_id: int


@dataclass
class _Found:
    """What the pass over `segments/` has seen so far."""

    clean: bool = True
    truncated_bytes: int = 0
    quarantine: list[str] = field(default_factory=list)
    previous: tuple[int, int, int, int] | None = None
    resume: tuple[int, Scan] | None = None
    next_offset: int = 0


class Recovery:
    """One recovery of one stream, before its writer exists."""

    def __init__(
        self,
        stream: StreamInstance,
        quarantine: Directory,
        clock: Clock,
        *,
        takeover: bool = False,
    ) -> None:
        self._stream = stream
        self._takeover = takeover
        self._hot = stream.hot
        self._quarantine = quarantine
        self._clock = clock
        self._found = _Found()

    def run(self) -> Recovered:
        """Bring the stream's files into order; see the module's text.

        Raises:
            CorruptionError: bytes that must be there are not; nothing was changed that matters.
        """
        began_s = self._clock.monotonic_s()
        stream, found = self._stream, self._found
        for directory in (self._hot.directory, stream.warm.directory):
            for name in directory.names():
                if name.startswith(".tmp-"):
                    directory.unlink(name)
        ids = self._hot.ids()
        unsealed = [segment_id for segment_id in ids if not self._take_sealed(segment_id)]
        self._set_previous()
        self._recover_tail(unsealed)
        self._hot.directory.unlink(RING_NAME, missing_ok=True)
        recover_copies(self._stream, self._to_quarantine, takeover=self._takeover)
        self._check_pointer()
        stream.manifest.flush()
        newest = stream.manifest.index.last()
        last_ids = [*ids, 0]
        if newest is not None:
            # The place of one that was opened and never sealed is taken by the next.
            last_ids.append(newest.segment_id - (0 if newest.sealed else 1))
        report = RecoveryReport(
            clean=found.clean,
            records=found.next_offset - stream.first_offset,
            truncated_bytes=found.truncated_bytes + stream.manifest.replay.truncated_bytes,
            quarantine=tuple(found.quarantine),
            takeover=self._takeover,
            duration_s=self._clock.monotonic_s() - began_s,
            replay=stream.manifest.replay,
        )
        if not report.clean:
            LOGGER.warning(
                "stream %s was not closed: %d records, %d bytes of an unfinished write cut",
                stream.name,
                report.records,
                report.truncated_bytes,
                extra={"event": "recovered", "stream": stream.name},
            )
        return Recovered(report, found.next_offset, found.previous, found.resume, max(last_ids))

    # --- sealed segments ------------------------------------------------------------------------

    def _take_sealed(self, segment_id: int) -> bool:
        """Account for a segment that has a good footer; False when it has none and is not
        recorded."""
        name = self._hot.name(segment_id)
        row = self._stream.manifest.index.segments.get(segment_id)
        try:
            footer = seal.read_footer(self._hot.directory, name)
        except SegmentCorrupt as error:
            if row is None or not row.sealed:
                raise
            self._set_aside_damaged(segment_id, error)
            return True
        if row is not None and row.sealed:
            if (
                footer is None
                or footer.end_offset != row.end_offset
                or footer.before_crc64 != row.segment_crc64
            ):
                self._set_aside_damaged(
                    segment_id,
                    SegmentCorrupt(
                        "the segment does not agree with its record in the manifest",
                        stream=self._stream.name,
                        segment=segment_id,
                        path=self._hot.directory.join(name),
                        offset=row.base_offset,
                    ),
                )
            else:
                self._hot.adopt(segment_id)
            return True
        if footer is None:
            return False
        # The crash came between the footer and the record, maybe before the footer's last sync.
        self._found.clean = False
        seal.prove(self._hot.directory, name)
        self._record_seal(segment_id, footer)
        return True

    def _set_aside_damaged(self, segment_id: int, error: AofError) -> None:
        """Keep a damaged hot copy aside if another tier has the segment, else refuse to open."""
        row = self._stream.manifest.index.segments[segment_id]
        if row.compressed is None or not (
            row.cold is not None or segment_id in self._stream.warm.ids()
        ):
            raise error
        LOGGER.error("%s; another tier serves it", error, extra={"event": "hot_copy_damaged"})
        self._to_quarantine(self._hot.directory, self._hot.name(segment_id))

    def _record_seal(self, segment_id: int, footer: FooterInfo) -> None:
        """Let the manifest know a sealed segment; the pointer follows."""
        stream, manifest = self._stream, self._stream.manifest
        end = stream.sealed_end()
        if footer.base_offset != end:
            raise SegmentCorrupt(
                f"the segment begins at offset {footer.base_offset}, but the one before it ends at "
                f"{end}: a segment between them is missing",
                stream=stream.name,
                segment=segment_id,
                path=self._hot.directory.join(self._hot.name(segment_id)),
                offset=end,
            )
        self._hot.adopt(segment_id)
        epoch = stream.identity.epoch
        self._hot.write_pointer(segment_id, footer, epoch)
        manifest.append(
            RecordType.SEGMENT_OPENED,
            segment_id,
            footer.base_offset,
            base_offset=footer.base_offset,
            epoch=epoch,
        )
        manifest.append(
            RecordType.SEAL_SEGMENT,
            segment_id,
            footer.end_offset,
            **stream.sealed_footer(segment_id, footer, footer.coordinator_watermark),
        )
        manifest.flush()

    def _set_previous(self) -> None:
        """Where the sealed part of the stream ends."""
        self._found.next_offset = self._stream.sealed_end()
        newest = self._stream.manifest.index.last_sealed()
        if newest is not None and newest.segment_id in self._hot.sizes:
            last = newest.segment_id
            footer = seal.read_footer(self._hot.directory, self._hot.name(last))
            if footer is not None:
                self._found.previous = (
                    last,
                    footer.end_position,
                    footer.end_offset,
                    footer.chain_crc,
                )

    # --- the tail -------------------------------------------------------------------------------

    def _recover_tail(self, unsealed: list[int]) -> None:
        """Started segments without a footer, oldest first."""
        ring = self._hot.open_ring(waits=True)
        scans: list[tuple[int, Scan]] = []
        unstarted: list[int] = []
        for segment_id in unsealed:
            name = self._hot.name(segment_id)
            found = scan.scan(self._hot.directory, name, ring=ring, look_ahead=True)
            if found is None:
                # Prepared, never started: nothing was ever in it.
                unstarted.append(segment_id)
            else:
                scans.append((segment_id, found))
        durable = durable_offset(self._hot.read_pointer(), ring)
        unfinished = Unfinished(scans, unstarted, self._found.next_offset, durable)
        damage = find_damage(self._stream.name, self._hot, unfinished)
        if damage is not None:
            raise damage  # Before anything is changed.
        self._recover_started(unfinished, ring)
        if ring is not None:
            # Readers that follow have it mapped; `run` takes its name away.
            ring.retire()
        for segment_id in unstarted:
            self._hot.directory.unlink(self._hot.name(segment_id))

    def _recover_started(self, unfinished: Unfinished, ring: RingView | None) -> None:
        scans = unfinished.started
        for at, (segment_id, found) in enumerate(scans):
            if lost_its_start(unfinished, at, self._found.next_offset):
                self._found.truncated_bytes += found.begun_bytes
                self._set_aside_from(at, scans)
                return
            if found.whole:
                self._finish(segment_id, found, ring)
                continue
            if found.records == 0:
                # Its very first frame is torn, so nothing in it was ever acknowledged.
                self._found.truncated_bytes += found.torn_end - found.end_position
                self._set_aside_from(at, scans)
                return
            if at + 1 == len(scans) and ring is None and found.clean:
                self._found.resume = (segment_id, found)
                self._found.next_offset = found.end_offset
                self._hot.adopt(segment_id)
            else:
                # The newest first, and before the cut is sealed: whenever this ends, what is left
                # continues what is there.
                self._set_aside_from(at + 1, scans)
                self._cut(segment_id, found)
                self._finish(segment_id, found, ring)
            return

    def _set_aside_from(self, at: int, scans: Sequence[tuple[int, Scan]]) -> None:
        """Move started segments behind a cut out of the way; none of them holds a witness."""
        for segment_id, _ in reversed(scans[at:]):
            self._to_quarantine(self._hot.directory, self._hot.name(segment_id))

    def _cut(self, segment_id: int, found: Scan) -> None:
        """Keep the bytes of an unfinished last write aside; `finish` then clears them."""
        self._found.clean = False
        if found.torn_end <= found.end_position:
            return
        # What came from the ring is valid; only the bytes behind it are cut.
        cut = scan.read_bytes(
            self._hot.directory, self._hot.name(segment_id), found.end_position, found.torn_end
        )
        self._found.truncated_bytes += len(cut)
        name = f"{segment_id:020d}-{found.end_position}-{self._clock.now_ns()}.torn"
        if self._quarantine_room(len(cut)):
            self._quarantine.create(name, cut)
            self._quarantine.sync()
            self._found.quarantine.append(name)

    def _finish(self, segment_id: int, found: Scan, ring: RingView | None) -> None:
        """Write out what only the ring has, prove the rest to the device, seal, record."""
        name = self._hot.name(segment_id)
        self._found.clean = False
        if found.ring_from and ring is not None:
            scan.write_out_ring(self._hot.directory, name, found, ring)
        footer = seal.read_footer(self._hot.directory, name, found)
        if footer is None or footer.file_bytes != self._hot.directory.size(name):
            footer = seal.finish(self._hot.directory, name, found, now_ns=self._clock.now_ns())
        self._record_seal(segment_id, footer)
        self._found.next_offset = footer.end_offset
        self._found.previous = (
            segment_id,
            footer.end_position,
            footer.end_offset,
            footer.chain_crc,
        )

    # --- the rest -------------------------------------------------------------------------------

    def _check_pointer(self) -> None:
        """Repair the pointer where it is missing, damaged or stale; it is a hint."""
        newest = self._stream.manifest.index.last_sealed()
        if newest is None:
            return
        pointer, last = self._hot.read_pointer(), newest.segment_id
        if (pointer is None or pointer.segment_id != last) and last in self._hot.sizes:
            footer = seal.read_footer(self._hot.directory, self._hot.name(last))
            if footer is not None:
                closed = 0 if pointer is None else pointer.closed_offset
                self._hot.write_pointer(last, footer, self._stream.identity.epoch, closed)

    def _quarantine_room(self, n: int) -> bool:
        """Whether `n` bytes more may be kept; beyond the cap they are only logged."""
        held = sum(self._quarantine.size(name) for name in self._quarantine.names())
        if held + n <= QUARANTINE_BYTES_MAX:
            return True
        LOGGER.error(
            "quarantine of stream %s is full (%d bytes): %d bytes are not kept",
            self._stream.name,
            held,
            n,
            extra={"event": "quarantine_full"},
        )
        return False

    def _to_quarantine(self, directory: Directory, name: str) -> None:
        """Move a file that cannot be used out of the way; it is never deleted."""
        self._found.clean = False
        kept = f"{name}.{self._clock.now_ns()}"
        directory.rename(name, kept, self._quarantine)
        self._quarantine.sync()
        directory.sync()
        self._found.quarantine.append(kept)
