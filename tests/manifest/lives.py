"""Lives of segments as manifest records, and what a manifest of them is worth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aof2._core.directory import Directory
from aof2._core.manifest import RecordType as T
from aof2._core.timesource import ManualTime
from aof2.manifest.index import Index
from aof2.manifest.log import Manifest
from aof2.types import StreamIdentity, Tier

IDENTITY = StreamIdentity("orders", "orders-00000000", bytes(range(16)), bytes(range(16, 32)), 1)
OTHER = StreamIdentity("other", "other-00000000", bytes(16), bytes(16), 1)
SMALL = 16384

Step = tuple[T, int, int, dict[str, Any]]


def life(segment_id: int, base: int, end: int) -> list[Step]:
    """Everything that can happen to one sealed segment, in a legal order."""
    key, crc = f"seg/{segment_id:03d}/{base}-{end}.seg.zst", segment_id * 7919
    queued = {"key": key, "reason": "retention"}
    steps: list[tuple[T, dict[str, Any]]] = [
        (T.COMPRESSION_STARTED, {}),
        (T.COMPRESSION_FAILED, {"reason": "no room"}),
        (T.COMPRESSION_DONE, {"bytes": 500, "table_bytes": 96, "crc64": crc, "raw_crc64": crc + 1}),
        (T.UPLOAD_STARTED, {"key": key}),
        (T.UPLOAD_FAILED, {"reason": "503"}),
        (T.UPLOAD_DONE, {"key": key, "size": 500, "crc64": crc, "etag": f'"{crc:x}"'}),
        (T.LOCAL_EVICTED, {"tier": Tier.HOT, "bytes": 900, "copy_tier": Tier.WARM}),
        (T.LOCAL_EVICTED, {"tier": Tier.WARM, "bytes": 500, "copy_tier": Tier.COLD}),
        (T.HYDRATION_STARTED, {"source_tier": Tier.COLD}),
        (T.HYDRATION_FAILED, {"source_tier": Tier.COLD, "reason": "timeout"}),
        (T.HYDRATION_DONE, {"source_tier": Tier.COLD, "bytes": 900}),
        (T.FETCH_QUEUED, {}),
        (T.FETCH_DONE, {}),
        (T.TIER2_DELETE_QUEUED, queued),
        (T.TIER2_DELETED, queued),
    ]
    return [(kind, segment_id, base, fields) for kind, fields in steps]


def lives(count: int, seed: int) -> Iterator[Step]:
    """`count` segments, sealed in order, with the rest of their lives interleaved by chance."""
    chance = random.Random(seed)
    running: list[list[Step]] = []
    base, opened = 0, 0
    while opened < count or running:
        if opened < count and (not running or chance.random() < 0.2):
            opened += 1
            end = base + chance.randrange(1, 1000)
            seal = {"durable_bytes": end * 8, "segment_crc64": end, "ext_id": 0}
            seal |= {"coordinator_watermark": opened, "flush_failure": chance.random() < 0.1}
            yield T.SEGMENT_OPENED, opened, base, {"base_offset": base, "epoch": 1}
            yield T.SEAL_SEGMENT, opened, end, seal
            running.append(life(opened, base, end)[: chance.randrange(1, 16)])
            base = end
            continue
        mine = chance.choice(running)
        yield mine.pop(0)
        if not mine:
            running.remove(mine)


def facts(index: Index) -> list[dict[str, Any]]:
    """An index as plain values."""
    return [row._asdict() for row in index.rows()]


def open_manifest(path: Path, **options: Any) -> Manifest:
    path.mkdir(exist_ok=True)
    identity = options.pop("identity", IDENTITY)
    options.setdefault("chunk_bytes", SMALL)
    time = ManualTime(1_700_000_000_000_000_000)
    directory = Directory(str(path))
    if not any(path.iterdir()):
        Manifest.create(directory, identity, time=time, chunk_bytes=options["chunk_bytes"])
    return Manifest.open(directory, identity, time=time, **options)


def append_all(manifest: Manifest, steps: Iterator[Step] | list[Step]) -> int:
    count = 0
    for kind, segment_id, offset, fields in steps:
        manifest.append(kind, segment_id, offset, **fields)
        count += 1
    return count
