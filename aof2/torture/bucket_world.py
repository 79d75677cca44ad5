"""What the bucket tests share: chunks, roots that publish them, stores that count, fail or wait."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from aof2._core.checksum import crc64nvme
from aof2._core.chunk import ChunkWriter
from aof2._core.chunk_link import chunk_link
from aof2._core.directory import Directory
from aof2._core.logfile import StartInfo, prepare
from aof2._core.manifest import RecordType, encode
from aof2._core.timesource import ManualTime
from aof2.errors import AofError, ManifestCorrupt, UploadFailed
from aof2.manifest.bucket import BucketKeys
from aof2.manifest.chunks import ChainPoint
from aof2.manifest.claims import claim
from aof2.manifest.generation import create_stream, find_stream
from aof2.manifest.notes import Head
from aof2.manifest.publish import Publisher
from aof2.manifest.published import Hint, check_lineage, read_hint
from aof2.manifest.restore import Chain, read_chain
from aof2.objectstore import MemoryStore, ObjectStore
from aof2.types import StreamIdentity

IDENTITY = StreamIdentity("orders", "orders-00000000", bytes(range(16)), bytes(range(16, 32)), 1)
KEYS = BucketKeys(IDENTITY)
ROOT = ChainPoint()
NOW_NS = 1_700_000_000_000_000_000


@functools.lru_cache(maxsize=4096)
def chunk(writer: str, chunk_id: int, previous: ChainPoint = ROOT, epoch: int = 1) -> bytes:
    """A sealed chunk; the same arguments give the same bytes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        directory = Directory(path)
        prepare(
            directory,
            "c.mlog",
            kind="manifest",
            stream_uuid=IDENTITY.uuid,
            file_id=chunk_id,
            file_bytes=16384,
            created_ns=NOW_NS,
        )
        start = StartInfo(
            base_offset=previous.end_offset,
            epoch=epoch,
            root_id=IDENTITY.root_id,
            previous_id=previous.chunk_id,
            previous_end_position=previous.end_position,
            previous_end_offset=previous.end_offset,
            previous_chain_crc=previous.chain_crc,
        )
        made = ChunkWriter(directory, "c.mlog", ManualTime(NOW_NS), start=start)
        assert made.append(encode(RecordType.CUSTOM_EVENT, 0, 0, text=f"{writer} {chunk_id}"))
        made.seal()
        with open(f"{path}/c.mlog", "rb") as file:
            return file.read()


def end_of(data: bytes, chunk_id: int) -> ChainPoint:
    link = chunk_link(data, stream_uuid=IDENTITY.uuid, chunk_id=chunk_id, path="test.mlog")
    return ChainPoint(*link.end)


def snapshot_head(covers: ChainPoint) -> bytes:
    """Stands for a snapshot's head; only `read_covers` knows its format."""
    return b"SNAP" + json.dumps([getattr(covers, name) for name in covers.__slots__]).encode()


def read_covers(data: bytes, path: str) -> tuple[int, int, int, int]:
    try:
        if data[:4] == b"SNAP":
            one, two, three, four = json.loads(data[4:])
            return one, two, three, four
    except ValueError:
        pass
    raise ManifestCorrupt("no snapshot", path=path)


class Root:
    """A local root: a chain of sealed chunks, empty bytes for those that a snapshot covers."""

    def __init__(self, name: str, chunks: list[bytes] | None = None) -> None:
        self.name = name
        self.chunks = list(chunks or [])
        self.covered = ROOT

    def end(self, chunk_id: int) -> ChainPoint:
        if chunk_id == self.covered.chunk_id:
            return self.covered
        return end_of(self.chunks[chunk_id - 1], chunk_id)

    @property
    def ends(self) -> list[ChainPoint]:
        return [self.end(n) for n in range(1, len(self.chunks) + 1)]

    def grow(self, count: int = 1) -> Root:
        for _ in range(count):
            n = len(self.chunks) + 1
            self.chunks.append(chunk(self.name, n, self.end(n - 1)))
        return self

    def has(self, chunk_id: int, end: ChainPoint) -> bool:
        if end == ROOT:
            return chunk_id == 1
        return chunk_id <= len(self.chunks) and end_of(self.chunks[chunk_id - 1], chunk_id) == end


_nonces = itertools.count(1)


def new_nonce() -> bytes:
    return next(_nonces).to_bytes(16, "big")


def reopen(store: ObjectStore, root: Root, nonce: bytes | None = None) -> Publisher:
    """Open for writing with a local chain: lineage, claim, lineage again, start."""
    generation, uuid = find_stream(store, IDENTITY.directory)
    if uuid is None:
        uuid = create_stream(store, IDENTITY.directory, IDENTITY.uuid, generation + 1)
    assert uuid == IDENTITY.uuid
    hint = read_hint(store, IDENTITY)
    known = check_lineage(store, IDENTITY, hint, root.has)
    hint = Hint(known)
    epoch = claim(store, IDENTITY, hint=hint.epoch, nonce=nonce or new_nonce(), claimed_ns=NOW_NS)
    after = check_lineage(store, IDENTITY, hint, root.has, below=epoch)
    return Publisher.begin(store, IDENTITY, epoch, after)


