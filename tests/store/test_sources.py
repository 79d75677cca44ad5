"""Objects whose bytes are made while they are sent: rule 11, against every implementation."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import CompressionFailed, UploadFailed
from aof2.objectstore import ObjectStore, Source, open_store, s3_body

MIB = 1 << 20


class Made(Source):
    """Bytes that are made in pieces, and fail where they are told to."""

    def __init__(self, pieces: list[bytes], fail_at: int = -1) -> None:
        self.nbytes = sum(map(len, pieces))
        self.whole = b"".join(pieces)
        self._pieces, self._fail_at = pieces, fail_at

    def pieces(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._pieces):
            if number == self._fail_at:
                raise CompressionFailed("stopped")
            yield piece


@pytest.mark.parametrize("sizes", [[], [1], [5, 0, 7], [100_000] * 30])
def test_a_source_is_stored_like_a_buffer(store: ObjectStore, sizes: list[int]):
    """Goal: rule 11. Method: pieces of several sizes, put twice; read back and compared."""
    source = Made([bytes([n % 251]) * size for n, size in enumerate(sizes)])
    for _ in range(2):
        stored = store.put("k", source, crc64=crc64nvme(source.whole))
        assert (stored.size, stored.crc64) == (source.nbytes, crc64nvme(source.whole))
    assert store.get_range("k", 0, source.nbytes) == source.whole
    with pytest.raises(UploadFailed):
        store.put("k", Made([b"other"]), crc64=crc64nvme(b"other"))
    assert store.get_range("k", 0, source.nbytes) == source.whole


@pytest.mark.parametrize("fault", ["checksum", "short", "long", "raises"])
def test_a_source_that_is_not_as_announced_is_not_stored(store: ObjectStore, fault: str):
    """Goal: rules 4 and 11. Method: another checksum, fewer and more bytes, an error half way."""
    source = Made([b"a" * 70_000] * 5, fail_at=3 if fault == "raises" else -1)
    crc64 = crc64nvme(source.whole) ^ (fault == "checksum")
    source.nbytes += {"short": 1, "long": -1}.get(fault, 0)
    with pytest.raises(CompressionFailed if fault == "raises" else UploadFailed) as caught:
        store.put("k", source, crc64=crc64)
    assert "stopped" in str(caught.value) or caught.value.path == "k"
    assert store.head("k") is None
    assert list(store.list()) == []


class Changing(Source):
    """Other bytes each time, of the same length."""

    nbytes = 2 * MIB

    def __init__(self) -> None:
        self.asked = 0

    def pieces(self) -> Iterator[bytes]:
        self.asked += 1
        for _ in range(32):
            yield bytes([self.asked]) * (self.nbytes // 32)


def test_a_source_that_changes_while_it_is_sent_is_not_stored(tier2_s3: dict[str, str]):
    """Goal: what was signed is what is stored, and the error says what happened and is no outage.

    Method: a source that keeps its promise when the signature is made, and breaks it when it is
    sent."""
    source, store = Changing(), open_store(**tier2_s3)
    first = crc64nvme(bytes([1]) * source.nbytes)
    with pytest.raises(UploadFailed, match="were made"):
        store.put("k", source, crc64=first)
    assert source.asked > 1
    assert store.head("k") is None


def test_the_body_of_a_source_is_a_file_like_any_other():
    """Goal: whatever botocore does with a body. Method: random reads and seeks beside
    `BytesIO`."""
    rnd = random.Random(7)
    parts = [rnd.randbytes(rnd.randrange(1, 2000)) for _ in range(50)]

    class Pieces(Source):
        nbytes = sum(map(len, parts))

        def pieces(self) -> Iterator[bytes]:
            yield from parts

    wanted = io.BytesIO(b"".join(parts))
    with s3_body.body_of("k", Pieces(), crc64nvme(wanted.getvalue())) as body:
        for _ in range(2000):
            if rnd.random() < 0.2:
                place = rnd.randrange(-10, Pieces.nbytes + 10), rnd.choice((0, 2))
                place = (max(place[0], 0), 0) if place[1] == 0 else (-abs(place[0]) // 9, 2)
                assert body.seek(*place) == wanted.seek(*place)
            got = body.read(rnd.choice((1, 100, 5000)))
            assert got == wanted.read(len(got))
            assert bool(got) or wanted.read(1) == b""
            assert body.tell() == wanted.tell()
