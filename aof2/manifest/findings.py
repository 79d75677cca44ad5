"""Checking a manifest against itself, the files beside it and the objects in a bucket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aof2._core.checksum import crc64nvme
from aof2._core.chunk_read import CHUNK_BYTES_MAX
from aof2._core.directory import Directory
from aof2.errors import TierError
from aof2.manifest.bucket import BucketKeys
from aof2.manifest.chunks import chunk_name
from aof2.manifest.index import SegmentRow
from aof2.objectstore import ObjectStore
from aof2.streamdir import hot_name, warm_name
from aof2.types import StreamIdentity

LOGGER = logging.getLogger("aof2.tiered")
ERROR = "error"
WARNING = "warning"
HEADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        severity: `error`: data or its record is damaged or missing; `warning`: expected after a
            crash, or another copy serves.
        place: File or key, with the position in it where that is known.
        text: What is wrong there.
        chunk_id, segment_id: What it concerns, where that is one chunk or one segment.
    """

    severity: str
    place: str
    text: str
    chunk_id: int | None = None
    segment_id: int | None = None


def check_files(
    rows: list[SegmentRow], trimmed: int, hot: Directory, warm: Directory
) -> Iterator[Finding]:
    """Compare what the records say of local copies with the files.

    Copies of segments that lie wholly below what was trimmed go without a record of their own.
    """
    for row in rows:
        if row.end_offset is None or row.end_offset <= trimmed:
            continue
        expected = []
        if not row.hot_evicted:
            expected.append((hot, hot_name(row.segment_id), row.raw_bytes))
        if row.warm is not None:
            expected.append((warm, warm_name(row.segment_id), row.warm.bytes))
        missing = 0
        for directory, name, size in expected:
            try:
                found = directory.size(name)
            except FileNotFoundError:
                missing += 1
                # One copy may be missing where another serves; the last one is data.
                served = row.cold is not None or missing < len(expected)
                yield Finding(
                    WARNING if served else ERROR,
                    directory.join(name),
                    f"missing: {size} bytes by the records, and nothing says that it was dropped",
                    segment_id=row.segment_id,
                )
                continue
            if found != size:
                yield Finding(
                    ERROR,
                    directory.join(name),
                    f"{found} bytes, but {size} by the records",
                    segment_id=row.segment_id,
                )


def check_objects(rows: list[SegmentRow], store: ObjectStore) -> Iterator[Finding]:
    """Ask the store about every object that the records name: one HEAD each."""
    named = [row for row in rows if row.cold is not None]
    with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="aof2-check") as pool:
        for found in pool.map(lambda row: _check_object(row, store), named):
            if found is not None:
                yield found


def check_published(
    manifest: Directory, identity: StreamIdentity, sealed: set[int], store: ObjectStore
) -> Iterator[Finding]:
    """Compare the sealed chunks that are here with those in the bucket: a listing, a HEAD each.

    A replaced writer may have left another chunk of the same number; one that is ours is enough.
    """
    keys = BucketKeys(identity)
    published: dict[int, list[str]] = {}
    try:
        for number, epoch in keys.list_manifest(store).chunks:
            published.setdefault(number, []).append(keys.chunk(number, epoch))
    except TierError as error:
        yield Finding(ERROR, store.describe(), f"cannot be listed: {error}")
        return
    for chunk_id in sorted(sealed & published.keys()):
        try:
            data = manifest.read(chunk_name(chunk_id), limit=CHUNK_BYTES_MAX)
        except FileNotFoundError:
            continue  # A live writer removes what snapshots cover.
        ours = (len(data), crc64nvme(data))
        found = [store.head(key) for key in published[chunk_id]]
        same = [f for f in found if f is not None and (f.size, f.crc64 or ours[1]) == ours]
        if not same:
            yield Finding(
                ERROR,
                published[chunk_id][-1],
                "the published chunk differs from the one here",
                chunk_id=chunk_id,
            )


def _check_object(row: SegmentRow, store: ObjectStore) -> Finding | None:
    cold = row.cold
    assert cold is not None, "only rows with an object are asked about"
    try:
        info = store.head(cold.key)
    except TierError as error:
        return Finding(ERROR, cold.key, f"cannot be asked: {error}", segment_id=row.segment_id)
    if info is None:
        # Between the deletion and its record a crash may have come.
        return Finding(
            WARNING if row.delete_queued else ERROR,
            cold.key,
            "missing in the bucket" + (", its deletion was queued" if row.delete_queued else ""),
            segment_id=row.segment_id,
        )
    if info.size != cold.size or (info.crc64 is not None and info.crc64 != cold.crc64):
        crc = "unknown" if info.crc64 is None else f"{info.crc64:016x}"
        return Finding(
            ERROR,
            cold.key,
            f"{info.size} bytes with crc64 {crc} in the bucket, but {cold.size} bytes with crc64 "
            f"{cold.crc64:016x} by the records",
            segment_id=row.segment_id,
        )
    return None