def publish_all(publisher: Publisher, root: Root) -> Head:
    while publisher.next_chunk <= len(root.chunks):
        publisher.publish_chunk(root.chunks[publisher.next_chunk - 1])
    return publisher.confirm()


def publish_snapshot(publisher: Publisher, root: Root, number: int, chunk_id: int) -> None:
    covers = root.end(chunk_id)
    pages = [(0, number, b"page %d" % number)]
    publisher.publish_snapshot(number, covers, snapshot_head(covers), pages)


def take_over(
    store: ObjectStore, name: str, nonce: bytes | None = None
) -> tuple[Root, Publisher, Chain]:
    """Open for writing without a local chain: claim, then read all there is, then start."""
    generation, uuid = find_stream(store, IDENTITY.directory)
    assert (generation, uuid) == (1, IDENTITY.uuid)
    hint = read_hint(store, IDENTITY)
    epoch = claim(store, IDENTITY, hint=hint.epoch, nonce=nonce or new_nonce(), claimed_ns=NOW_NS)
    chain = read_chain(store, IDENTITY, hint, read_covers, below=epoch)
    root = Root(name)
    if chain.snapshot is not None:
        root.covered = chain.snapshot.covers
        root.chunks = [b""] * chain.snapshot.covers.chunk_id
    root.chunks += [found.data for found in chain.chunks()]
    return root, Publisher.begin(store, IDENTITY, epoch, chain.end), chain


def read_all(store: ObjectStore) -> tuple[Chain, list[tuple[int, int]]]:
    """Read the stream as anybody would; `(chunk, epoch)` of what came after the snapshot."""
    chain = read_chain(store, IDENTITY, read_hint(store, IDENTITY), read_covers)
    return chain, [(found.chunk_id, found.epoch) for found in chain.chunks()]


def contents(store: ObjectStore) -> list[bytes]:
    """All chunks of the stream, whatever the snapshots say."""
    skip = [info.key for info in store.list() if info.key.endswith(".snap")]
    chain = read_chain(store, IDENTITY, read_hint(store, IDENTITY), read_covers, skip=skip)
    return [found.data for found in chain.chunks()]


def overwrite(store: ObjectStore, key: str, data: bytes) -> None:
    store.replace(key, data, crc64=crc64nvme(data))


class Between(ObjectStore):
    """A store that calls `around(method, key, call)` instead of each call itself."""

    def __init__(self, inner: ObjectStore, around: Callable[[str, str, Any], Any]) -> None:
        self.inner = inner
        self.around = around

    def put(self, key: str, data: Any, *, crc64: int) -> Any:
        return self.around("put", key, lambda: self.inner.put(key, data, crc64=crc64))

    def replace(self, key: str, data: Any, *, crc64: int) -> Any:
        return self.around("replace", key, lambda: self.inner.replace(key, data, crc64=crc64))

    def get(self, key: str, bytes_max: int) -> Any:
        return self.around("get", key, lambda: self.inner.get(key, bytes_max))

    def get_range(self, key: str, start: int, end: int) -> Any:
        return self.around("get_range", key, lambda: self.inner.get_range(key, start, end))

    def head(self, key: str) -> Any:
        return self.around("head", key, lambda: self.inner.head(key))

    def delete(self, key: str) -> Any:
        return self.around("delete", key, lambda: self.inner.delete(key))

    def list(self, prefix: str = "") -> Iterator[Any]:
        found: Iterator[Any] = self.around("list", prefix, lambda: self.inner.list(prefix))
        return found

    def check(self) -> None:
        self.inner.check()

    def describe(self) -> str:
        return self.inner.describe()


class Counting(Between):
    """Notes every request."""

    def __init__(self, inner: ObjectStore) -> None:
        self.calls: list[tuple[str, str]] = []
        super().__init__(inner, self._count)

    def _count(self, method: str, key: str, call: Callable[[], Any]) -> Any:
        self.calls.append((method, key))
        return call()

    @property
    def reads(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] not in ("put", "replace", "delete")]


class Lost(UploadFailed):
    """The failure that `Failing` raises."""


class Failing(Between):
    """Fails call number `at` (from 0), before or after it took effect; once, or from then on."""

    def __init__(self, inner: ObjectStore, at: int, *, after: bool, always: bool) -> None:
        self.count = -1
        self.at, self.after, self.always = at, after, always
        super().__init__(inner, self._call)

    def _call(self, method: str, key: str, call: Callable[[], Any]) -> Any:
        self.count += 1
        if self.count == self.at or (self.always and self.count > self.at):
            if self.after and self.count == self.at:
                # What the call itself had to say is lost with its reply.
                with suppress(AofError):
                    call()
            raise Lost(f"{method} failed", path=key)
        return call()


def filled(chunks: int = 3) -> tuple[MemoryStore, Root, Publisher]:
    """A store with a stream that root "a" published."""
    store, root = MemoryStore(), Root("a").grow(chunks)
    publisher = reopen(store, root)
    publish_all(publisher, root)
    return store, root, publisher
