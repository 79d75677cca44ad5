"""Verifying all copies of a stream, beside whoever writes to it: nothing is changed.

Each file or object is compared with what it says of itself and with what the manifest says of it.
What a live writer was just changing is looked at twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field

from aof2._core import compressed, seal
from aof2._core.checksum import crc64nvme
from aof2._core.directory import Directory
from aof2._core.medium import MediumReader
from aof2._core.ring import RING_NAME
from aof2._core.ringview import RingView
from aof2._core.scan import scan
from aof2.clock import Clock
from aof2.config import Tier2Config
from aof2.errors import AofError, CorruptionError, StreamNotFound
from aof2.manifest.findings import ERROR, Finding
from aof2.manifest.index import SegmentRow
from aof2.manifest.inspect import ManifestInspector
from aof2.manifest.rebuild import manifest_directory
from aof2.objectstore import ObjectStore, open_tier2
from aof2.streamdir import (
    hot_ids,
    hot_name,
    read_pointer,
    stream_directory,
    stream_names,
    warm_ids,
    warm_name,
)
from aof2.tiers.evidence import durable_offset, missing
from aof2.types import Tier

OBJECT_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Damage:
    """A copy of a segment that is not what it must be.

    Attributes:
        stream, segment_id, tier: Which copy.
        place: File or object key.
        text: What is wrong, with the position where that is known.
        good_on: Tiers whose copy of the segment was read and is good.
    """

    stream: str
    segment_id: int
    tier: Tier
    place: str
    text: str
    good_on: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read, and what was wrong.

    Attributes:
        streams, copies, bytes: How many streams, copies of segments, and bytes of them were read.
        damage: Copies that are damaged.
        findings: What is wrong with manifests, and with what they say of files and objects.
        seconds: How long it took.
    """

    streams: int
    copies: int
    bytes: int
    damage: tuple[Damage, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def is_good(self) -> bool:
        """True when no copy is damaged, and no finding is an error."""
        return not self.damage and all(found.severity != ERROR for found in self.findings)


def verify(
    root: str | os.PathLike[str],
    stream: str | None = None,
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    medium: bool = False,
    bytes_per_s: float | None = None,
    clock: Clock | None = None,
) -> VerifyReport:
    """Read every copy of every segment, and the manifest, and say what is damaged.

    Args:
        root: The directory that is given to `aof2.open`; it may be open elsewhere.
        stream: One stream; None: all of them.
        tier2: Read the objects as well; as for `aof2.open`. None: local copies only.
        medium: Read files from the device instead of the page cache.
        bytes_per_s: Read no faster than that on average; None: as fast as possible.
        clock: Time, for tests.

    Raises:
        StreamNotFound: there is no such stream, or no root.
        FormatError: a stream's `stream.json` cannot be understood.

    Example:
        >>> import tempfile, aof2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with aof2.open(folder) as manager:
        ...         _ = manager.stream("orders").append(b"first")
        ...     aof2.verify(folder).is_good
        True
    """
    watch = Clock() if clock is None else clock
    names = [stream] if stream is not None else _names(root)
    store = None if tier2 is None else open_tier2(tier2)
    try:
        run = _Run(store, medium, _Pace(watch, bytes_per_s))
        began_s = watch.monotonic_s()
        for name in names:
            run.check_stream(os.fspath(root), name, tier2)
        return VerifyReport(
            len(names),
            run.copies,
            run.pace.bytes,
            tuple(run.damage),
            tuple(run.findings),
            watch.monotonic_s() - began_s,
        )
    finally:
        if store is not None:
            store.close()


def _names(root: str | os.PathLike[str]) -> list[str]:
    try:
        directory = Directory(os.fspath(root))
    except OSError:
        raise StreamNotFound("there is no such root", path=os.fspath(root)) from None
    with closing(directory):
        return stream_names(directory)


class _Pace:
    """Counts bytes, and pauses so that they are not too many a second."""

    def __init__(self, clock: Clock, bytes_per_s: float | None) -> None:
        self.bytes = 0
        self._clock, self._rate = clock, bytes_per_s
        self._began_s = clock.monotonic_s()

    def took(self, count: int) -> None:
        self.bytes += count
        if self._rate is not None:
            ahead_s = self.bytes / self._rate - (self._clock.monotonic_s() - self._began_s)
            if ahead_s > 0:
                self._clock.sleep(ahead_s)


@dataclass
class _Run:
    """One verification of all streams."""

    store: ObjectStore | None
    medium: bool
    pace: _Pace
    copies: int = 0
    damage: list[Damage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def check_stream(
        self, root: str, name: str, tier2: str | os.PathLike[str] | Tier2Config | None
    ) -> None:
        place = os.path.join(os.path.abspath(root), stream_directory(name))
        try:
            directory = Directory(place)
        except OSError:
            raise StreamNotFound(f"there is no stream {name!r}", path=place) from None
        with closing(directory), ManifestInspector(root, name, tier2=tier2) as inspector:
            with closing(manifest_directory(directory)) as manifest:
                self.findings += self._read_manifest(manifest)
            self.findings += inspector.check()
            rows, trimmed = inspector.segments()
            known = {row.segment_id: row for row in rows}
            with (
                closing(directory.subdir("segments")) as hot,
                closing(directory.subdir("warm")) as warm,
            ):
                files = _Files(hot, warm, inspector.identity.uuid, self)
                ids = sorted({*known, *hot_ids(hot), *warm_ids(warm)})
                for segment_id in ids:
                    row = known.get(segment_id)
                    if row is None or row.end_offset is None or row.end_offset > trimmed:
                        self._check_segment(name, segment_id, row, files)
                problem = _twice(
                    lambda: files.check_end(rows) and files.check_end(_rows(root, name))
                )
                if problem is not None:
                    self.findings.append(Finding(ERROR, hot.path, problem))

    def _read_manifest(self, manifest: Directory) -> Iterator[Finding]:
        """Have every file of the manifest come from the device, where that is asked for."""
        for name in manifest.names() if self.medium else ():
            try:
                self.read_medium(manifest, name)
            except FileNotFoundError:
                continue  # A live writer removes what snapshots cover.
            except OSError as error:
                if error.filename and not os.path.isdir(manifest.join(name)):
                    yield Finding(ERROR, manifest.join(name), f"cannot be read: {error}")

    def _check_segment(
        self, stream: str, segment_id: int, row: SegmentRow | None, files: _Files
    ) -> None:
        checks: dict[Tier, tuple[str, Callable[[], str | None]]] = {
            Tier.HOT: (
                files.hot.join(hot_name(segment_id)),
                lambda: files.check_hot(segment_id, row),
            ),
            Tier.WARM: (
                files.warm.join(warm_name(segment_id)),
                lambda: files.check_warm(segment_id, row),
            ),
        }
        if row is not None and row.cold is not None and self.store is not None:
            cold, store = row.cold, self.store
            checks[Tier.COLD] = (
                cold.key,
                lambda: self._check_object(store, cold.key, cold.size, cold.crc64),
            )
        wrong: dict[Tier, str] = {}
        good: list[Tier] = []
        for tier, (_, check) in checks.items():
            with suppress(FileNotFoundError):
                # A copy that is not there is a finding of the manifest's check, if it is any.
                problem = _twice(check)
                self.copies += 1
                if problem is None:
                    good.append(tier)
                else:
                    wrong[tier] = problem
        self.damage += [
            Damage(stream, segment_id, tier, checks[tier][0], text, tuple(good))
            for tier, text in wrong.items()
        ]

    def _check_object(self, store: ObjectStore, key: str, size: int, crc64: int) -> str | None:
        found = 0
        for start in range(0, size, OBJECT_PIECE_BYTES):
            piece = store.get_range(key, start, min(size, start + OBJECT_PIECE_BYTES))
            found = crc64nvme(piece, found)
            self.pace.took(len(piece))
        if found != crc64:
            return f"crc64 {found:016x}, but {crc64:016x} by the records"
        return None

    def read_medium(
        self, directory: Directory, name: str, footer: seal.FooterInfo | None = None
    ) -> int:
        """Read a file from its device; returns the crc64 of what a footer's checksum covers."""
        with closing(MediumReader(directory, name, footer)) as reader:
            while count := reader.read():
                self.pace.took(count)
            return reader.crc64


@dataclass
class _Files:
    """The local copies of one stream."""

    hot: Directory
    warm: Directory
    uuid: bytes
    run: _Run

    def check_hot(self, segment_id: int, row: SegmentRow | None) -> str | None:
        """What is wrong with a hot copy; `FileNotFoundError` when there is none."""
        name = hot_name(segment_id)
        footer = seal.read_footer(self.hot, name)
        if footer is None:
            if row is not None and row.sealed:
                return "there is no good footer, but it was sealed"
            return self._check_started(name)
        if row is not None and row.sealed:
            said = (row.end_offset, row.segment_crc64)
            if said != (footer.end_offset, footer.before_crc64):
                return "its footer and the records contradict each other"
        if self.run.medium:
            if self.run.read_medium(self.hot, name, footer) == footer.before_crc64:
                return None
        else:
            self.run.pace.took(footer.file_bytes)
            with suppress(CorruptionError):
                seal.verify_sealed(self.hot, name, footer)
                return None
        return "the contents do not agree with the footer's checksum" + self._where(name, footer)

    def check_end(self, rows: Iterable[SegmentRow]) -> str | None:
        """What is wrong with where the records end: fewer than were durable."""
        ring = self._ring()
        # Before the files, to which a live writer adds.
        durable = durable_offset(read_pointer(self.hot, self.uuid), ring)
        sealed = [(row.end_offset or 0, row.segment_id) for row in rows if row.sealed]
        end, last = max(sealed, default=(0, 0))
        for segment_id in hot_ids(self.hot):
            found = scan(self.hot, hot_name(segment_id), ring=ring) if segment_id > last else None
            if found is not None:
                end = max(end, found.end_offset)
        return None if end >= durable else missing(durable, end)

    def _ring(self) -> RingView | None:
        with suppress(OSError, ValueError):
            return RingView(self.hot, RING_NAME, self.uuid)
        return None

    def _where(self, name: str, footer: seal.FooterInfo) -> str:
        """The first bad frame of a sealed file, for messages."""
        try:
            found = scan(self.hot, name)
        except CorruptionError as error:
            return "" if error.position is None else f"; bad from position {error.position} on"
        if found is None or found.end_position >= footer.end_position:
            return ""
        return f"; bad from position {found.end_position} on, offset {found.end_offset}"

    def _check_started(self, name: str) -> str | None:
        """A segment that is not sealed: it must have what it says was durable."""
        if self.run.medium:
            self.run.read_medium(self.hot, name)
        found = scan(self.hot, name, ring=self._ring())
        if found is None:
            return None  # Prepared, and not started.
        if not self.run.medium:
            self.run.pace.took(found.end_position)
        if found.durable_low > found.end_position:
            return (
                f"damaged at position {found.end_position}, offset {found.end_offset}: it was "
                f"durable up to position {found.durable_low}"
            )
        return None

    def check_warm(self, segment_id: int, row: SegmentRow | None) -> str | None:
        """What is wrong with a warm copy; `FileNotFoundError` when there is none."""
        name = warm_name(segment_id)
        expected = None if row is None or row.compressed is None else row.compressed.crc64
        if self.run.medium and self.run.read_medium(self.warm, name) == expected:
            return None
        info = compressed.verify(self.warm, name)
        if not self.run.medium:
            self.run.pace.took(info.bytes)
        if expected is not None and info.crc64 != expected:
            return f"crc64 {info.crc64:016x}, but {expected:016x} by the records"
        return None


def _rows(root: str, name: str) -> Iterable[SegmentRow]:
    """What the manifest says now; a live writer may have sealed since it was read."""
    with ManifestInspector(root, name) as inspector:
        return inspector.segments()[0]


def _twice(check: Callable[[], str | None]) -> str | None:
    """What is wrong, if it still is at a second look: a live writer works on its files."""
    problem: str | None = None
    for _ in range(2):
        try:
            problem = check()
        except FileNotFoundError:
            raise
        except (AofError, OSError) as error:
            problem = str(error)
        if problem is None:
            return None
    return problem
