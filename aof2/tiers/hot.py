"""The hot tier of one stream: `.seg` files and the landing ring below `segments/`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from aof2._core import compressed, logfile
from aof2._core.compressed import CompressedInfo
from aof2._core.directory import Directory
from aof2._core.download import download
from aof2._core.mapping import MappedSegment
from aof2._core.pointer import PointerInfo, encode_pointer
from aof2._core.ring import RING_NAME
from aof2._core.ringview import RingView
from aof2._core.seal import FooterInfo
from aof2.admission import AdmissionGuard, Budget
from aof2.manifest.index import ColdCopy
from aof2.streamdir import POINTER_NAME, hot_ids, hot_name, read_pointer
from aof2.tiers.files import TierFiles
from aof2.types import StreamIdentity

PAGE_BYTES = 4096
"""The ring's header page, beside its bytes."""


class HotTier(TierFiles):
    """Files of tier 0; knows names and sizes, decides nothing.

    Attributes:
        sizes: Bytes that each segment file takes on disk, by segment id.
    """

    def __init__(self, directory: Directory, identity: StreamIdentity, budget: Budget) -> None:
        super().__init__(directory, budget)
        self._identity = identity
        self._ring: AdmissionGuard | None = None
        self._next_ring: AdmissionGuard | None = None
        self._lock = threading.Lock()

    @staticmethod
    def name(segment_id: int) -> str:
        """File name of a segment."""
        return hot_name(segment_id)

    def file_name(self, segment_id: int) -> str:
        """File name of a segment."""
        return hot_name(segment_id)

    def ids(self) -> list[int]:
        """Ids of the segment files that are there, ascending."""
        return hot_ids(self.directory)

    def prepare(self, segment_id: int, guard: AdmissionGuard, created_ns: int) -> None:
        """Make the file of the next segment, as large as its claim."""
        logfile.prepare(
            self.directory,
            self.name(segment_id),
            kind="segment",
            stream_uuid=self._identity.uuid,
            file_id=segment_id,
            file_bytes=guard.bytes,
            created_ns=created_ns,
        )
        self.take(segment_id, guard, guard.bytes)

    def restore(
        self,
        segment_id: int,
        warm: TierFiles,
        guard: AdmissionGuard,
        expect: CompressedInfo,
        stop: Callable[[], bool],
    ) -> None:
        """Make the file of a sealed segment again from its warm file, verified on the way.

        At least its size is claimed; what it does not need of that goes back.
        """
        name = warm.file_name(segment_id)
        self._unpack(warm.directory, name, segment_id, guard, expect, stop)

    def restore_object(
        self,
        segment_id: int,
        fetch: Callable[[int, int], bytes],
        copy: ColdCopy,
        guard: AdmissionGuard,
        expect: CompressedInfo,
        stop: Callable[[], bool],
    ) -> None:
        """The same from its object, whose bytes lie beside it as a temporary file meanwhile.

        The sizes of both are claimed.
        """
        packed = f".tmp-{self.name(segment_id)}.zst"
        download(fetch, copy.size, self.directory, packed, key=copy.key, stop=stop)
        try:
            self._unpack(self.directory, packed, segment_id, guard, expect, stop)
        finally:
            self.directory.unlink(packed, missing_ok=True)

    def _unpack(
        self,
        directory: Directory,
        name: str,
        segment_id: int,
        guard: AdmissionGuard,
        expect: CompressedInfo,
        stop: Callable[[], bool],
    ) -> None:
        # Contents, compared with all checksums, fdatasync, rename, fsync of the directory.
        compressed.restore(
            directory, name, self.directory, self.name(segment_id), expect=expect, stop=stop
        )
        self.take(segment_id, guard, expect.raw_bytes)

    # --- the landing ring -----------------------------------------------------------------------

    @property
    def ring_bytes(self) -> int:
        """Bytes that are claimed for the landing ring, and for the one that follows it."""
        return sum(guard.bytes for guard in (self._ring, self._next_ring) if guard is not None)

    def claim_ring(self, *ring_bytes: int) -> int:
        """Claim the first of some sizes that fits for the ring that is made next.

        Returns:
            The size, or a larger one that was claimed before; 0 when none fits.
        """
        with self._lock:
            guard = self._next_ring
            if guard is not None:
                if guard.bytes - PAGE_BYTES >= min(ring_bytes):
                    return guard.bytes - PAGE_BYTES
                guard.drop()
                self._next_ring = None
            for size in ring_bytes:
                guard = self.budget.claim(size + PAGE_BYTES)
                if guard is not None:
                    self._next_ring = guard.keep()
                    return size
            return 0

    def set_ring(self, file_bytes: int) -> None:
        """The ring's file has this size now, and none is being made; 0: there is no file."""
        with self._lock:
            before, following = self._ring, self._next_ring
            if before is not None and file_bytes == before.bytes:
                self._next_ring = None
                if following is not None:
                    following.drop()
                return
            self._ring, self._next_ring = following, None
            if before is not None:
                before.drop()
            if file_bytes == 0:
                self._ring = None
                if following is not None:
                    following.drop()
                return
            if self._ring is None:
                self._ring = self.budget.charge(file_bytes)
            self._ring.resize(file_bytes)

    def open(
        self, segment_id: int, ring: RingView | None = None, written: int | None = None
    ) -> MappedSegment:
        """Map a segment; `FileNotFoundError` when its name has gone.

        Args:
            segment_id: Which one.
            ring: The landing ring, for one that is being written.
            written: Up to where one that is being written is in its file, while there is no ring.
        """
        if written is not None and ring is None:
            mapped = MappedSegment(self.directory, self.name(segment_id), None, written)
        else:
            mapped = MappedSegment(self.directory, self.name(segment_id), ring)
        return self.lend(segment_id, mapped)

    def open_ring(self, *, waits: bool = False) -> RingView | None:
        """The landing ring, None when there is none or it is of no use; `waits` as for `RingView`.
        """
        try:
            return RingView(self.directory, RING_NAME, self._identity.uuid, waits=waits)
        except FileNotFoundError:
            return None
        except ValueError:
            # Half made when the machine stopped; its contents are in the segment files or never
            # were.
            return None

    def write_pointer(
        self, segment_id: int, footer: FooterInfo, epoch: int, closed_offset: int = 0
    ) -> None:
        """Let `current.sealed` name the newest sealed segment."""
        self._replace_pointer(
            PointerInfo(
                segment_id,
                footer.end_offset,
                footer.file_bytes,
                footer.coordinator_watermark,
                epoch,
                closed_offset,
            )
        )

    def note_close(self, end_offset: int) -> None:
        """Let `current.sealed` say where the records end after a clean close.

        Nothing but the unsealed segment itself knows that else: a later open would take an older
        version of it, or none, for all there is.
        """
        pointer = self.read_pointer() or PointerInfo(0, 0, 0, 0, 0)
        if end_offset > max(pointer.end_offset, pointer.closed_offset):
            self._replace_pointer(pointer._replace(closed_offset=end_offset))

    def _replace_pointer(self, info: PointerInfo) -> None:
        self.directory.replace(POINTER_NAME, encode_pointer(self._identity.uuid, info))

    def read_pointer(self) -> PointerInfo | None:
        """What `current.sealed` says, None when it is missing or damaged: it is only a hint."""
        return read_pointer(self.directory, self._identity.uuid)
