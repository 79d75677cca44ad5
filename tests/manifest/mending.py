"""A stream with copies in all tiers, ways to damage its manifest, and what it must still hold."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aof2
from aof2 import ManifestInspector
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2.clock import Clock
from aof2.manifest.chunks import chunk_name
from aof2.manifest.claims import claim
from aof2.manifest.log import Manifest
from aof2.manifest.publish import Publisher
from aof2.manifest.published import find_end, read_hint
from aof2.objectstore import LocalStore
from aof2.root import Root
from aof2.types import StreamIdentity

COUNT = 600


def config(snapshot_chunks: int, **manifest: Any) -> aof2.AofManagerConfig:
    """Small tiers and chunks, so that a short stream has many."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
        tier0=aof2.Tier0Config(bytes_max=512 << 10),
        tier1=aof2.Tier1Config(bytes_max=256 << 10),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 << 10, snapshot_chunks=snapshot_chunks, **manifest
        ),
    )


SMALL = config(1000)
"""Takes no snapshot, so that every chunk counts."""
PRUNED = config(2)
"""Snapshots soon make most chunks unnecessary."""


def payload(n: int) -> bytes:
    return b"%06d" % n * (20 + n % 90)


def written(
    root: Path,
    tier2: Path | None,
    count: int = COUNT,
    chosen: aof2.AofManagerConfig = SMALL,
) -> None:
    """A closed stream `orders`: many segments, several chunks, its newest segment not sealed."""
    with aof2.open(root, tier2=tier2, config=chosen) as manager:
        log = manager.stream("orders")
        for n in range(count):
            log.append(payload(n))
            if n % 15 == 14:
                log.seal()
        manager.drain("local" if tier2 is None else "remote")
        log.append(payload(count))


def publish(root: Path, tier2: Path, *, root_id: bytes | None = None, take: int = 100) -> int:
    """Publish sealed chunks of a closed stream; returns the newest one's number.

    Args:
        root_id: Another root claims the stream.
        take: At most so many chunks.
    """
    held = Root(str(root), Clock(), readonly=True)
    directory, identity = held.open_stream("orders")
    if root_id is not None:
        identity = dataclasses.replace(identity, root_id=root_id)
    with LocalStore(str(tier2)) as store:
        head = find_end(store, identity, read_hint(store, identity))
        known = 0 if head is None else head.epoch
        epoch = claim(store, identity, hint=known, nonce=bytes([known] * 16), claimed_ns=1)
        publisher = Publisher.begin(store, identity, epoch, head)
        with ManifestInspector(root, "orders") as inspector:
            sealed = [c for c in inspector.chunks() if c.state == "sealed"]
        for chunk in [c for c in sealed if c.chunk_id >= publisher.next_chunk][:take]:
            publisher.publish_chunk(Path(chunk.path).read_bytes())
        publisher.confirm()
        publisher.write_head()
    directory.close()
    held.close()
    return publisher.next_chunk - 1


def trim(root: Path, before: int) -> None:
    """Append to the manifest of a closed stream that it was trimmed."""
    held = Root(str(root), Clock(), readonly=True)
    directory, identity = held.open_stream("orders")
    records = directory.subdir("manifest")
    manifest = Manifest.open(records, identity, chunk_bytes=16 << 10)
    manifest.append(RecordType.TRIMMED, 0, before, before_offset=before)
    manifest.close()
    for each in (records, directory, held):
        each.close()


def place(root: Path, name: str = "") -> Path:
    """The stream's directory, or what lies in it."""
    return next(root.glob("orders-*")) / name


def chunks(root: Path) -> list[Path]:
    return sorted(place(root, "manifest").glob("*.mlog"))


def read_all(root: Path, tier2: Path | None) -> list[bytes]:
    """All payloads, as a reader beside nobody sees them."""
    with aof2.open(root, tier2=tier2, config=SMALL, readonly=True) as manager:
        return [r.payload for r in manager.stream("orders").reader("earliest", "latest")]


def flip_first(root: Path) -> None:
    path = chunks(root)[0]
    data = bytearray(path.read_bytes())
    data[9000] ^= 4
    path.write_bytes(data)


def flip_middle(root: Path) -> None:
    path = chunks(root)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def drop_first(root: Path) -> None:
    chunks(root)[0].unlink()


def drop_middle(root: Path) -> None:
    chunks(root)[1].unlink()


def swap(root: Path) -> None:
    one, two = chunks(root)[:2]
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def foreign(root: Path) -> None:
    """A chunk of another stream in the place of the second."""
    aside = root.parent / "foreign"
    aside.mkdir()
    directory = Directory(str(aside))
    other = StreamIdentity("other", "other-00000000", bytes(16), bytes(16), 1)
    Manifest.create(directory, other, chunk_bytes=16 << 10)
    manifest = Manifest.open(directory, other, chunk_bytes=16 << 10)
    manifest.close()
    directory.close()
    shutil.copy(aside / chunk_name(1), chunks(root)[1])


def drop_all(root: Path) -> None:
    shutil.rmtree(place(root, "manifest"))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flip first": flip_first,
    "flip middle": flip_middle,
    "drop first": drop_first,
    "drop middle": drop_middle,
    "swap": swap,
    "foreign": foreign,
    "drop all": drop_all,
}
