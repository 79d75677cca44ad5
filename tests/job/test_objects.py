"""Objects in tier 2: readable by other programs, checked by another implementation, read with few
requests."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess

import awscrt.checksums
import indexed_zstd
import pytest
import pyzstd
from jobhelp import SEGMENT_BYTES, FaultyStore, random_payloads, small_config

import aof2
from aof2._core import scan, seal
from aof2._core.directory import Directory

SEED = 30
FRAMES_AT = 8192
RECORD, BATCH, END = 1, 2, 3


@pytest.fixture
def cold_objects(tmp_path):
    """Records, and the objects' files of a root whose segments are all in a directory that stands
    for tier 2: batches first, then single records."""
    records = list(random_payloads(SEED, 400))
    config = small_config(aof2.Tier2Config(url=str(tmp_path / "cold")))
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        log.extend(records[:200])
        for number, record in enumerate(records[200:]):
            log.append(record, ext_id=number % 3 or None)
        manager.drain("remote", timeout=60)
        keys = [info.key for info in log.segments()]
    assert len(keys) > 2
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


def test_other_readers_seek_in_an_object(cold_objects):
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


def payloads_of(kind: int, flags: int, body: bytes) -> list[bytes]:
    """The payloads in a frame's body, by `docs/format.md`."""
    body = body[8:] if flags & 1 else body
    if kind == RECORD:
        return [body]
    count, columns = struct.unpack_from("<II", body)
    ends = struct.unpack_from(f"<{count + 1}I", body, 8)
    at = 8 + 4 * (count + 1)
    at += -at % 8 + 8 * count * columns.bit_count()
    return [body[at + a : at + b] for a, b in itertools.pairwise(ends)]


def test_another_implementation_agrees_with_every_checksum(cold_objects):
    """Goal: the checksums are the public CRC-64/NVME. Method: walk the frames of unpacked objects
    by the format's text alone, with awscrt as the judge."""
    records, objects = cold_objects
    found, kinds, chain = [], set(), 0
    for path in objects:
        raw = pyzstd.decompress(path.read_bytes())
        assert awscrt.checksums.crc64nvme(raw[:2040]) == int.from_bytes(raw[2040:2048], "little")
        salt, at, chain = raw[56:64], FRAMES_AT, 0
        while True:
            size, ordinal, _, _, kind, flags, _, crc = struct.unpack_from("<IIqIBBHQ", raw, at)
            end = at + size + -size % 8
            covered = salt + struct.pack("<Q", at) + raw[at : at + 24] + raw[at + 32 : end]
            assert awscrt.checksums.crc64nvme(covered) == crc, f"frame at {at} of {path}"
            kinds.add(kind)
            if kind == END:
                break
            assert struct.unpack_from("<Q", raw, 2048)[0] + ordinal == len(found)
            found += payloads_of(kind, flags, raw[at + 32 : at + size])
            chain = awscrt.checksums.crc64nvme(struct.pack("<Q", crc), chain)
            at = end
        assert struct.unpack_from("<Q", raw, at + 32)[0] == chain
    assert found == records
    assert kinds == {RECORD, BATCH, END}


def test_one_record_from_a_cold_segment_takes_two_requests(tmp_path, monkeypatch):
    """Goal: random reads of history stay cheap. Method: count ranged reads, and their bytes, of
    several cold segments."""
    store = FaultyStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: store)
    config = small_config(aof2.Tier2Config(url="memory://counted"))
    records = list(random_payloads(SEED, 2000))
    with aof2.open(tmp_path / "r", config=config) as manager:
        manager.stream("s").extend(records)
        manager.drain("remote", timeout=60)
    with aof2.open(tmp_path / "r", config=config) as manager:
        log = manager.stream("s")
        assert store.ranges == [], "opening a root reads no object"
        cold = [info for info in log.segments() if info.residency == {aof2.Tier.COLD}]
        assert len(cold) > 4
        for info in cold:
            offset = (info.base_offset + info.end_offset) // 2
            store.ranges.clear()
            assert log.get(offset).payload == records[offset]
            assert 1 <= len(store.ranges) <= 2
            assert sum(end - start for _, start, end in store.ranges) < SEGMENT_BYTES
            assert {key for key, _, _ in store.ranges} == {info.key}
