"""The hot tier of one stream: `.seg` files and the landing ring below `segments/`."""

from __future__ import annotations

from aof2._core import logfile, seal
from aof2._core.directory import Directory
from aof2._core.mapping import MappedSegment
from aof2._core.ringview import RingView
from aof2._core.seal import FooterInfo, PointerInfo
from aof2.admission import Budget, on_disk
from aof2.streamdir import hot_ids, hot_name
from aof2.types import StreamIdentity

RING_NAME = "landing.ring"
POINTER_NAME = "current.sealed"


class HotTier:
    """Files of tier 0; knows names and sizes, decides nothing.

    Attributes:
        sizes: Bytes that each segment file takes on disk, by segment id.
        ring_bytes: Bytes that the landing ring takes.
    """

    def __init__(self, directory: Directory, identity: StreamIdentity, budget: Budget) -> None:
        self.directory = directory
        self.sizes: dict[int, int] = {}
        self.ring_bytes = 0
        self._identity = identity
        self._budget = budget

    @staticmethod
    def name(segment_id: int) -> str:
        """File name of a segment."""
        return hot_name(segment_id)

    def ids(self) -> list[int]:
        """Ids of the segment files that are there, ascending."""
        return hot_ids(self.directory)

    def prepare(self, segment_id: int, file_bytes: int, created_ns: int) -> None:
        """Make the file of the next segment; its bytes must be admitted already."""
        logfile.prepare(
            self.directory,
            self.name(segment_id),
            kind="segment",
            stream_uuid=self._identity.uuid,
            file_id=segment_id,
            file_bytes=file_bytes,
            created_ns=created_ns,
        )
        self.sizes[segment_id] = file_bytes

    def adopt(self, segment_id: int) -> None:
        """Account for a file that is there already."""
        self.resize(segment_id, self.directory.size(self.name(segment_id)))

    def resize(self, segment_id: int, file_bytes: int) -> None:
        """Account for a file's size as it is now, e.g. after the seal cut it."""
        taken = on_disk(file_bytes)
        self._budget.charge(taken - self.sizes.get(segment_id, 0))
        self.sizes[segment_id] = taken

    def evict(self, segment_id: int) -> None:
        """Drop a file's name; who holds a mapping goes on reading."""
        self.directory.unlink(self.name(segment_id), missing_ok=True)
        self.forget(segment_id)

    def forget(self, segment_id: int) -> None:
        """Account for a file that is not there any more."""
        self._budget.release(self.sizes.pop(segment_id, 0))

    def set_ring(self, ring_bytes: int) -> None:
        """Account for the landing ring."""
        self._budget.charge(ring_bytes - self.ring_bytes)
        self.ring_bytes = ring_bytes

    def open(self, segment_id: int, ring: RingView | None = None) -> MappedSegment:
        """Map a segment; `FileNotFoundError` when its name has gone."""
        return MappedSegment(self.directory, self.name(segment_id), ring)

    def open_ring(self) -> RingView | None:
        """The landing ring, None when there is none or it is of no use."""
        try:
            return RingView(self.directory, RING_NAME, self._identity.uuid)
        except FileNotFoundError:
            return None
        except ValueError:
            # Half made when the machine stopped; its contents are in the segment files or never
            # were.
            return None

    def write_pointer(self, segment_id: int, footer: FooterInfo, epoch: int) -> None:
        """Let `current.sealed` name the newest sealed segment."""
        self.directory.replace(
            POINTER_NAME,
            seal.encode_pointer(
                self._identity.uuid,
                segment_id,
                footer.end_offset,
                footer.file_bytes,
                footer.coordinator_watermark,
                epoch,
            ),
        )

    def read_pointer(self) -> PointerInfo | None:
        """What `current.sealed` says, None when it is missing or damaged: it is only a hint."""
        try:
            data = self.directory.read(POINTER_NAME, limit=4096)
        except OSError:
            return None
        return seal.decode_pointer(data, self._identity.uuid)
