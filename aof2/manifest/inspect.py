"""Looking into a manifest: chunks, records in order, objects, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aof2._core.chunk_read import ABSENT, SEALED
from aof2._core.directory import Directory
from aof2.config import Tier2Config
from aof2.errors import CorruptionError, FormatError, ManifestCorrupt, StreamNotFound
from aof2.manifest.chunks import ChainPoint, chunk_ids, chunk_name
from aof2.manifest.chunkview import CORRUPT, ChunkInfo, ChunkView, InspectedRecord, view_chunk
from aof2.manifest.findings import (
    ERROR,
    WARNING,
    Finding,
    check_files,
    check_objects,
    check_published,
)
from aof2.manifest.index import Index, SegmentRow
from aof2.manifest.mirror import MIRROR_NAME, differences, read_mirror
from aof2.manifest.rebuild import manifest_directory
from aof2.manifest.snapshot import Loaded, head_name, load, snapshot_numbers
from aof2.objectstore import ObjectStore, open_tier2
from aof2.streamdir import read_identity, stream_directory

NOTHING = dataclasses.astuple(ChainPoint())
"""What the first chunk of a manifest continues."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot of a manifest's index, and whether all of its bytes are right.

    Attributes:
        number: Its number.
        path: File of its head.
        bytes: Size of the head and of the pages that it names.
        covers_chunk: Newest chunk that it contains; None where that cannot be read.
        records: Records that it contains; None where that cannot be read.
        created_ns: When it was captured; None where that cannot be read.
        problem: What is wrong, None when nothing is.
    """

    number: int
    path: str
    bytes: int
    covers_chunk: int | None = None
    records: int | None = None
    created_ns: int | None = None
    problem: str | None = None


class ManifestInspector:
    """Looks into the manifest of one stream, beside whoever writes to it; changes nothing.

    Damage is reported, not raised: what can still be read is read. It takes no lock.

    Args:
        root: The directory that is given to `aof2.open`.
        stream: The stream's name.
        tier2: As for `aof2.open`; `check` then asks for each object too. None: it does not.

    Raises:
        StreamNotFound: there is no such stream.
        FormatError: the stream's `stream.json` cannot be understood.

    Example:
        >>> with ManifestInspector("data", "orders") as inspector:  # doctest: +SKIP
        ...     for record in inspector.records(segment=1):
        ...         print(record.type, record.fields)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        stream: str,
        *,
        tier2: str | os.PathLike[str] | Tier2Config | None = None,
    ) -> None:
        self._directories: list[Directory] = []
        self._store: ObjectStore | None = None
        place = os.path.join(os.path.abspath(root), stream_directory(stream))
        try:
            directory = self._hold(Directory(place))
        except OSError:
            raise StreamNotFound(f"there is no stream {stream!r}", path=place) from None
        try:
            self.identity = read_identity(directory, stream)
            self._manifest = self._hold(manifest_directory(directory))
            self._hot = self._hold(directory.subdir("segments"))
            self._warm = self._hold(directory.subdir("warm"))
            if tier2 is not None:
                self._store = open_tier2(tier2)
        except BaseException:
            self.close()
            raise

    def _hold(self, directory: Directory) -> Directory:
        self._directories.append(directory)
        return directory

    def close(self) -> None:
        """Give the directories back; again is harmless."""
        for directory in self._directories:
            directory.close()
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> ManifestInspector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ManifestInspector({self._manifest.path!r})"

    # --- what is there --------------------------------------------------------------------------

    def _views(self) -> Iterator[ChunkView]:
        for chunk_id in chunk_ids(self._manifest):
            view = view_chunk(self._manifest, self.identity, chunk_id)
            # A live writer removes chunks that snapshots cover.
            if view is not None:
                yield view

    def chunks(self) -> list[ChunkInfo]:
        """The chunks that are there, ascending, each with what it says and what is wrong with it.

        `OSError` when the disk fails.
        """
        return [view.info for view in self._views()]

    def snapshots(self) -> list[SnapshotInfo]:
        """The snapshots of the index that are there, newest first."""
        return [info for info, _ in self._snapshots()]

    def _snapshots(self) -> Iterator[tuple[SnapshotInfo, Loaded | None]]:
        """Each snapshot, newest first; with its index where it is good."""
        for number in snapshot_numbers(self._manifest):
            name = head_name(number)
            path = self._manifest.join(name)
            try:
                size = self._manifest.size(name)
                loaded = load(self._manifest, self.identity, number)
            except FileNotFoundError:
                continue  # A live writer removes snapshots that newer ones replace.
            except (CorruptionError, FormatError) as error:
                yield SnapshotInfo(number, path, size, problem=error.message), None
                continue
            head = loaded.head
            info = SnapshotInfo(
                number,
                path,
                size + sum(page.bytes for page in head.pages),
                head.covers[0],
                head.applied,
                head.created_ns,
            )
            yield info, loaded

    def records(self, segment: int | None = None) -> Iterator[InspectedRecord]:
        """Every record that can be read, in order, with its place.

        Args:
            segment: Only those about this segment; None: all.

        Behind a damaged place of a chunk, the next chunk is the next that is read. Records of
        chunks that snapshots made unnecessary are gone: the first that is there need not be 0.
        """
        for view in self._views():
            for record in view.records:
                if segment is None or record.segment_id == segment:
                    yield record

    def segments(self) -> tuple[list[SegmentRow], int]:
        """What the readable records say of each segment, by id, and how far the stream was
        trimmed."""
        fold = _Fold([loaded for _, loaded in self._snapshots() if loaded is not None])
        for _ in fold.take(self._views()):
            continue
        return list(fold.index.rows()), fold.index.trimmed

    def keys(self) -> list[str]:
        """Object keys that the records name, each once, in the order in which they appear."""
        return list(
            dict.fromkeys(
                record.fields["key"] for record in self.records() if record.fields.get("key")
            )
        )

    # --- what is wrong --------------------------------------------------------------------------

    def check(self, *, parity: bool = False) -> list[Finding]:
        """Everything that is not as it must be: in the chain of chunks, the records, the files, and
        with `tier2` in the bucket.

        Args:
            parity: Compare the JSON copy of the index with the log, too.

        Returns:
            Findings, errors and warnings; empty when all is well. What a live writer was just
            changing is looked at twice and told only when it stays.
        """
        found = self._check(parity)
        if found:
            again = set(self._check(parity))
            found = [finding for finding in found if finding in again]
        return found

    def _check(self, parity: bool) -> list[Finding]:
        snapshots = list(self._snapshots())
        fold = _Fold([loaded for _, loaded in snapshots if loaded is not None])
        found = list(fold.take(self._views()))
        found += [Finding(ERROR, s.path, s.problem) for s, _ in snapshots if s.problem is not None]
        if fold.last is None:
            found.append(Finding(ERROR, self._manifest.path, "there is no chunk"))
        elif fold.last.state == SEALED:
            name = chunk_name(fold.last.chunk_id + 1)
            found.append(
                Finding(
                    ERROR,
                    self._manifest.join(name),
                    "missing: a chunk is prepared before the one before it is sealed",
                    chunk_id=fold.last.chunk_id + 1,
                )
            )
        rows = list(fold.index.rows())
        beside: list[Finding] = list(check_files(rows, fold.index.trimmed, self._hot, self._warm))
        if self._store is not None:
            beside += check_objects(rows, self._store)
            found += check_published(self._manifest, self.identity, fold.sealed, self._store)
        if fold.broken:
            # The records that would explain it may be among those that cannot be read.
            beside = [Finding(WARNING, f.place, f.text, f.chunk_id, f.segment_id) for f in beside]
        found += beside
        if parity:
            found += self._check_parity([loaded for _, loaded in self._snapshots() if loaded])
        return found

    def _check_parity(self, snapshots: list[Loaded]) -> Iterator[Finding]:
        place = self._manifest.join(MIRROR_NAME)
        try:
            mirror = read_mirror(self._manifest)
        except ManifestCorrupt as error:
            yield Finding(ERROR, place, error.message)
            return
        if mirror is None:
            yield Finding(
                ERROR, place, "there is no JSON copy: manifest.log_only was never false at a close"
            )
            return
        fold = _Fold(snapshots, stop=int(mirror["records"]))
        for _ in fold.take(self._views()):
            pass
        if fold.index.applied > int(mirror["records"]):
            text = "the JSON copy is older than every good snapshot: it cannot be compared"
            yield Finding(WARNING, place, text)
            return
        for line in differences(mirror, fold.index):
            yield Finding(ERROR, place, line)


