"""What the copies of a stream's segments say about themselves, and the records that follow from it.

Files are facts: each copy carries the segment's footer, under checksums, so a manifest can be made
again from them. Local copies go before objects where they differ.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aof2._core import compressed, seal
from aof2._core.checksum import crc64nvme
from aof2._core.compressed_read import CompressedSegment, open_warm
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2._core.mapping import MappedSegment
from aof2._core.seal import FooterInfo
from aof2.errors import CorruptionError, FormatError, SegmentLost
from aof2.manifest.index import ColdCopy, WarmCopy
from aof2.objectstore import ObjectInfo, ObjectStore
from aof2.streamdir import hot_ids, hot_name, warm_ids, warm_name
from aof2.types import StreamIdentity, Tier

READ_BYTES = 8 << 20
OBJECTS_AT_ONCE = 8
_OBJECT = re.compile(r"[0-9a-f]{2}/(\d{20})-(\d{20})\.([0-9a-f]{8})-([0-9a-f]{16})\.seg\.zst")

Record = tuple[RecordType, int, int, dict[str, Any]]
"""Type, segment, offset and fields of a manifest record."""


@dataclass(slots=True)
class SegmentFacts:
    """A sealed segment, as its copies describe it.

    Attributes:
        segment_id: Its ordinal.
        footer: Its footer, from whichever copy was read first.
        epoch: Epoch of the writer that wrote it.
        hot: True where the hot file is there and good.
        warm: The warm file, None where none is there and good.
        cold: The object, None where none is there and good.
        raw_crc64: Of the whole segment; known with a warm or cold copy.
    """

    segment_id: int
    footer: FooterInfo
    epoch: int
    hot: bool = False
    warm: WarmCopy | None = None
    cold: ColdCopy | None = None
    raw_crc64: int = 0


@dataclass
class Facts:
    """All segments that copies were found of.

    Attributes:
        segments: By id.
        unsealed: Ids of started hot files without a good footer.
        damaged: Ids of hot files whose contents do not agree with their footer.
        notes: What was passed over, and why; a sentence each.
    """

    segments: dict[int, SegmentFacts] = field(default_factory=dict)
    unsealed: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ordered(self) -> list[SegmentFacts]:
        """The segments, ascending."""
        return [self.segments[segment_id] for segment_id in sorted(self.segments)]


class FactFinder:
    """Looks at every copy of one stream's segments; changes nothing.

    Args:
        identity: The stream; copies of another one are passed over.
        verify: Read every local copy whole and compare it with its checksums. False believes
            footers and tables, for a reader that checks each frame anyway.
    """

    def __init__(self, identity: StreamIdentity, *, verify: bool) -> None:
        self.facts = Facts()
        self._identity = identity
        self._verify = verify

    def take_hot(self, hot: Directory) -> None:
        """Take in the segment files."""
        for segment_id in hot_ids(hot):
            name = hot_name(segment_id)
            try:
                found = seal.read_footer(hot, name)
                if found is None:
                    self.facts.unsealed.append(segment_id)
                    continue
                self._take_sealed(hot, segment_id, found)
            except FileNotFoundError:
                continue  # The writing process dropped it between the two looks.
            except (CorruptionError, FormatError) as error:
                self.facts.unsealed.append(segment_id)
                self._note(hot.join(name), error)

    def _take_sealed(self, hot: Directory, segment_id: int, footer: FooterInfo) -> None:
        name = hot_name(segment_id)
        mapped = MappedSegment(hot, name)
        if mapped.header.stream_uuid != self._identity.uuid or mapped.header.file_id != segment_id:
            self.facts.notes.append(f"{hot.join(name)}: it belongs elsewhere")
            return
        facts = SegmentFacts(segment_id, footer, mapped.start.epoch, hot=True)
        if self._verify:
            try:
                seal.verify_sealed(hot, name, footer)
            except CorruptionError as error:
                facts.hot = False
                self.facts.damaged.append(segment_id)
                self._note(hot.join(name), error)
        self.facts.segments[segment_id] = facts

    def take_warm(self, warm: Directory) -> None:
        """Take in the compressed files."""
        for segment_id in warm_ids(warm):
            name = warm_name(segment_id)
            try:
                self._take_warm(warm, name, segment_id)
            except FileNotFoundError:
                continue  # The writing process dropped it between the two looks.
            except (CorruptionError, FormatError) as error:
                self._note(warm.join(name), error)

    def _take_warm(self, warm: Directory, name: str, segment_id: int) -> None:
        segment = open_warm(warm, name)
        crc64 = compressed.verify(warm, name).crc64 if self._verify else 0
        facts = self._facts_of(segment, segment_id)
        if facts is not None:
            copy = WarmCopy(warm.size(name), segment.table_bytes, crc64, segment.raw_crc64)
            facts.warm, facts.raw_crc64 = copy, segment.raw_crc64

    def _facts_of(self, segment: CompressedSegment, segment_id: int) -> SegmentFacts | None:
        """The facts that a compressed copy belongs to; None when it is none of ours."""
        if segment.stream_uuid != self._identity.uuid or segment.segment_id != segment_id:
            self.facts.notes.append(f"{segment.path}: it belongs elsewhere")
            return None
        footer = segment.footer()
        facts = self.facts.segments.get(segment_id)
        if facts is None:
            facts = SegmentFacts(segment_id, footer, segment.epoch)
            self.facts.segments[segment_id] = facts
        elif facts.footer.before_crc64 != footer.before_crc64:
            self.facts.notes.append(f"{segment.path}: another copy of the segment differs from it")
            return None
        return facts

    def _note(self, place: str, error: CorruptionError | FormatError) -> None:
        self.facts.notes.append(f"{place}: {error.message}")

    # --- objects --------------------------------------------------------------------------------

    def take_objects(self, store: ObjectStore, recorded: Mapping[int, str]) -> None:
        """Take in the objects: one listing, and three small requests for each.

        Where several objects hold a segment, the one that was recorded is taken, else the one that
        is the warm file's bytes, else that of the highest epoch.

        Args:
            recorded: Keys by segment, as far as records tell.
        """
        chosen = set(recorded.values())
        place = f"{self._identity.directory}/{self._identity.uuid.hex()}/seg/"
        listed: list[tuple[int, ObjectInfo]] = []
        for info in store.list(place):
            match = _OBJECT.fullmatch(info.key[len(place) :])
            if match is not None:
                listed.append((int(match[3], 16), info))
        listed.sort(key=lambda e: (e[1].key not in chosen, -e[0], e[1].key))
        with ThreadPoolExecutor(OBJECTS_AT_ONCE, thread_name_prefix="aof2-repair") as pool:
            looked = pool.map(lambda entry: self._open_object(store, entry[1]), listed)
            for found in looked:
                if found is not None:
                    self._take_object(store, *found, chosen)

    def _open_object(
        self, store: ObjectStore, info: ObjectInfo
    ) -> tuple[CompressedSegment, ObjectInfo] | None:
        try:
            fetch = functools.partial(store.get_range, info.key)
            segment = CompressedSegment(fetch, info.size, 0, path=info.key)
            segment.footer()
        except (CorruptionError, FormatError) as error:
            self._note(info.key, error)
            return None
        return segment, info

    def _take_object(
        self,
        store: ObjectStore,
        segment: CompressedSegment,
        info: ObjectInfo,
        chosen: set[str],
    ) -> None:
        facts = self._facts_of(segment, segment.segment_id)
        if facts is None:
            return
        crc64 = info.crc64 if info.crc64 is not None else _object_crc64(store, info)
        cold, warm = facts.cold, facts.warm
        is_warm = warm is not None and warm.crc64 == crc64
        if cold is None or (is_warm and cold.crc64 != crc64 and cold.key not in chosen):
            facts.cold = ColdCopy(info.key, info.size, crc64, info.etag, segment.table_bytes)
            facts.raw_crc64 = segment.raw_crc64


def _object_crc64(store: ObjectStore, info: ObjectInfo) -> int:
    """Checksum of a whole object: what the store says, else by reading it."""
    head = store.head(info.key)
    if head is not None and head.crc64 is not None:
        return head.crc64
    crc64 = 0
    for start in range(0, info.size, READ_BYTES):
        end = min(info.size, start + READ_BYTES)
        crc64 = crc64nvme(store.get_range(info.key, start, end), crc64)
    return crc64


# --- from facts to records ------------------------------------------------------------------------


def check_contiguous(segments: Iterable[SegmentFacts]) -> None:
    """Each segment must begin where the one before it ends.

    Raises:
        SegmentLost: offsets in between are in no copy.
    """
    before: SegmentFacts | None = None
    for facts in segments:
        if before is not None and facts.footer.base_offset != before.footer.end_offset:
            raise hole(before.footer.end_offset, facts.footer.base_offset, facts.segment_id)
        before = facts


def hole(end: int, base: int, segment_id: int | None = None) -> SegmentLost:
    """The error for offsets that no copy holds."""
    behind = "" if segment_id is None else f", where segment {segment_id} begins"
    return SegmentLost(
        f"no copy that can be read holds the offsets {end} to {base}, half-open{behind}; nothing "
        "was changed. Restore the file of the segment that holds them from a backup, or give the "
        "tier 2 that has it",
        offset=end,
        segment=segment_id,
    )


def records_of(facts: SegmentFacts) -> Iterator[Record]:
    """The records that bring an index to what the copies of one segment say."""
    footer, segment_id = facts.footer, facts.segment_id
    base = footer.base_offset
    opened = {"base_offset": base, "epoch": facts.epoch}
    yield RecordType.SEGMENT_OPENED, segment_id, base, opened
    sealed = {
        "durable_bytes": footer.file_bytes,
        "segment_crc64": footer.before_crc64,
        "ext_id": footer.ext_id,
        "coordinator_watermark": footer.coordinator_watermark,
        "flush_failure": footer.flush_failure,
    }
    yield RecordType.SEAL_SEGMENT, segment_id, footer.end_offset, sealed
    cold, warm = facts.cold, facts.warm
    if cold is not None:
        # A warm file with other bytes than the object's is of no use; the next open sets it aside.
        warm = warm if warm is not None and warm.crc64 in (cold.crc64, 0) else None
        done = WarmCopy(cold.size, cold.table_bytes, cold.crc64, facts.raw_crc64)
    elif warm is not None:
        done = warm
    else:
        return
    yield RecordType.COMPRESSION_DONE, segment_id, base, _fields(done)
    if cold is not None:
        yield RecordType.UPLOAD_STARTED, segment_id, base, {"key": cold.key}
        fields = {"key": cold.key, "size": cold.size, "crc64": cold.crc64, "etag": cold.etag}
        yield RecordType.UPLOAD_DONE, segment_id, base, fields
    served = Tier.COLD if warm is None else Tier.WARM
    if not facts.hot:
        gone = {"tier": Tier.HOT, "bytes": footer.file_bytes, "copy_tier": served}
        yield RecordType.LOCAL_EVICTED, segment_id, base, gone
    if warm is None:
        gone = {"tier": Tier.WARM, "bytes": done.bytes, "copy_tier": Tier.COLD}
        yield RecordType.LOCAL_EVICTED, segment_id, base, gone


def _fields(copy: WarmCopy) -> dict[str, int]:
    return {
        "bytes": copy.bytes,
        "table_bytes": copy.table_bytes,
        "crc64": copy.crc64,
        "raw_crc64": copy.raw_crc64,
    }
