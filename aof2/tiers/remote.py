"""What a stream has in tier 2 beside its segments: the published manifest, and what is to go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aof2._core.directory import Directory
from aof2.errors import Fenced
from aof2.manifest.index import SegmentRow
from aof2.manifest.log import Manifest
from aof2.manifest.publication import Publication
from aof2.manifest.remembered import read_remembered


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """How far the deletion of an object has come in this process.

    Attributes:
        records: Manifest records that must be published first; 0: not decided here yet.
        due_s: From when on the object may go, in monotonic seconds; None before that is known.
    """

    records: int = 0
    due_s: float | None = None


class RemoteSide:
    """One stream's publication, as the planner and those who wait for it see it.

    Attributes:
        publication: What publishes; None without a tier 2, and for a readonly stream.
        asked: True when somebody waits for a publication.
        due_s: The earliest time of the next publication, in monotonic seconds.
        deletes: Segments below what was trimmed whose object is still to be deleted.
        uploading: Segments whose upload is under way; nothing would delete what it leaves.
    """

    def __init__(self, manifest: Manifest, directory: Directory) -> None:
        self.publication: Publication | None = None
        self.asked = False
        self.due_s = 0.0
        self.deletes: dict[int, DeleteStep] = {}
        self.uploading: set[int] = set()
        self._manifest = manifest
        self._directory = directory
        self._noted = 0
        self._lock = threading.Lock()

    @property
    def offset(self) -> int:
        """Offset below which every record is in a verified object that a published chunk names."""
        if self.publication is not None:
            return self.publication.remote_offset
        known = read_remembered(self._directory)
        return 0 if known is None else known.remote_offset

    @property
    def is_ours(self) -> bool:
        """True once the stream is claimed, and as long as nobody has replaced us."""
        publication = self.publication
        return publication is not None and publication.epoch > 0 and publication.fenced is None

    @property
    def is_fenced(self) -> bool:
        """True once another writer has replaced us."""
        return self.publication is not None and self.publication.fenced is not None

    def check_ours(self) -> None:
        """Raise `Fenced` once another writer has replaced us."""
        if self.publication is not None and self.publication.fenced is not None:
            fenced = self.publication.fenced
            raise Fenced(fenced.message, epoch=fenced.epoch, path=fenced.path)

    def is_behind(self, *, uploads: bool) -> bool:
        """Whether tier 2 should hear from the manifest; `uploads` wait for the claim."""
        publication = self.publication
        if publication is None or publication.fenced is not None:
            return False
        ahead = self._manifest.index.cold_end > publication.remote_offset
        claim = publication.epoch == 0 and (uploads or bool(self.deletes))
        return ahead or self.asked or claim

    def note_trimmed(self) -> None:
        """Find the segments below what was trimmed whose object is still there."""
        if self._manifest.index.trimmed == 0:
            return
        for row in self._manifest.index.rows(self._noted):
            if not self.is_trimmed(row):
                break
            self.note_delete(row)
            self._noted += 1

    def note_delete(self, row: SegmentRow) -> None:
        """Have a segment's object deleted, if it is trimmed and there may be one."""
        if self.is_trimmed(row) and (row.upload_key is not None or row.cold is not None):
            self.deletes.setdefault(row.segment_id, DeleteStep())

    def keep_unpublished(self) -> None:
        """Without a tier 2 for now: keep what one that the stream had before does not have yet."""
        known = read_remembered(self._directory)
        if known is not None:
            self._manifest.published_chunk = known.chunk_id

    def is_trimmed(self, row: SegmentRow) -> bool:
        """Whether a segment lies wholly below what was trimmed."""
        return row.end_offset is not None and row.end_offset <= self._manifest.index.trimmed

    @contextmanager
    def uploading_of(self, segment_id: int) -> Iterator[SegmentRow | None]:
        """The turn to upload a segment: its row; None when there is nothing to upload (any more),
        when another writer replaced us, or while somebody else has the turn."""
        with self._lock:
            taken = segment_id in self.uploading
            self.uploading.add(segment_id)
        if taken:
            yield None
            return
        try:
            row = self._manifest.index.segments.get(segment_id)
            wanted = row is not None and row.cold is None and not self.is_trimmed(row)
            yield row if wanted and self.is_ours else None
        finally:
            self.uploading.discard(segment_id)
            row = self._manifest.index.segments.get(segment_id)
            if row is not None:
                # It may have been trimmed while the request was under way.
                self.note_delete(row)

    def due_deletes(self, now_s: float) -> list[int]:
        """Segments whose deletion can take its next step now."""
        publication = self.publication
        if publication is None or not self.is_ours:
            return []
        return [
            segment_id
            for segment_id, step in list(self.deletes.items())
            if step.records <= publication.published_records
            and (step.due_s is None or step.due_s <= now_s)
            and segment_id not in self.uploading
        ]

    def next_due_s(self, now_s: float, *, uploads: bool) -> float | None:
        """When something will be due that is not due yet; None: nothing will by itself."""
        times = []
        if self.is_ours:
            steps = list(self.deletes.values())
            times += [step.due_s for step in steps if step.due_s is not None]
        if self.is_behind(uploads=uploads):
            times.append(self.due_s)
        return min((time_s for time_s in times if time_s > now_s), default=None)