class _Fold:
    """Folds records as far as sense allows, and says where the chain is broken.

    Args:
        snapshots: The good ones, newest first. The oldest is where to begin, where the chunks from
            the beginning on are not there any more.
        stop: Take so many records of the manifest only.

    Attributes:
        index: What the records said.
        last: The newest chunk.
        sealed: Numbers of the chunks that are sealed and good.
        broken: True once something was missing or damaged.
    """

    def __init__(self, snapshots: list[Loaded], stop: int | None = None) -> None:
        self.index = Index()
        self._oldest = snapshots[-1] if snapshots else None
        self._covers = ChainPoint()
        self.last: ChunkInfo | None = None
        self.sealed: set[int] = set()
        self.broken = False
        self._stop = stop

    def take(self, views: Iterable[ChunkView]) -> Iterator[Finding]:
        """Take all chunks in, ascending."""
        for view in views:
            if self.last is None and view.info.previous != NOTHING and self._oldest is not None:
                self.index, self._covers = self._oldest.index, self._oldest.covers
            yield from self._check_chunk(view.info)
            if view.info.chunk_id > self._covers.chunk_id:
                yield from self._check_records(view)
            self.last = view.info
            if view.info.state == SEALED:
                self.sealed.add(view.info.chunk_id)

    def _break(self, info: ChunkInfo, text: str, position: int | None = None) -> Finding:
        self.broken = True
        place = info.path if position is None else f"{info.path}:{position}"
        return Finding(ERROR, place, text, chunk_id=info.chunk_id)

    def _check_chunk(self, info: ChunkInfo) -> Iterator[Finding]:
        before, covered = self.last, self._covers.chunk_id
        if info.problem is not None:
            yield self._break(info, info.problem, info.position)
        elif info.state == "torn":
            yield Finding(
                WARNING,
                f"{info.path}:{0 if info.end is None else info.end[1]}",
                f"{info.torn_bytes} bytes of an unfinished last write; the next open cuts them",
                chunk_id=info.chunk_id,
            )
        if before is not None and info.chunk_id != before.chunk_id + 1:
            yield self._break(
                info,
                f"chunks {before.chunk_id + 1} to {info.chunk_id - 1} before it are missing",
            )
        elif before is None and covered and info.chunk_id > covered + 1:
            yield self._break(
                info,
                f"chunks {covered + 1} to {info.chunk_id - 1}, behind the oldest good snapshot, "
                "are missing",
            )
        elif info.state not in (ABSENT, CORRUPT):
            yield from self._check_link(info, before)

    def _check_link(self, info: ChunkInfo, before: ChunkInfo | None) -> Iterator[Finding]:
        if before is None:
            covers = dataclasses.astuple(self._covers)
            # What a chunk within the covered part continues is gone, and nothing misses it.
            if info.chunk_id > self._covers.chunk_id and info.previous != covers:
                yield self._break(info, "it continues a chunk that is missing", 0)
        elif before.state not in (SEALED, CORRUPT):
            yield self._break(
                info, f"it was started, but chunk {before.chunk_id} before it is not sealed", 0
            )
        elif before.state == SEALED and info.previous != before.end:
            yield self._break(info, "it does not continue the chunk before it", 0)

    def _check_records(self, view: ChunkView) -> Iterator[Finding]:
        for record, payload in zip(view.records, view.payloads, strict=True):
            if self._stop is not None and record.number >= self._stop:
                return
            try:
                self.index.apply(payload)
            except (CorruptionError, FormatError) as error:
                # Behind damage, much cannot follow; that is one finding, not a thousand.
                if not self.broken:
                    finding = self._break(view.info, error.message, record.position)
                    yield finding
