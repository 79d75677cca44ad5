"""Objects in tier 2: readable by other programs, stored once, read with few requests."""

from __future__ import annotations

import shutil
import subprocess

import indexed_zstd
import pytest
import pyzstd
from jobhelp import SEGMENT_BYTES, check_equal, random_payloads, small_config

import aof2
from aof2._core import scan, seal
from aof2._core.directory import Directory
from aof2.objectstore import MemoryStore, ObjectInfo

SEED = 30


@pytest.fixture
def cold_objects(tmp_path):
    """A root whose segments are all in a directory that stands for tier 2, and the objects'
    files."""
    records = list(random_payloads(SEED, 400))
    config = small_config(aof2.Tier2Config(url=str(tmp_path / "cold")))
    with aof2.open(tmp_path / "r", config=config) as manager:
        manager.stream("s").extend(records)
        manager.drain("remote", timeout=60)
        keys = [info.key for info in manager.stream("s").segments()]
    return records, [tmp_path / "cold" / key for key in keys]


def test_an_object_unpacks_to_a_valid_sealed_segment(tmp_path, cold_objects):
    """Goal: the public tool reads our objects. Method: `zstd -d`, then footer, checksums and
    records."""
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program on PATH")
    records, objects = cold_objects
    (tmp_path / "out").mkdir()
    directory = Directory(tmp_path / "out")
    for number, path in enumerate(objects, 1):
        name = f"{number:020d}.seg"
        target = tmp_path / "out" / name
        subprocess.run(["zstd", "-q", "-d", str(path), "-o", str(target)], check=True)
        footer = seal.read_footer(directory, name)
        seal.verify_sealed(directory, name, footer)
        found = scan.scan(directory, name)
        assert found.whole
        assert (found.records, found.chain_crc) == (footer.record_count, footer.chain_crc)
    assert footer.end_offset == len(records)


def test_other_readers_seek_in_an_object(tmp_path, cold_objects):
    """Goal: the seekable format is the public one. Method: two readers seek, and agree with
    `zstd -d`."""
    for path in cold_objects[1]:
        raw = pyzstd.decompress(path.read_bytes())
        with pyzstd.SeekableZstdFile(str(path), "r") as file:
            for at in (0, 8192, len(raw) // 2, len(raw) - 100):
                file.seek(at)
                assert file.read(64) == raw[at : at + 64]
        file = indexed_zstd.IndexedZstdFile(str(path))
        for at in (len(raw) - 100, 8192, 0):
            file.seek(at)
            assert file.read(64) == raw[at : at + 64]


class FailingStore(MemoryStore):
    """Fails the first uploads after the object was stored, as a lost reply does, and counts
    requests."""

    failures = 3

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[str, int, int]] = []

    def put(self, key: str, data, *, crc64: int) -> ObjectInfo:
        info = super().put(key, data, crc64=crc64)
        if self.failures:
            self.failures -= 1
            raise aof2.UploadFailed("the reply was lost", path=key)
        return info

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.ranges.append((key, start, end))
        return super().get_range(key, start, end)


@pytest.fixture
def failing_store(monkeypatch):
    store = FailingStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    return store


def test_failed_uploads_are_tried_again_under_the_same_key(tmp_path, failing_store):
    """Goal: a lost reply makes no second object. Method: fail three uploads, restart in between."""
    records = list(random_payloads(SEED, 400))
    config = small_config(aof2.Tier2Config(url="memory://failing"))
    with aof2.open(tmp_path / "r", config=config) as manager:
        manager.stream("s").extend(records)
    with aof2.open(tmp_path / "r", config=config) as manager:
        manager.drain("remote", timeout=60)
        log = manager.stream("s")
        keys = sorted(info.key for info in log.segments())
        assert sorted(info.key for info in failing_store.list()) == keys
        check_equal(log.reader().payloads(), records)
    assert failing_store.failures == 0


def test_a_drain_that_cannot_end_names_the_failure(tmp_path, failing_store):
    """Goal: waiting has an end and a reason. Method: an upload that fails for ever; local reads
    go on."""
    failing_store.failures = 10**9
    config = small_config(aof2.Tier2Config(url="memory://failing"))
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        log.append(b"kept")
        with pytest.raises(aof2.WaitTimeout, match="the reply was lost"):
            manager.drain("remote", timeout=0.8)
        with pytest.raises(aof2.NotYetDurable) as caught:
            log.wait(0, "remote", timeout=0.1)
        assert (caught.value.offset, caught.value.level) == (0, "remote")
        assert log.get(0).payload == b"kept"
        assert aof2.Tier.WARM in log.segments()[0].residency


def test_one_record_from_a_cold_segment_takes_two_requests(tmp_path, failing_store):
    """Goal: random reads of history stay cheap. Method: count ranged reads, and their bytes."""
    failing_store.failures = 0
    config = small_config(aof2.Tier2Config(url="memory://failing"))
    records = list(random_payloads(SEED, 2000))
    with aof2.open(tmp_path / "r", config=config) as manager:
        manager.stream("s").extend(records)
        manager.drain("remote", timeout=60)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        cold = next(i for i in log.segments() if i.residency == {aof2.Tier.COLD})
        offset = (cold.base_offset + cold.end_offset) // 2
        failing_store.ranges.clear()
        assert log.get(offset).payload == records[offset]
        assert len(failing_store.ranges) <= 2
        assert sum(end - start for _, start, end in failing_store.ranges) < SEGMENT_BYTES
