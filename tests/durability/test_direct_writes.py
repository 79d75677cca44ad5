"""Segments that are written past the page cache: the same bytes for every reader, every size."""

from __future__ import annotations

import random
import threading

import pytest
from waithelp import until

import aof2
from aof2._core import posix
from aof2._core.seal import read_footer, verify_sealed

KIB = 1024


def config(write_out: str = "direct", **more: object) -> aof2.AofManagerConfig:
    """Segments of 256 KiB, of which tier 0 holds enough that all stay there."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=256 * KIB),
        tier0=aof2.Tier0Config(bytes_max=64 << 20),
        flush=aof2.FlushConfig(write_out=write_out, **more),  # type: ignore[arg-type]
    )


def check_sealed(log: aof2.Aof) -> int:
    """Compare every sealed segment's bytes with its footer; how many there are."""
    directory, sealed = log._instance.hot.directory, 0
    for info in log.segments():
        if info.sealed and aof2.Tier.HOT in info.residency:
            name = log._instance.hot.name(info.segment_id)
            verify_sealed(directory, name, read_footer(directory, name))
            sealed += 1
    return sealed


@pytest.mark.parametrize("ring_bytes", [64 * KIB, None])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 255, 4055, 4056, 4057, 4095, 4096, 4097, 30_000])
def test_every_size_through_many_rollovers(tmp_path, size, ring_bytes):
    """Goal: whole blocks and rests of blocks come together. Method: records of one size, flushes at
    odd moments, natural rollovers; read in the same process, in a readonly one, after a reopen, and
    compare each sealed file with its footer, whose sum was made on the way."""
    chance = random.Random(size)
    payload = chance.randbytes(size)
    count = max(40, min(20_000, 3 * 256 * KIB // (size + 48)))
    settings = config(ring_bytes=ring_bytes)
    with aof2.open(tmp_path / "r", config=settings) as manager:
        log = manager.stream("s")
        for n in range(count):
            log.append(payload + n.to_bytes(4, "little"))
            if chance.random() < 30 / count:
                log.flush()
                with log.reader(start=max(0, n - 50)) as reader:
                    assert [r.payload[size:] for r in reader] == [
                        k.to_bytes(4, "little") for k in range(max(0, n - 50), n + 1)
                    ]
        log.flush()
        with aof2.open(tmp_path / "r", readonly=True) as other:
            assert sum(1 for _ in other.stream("s").reader().payloads()) == count
        manager.drain("local")
        assert check_sealed(log) > 1
    with aof2.open(tmp_path / "r", config=settings) as manager:
        log = manager.stream("s")
        found = list(log.reader().payloads())
        assert found == [payload + n.to_bytes(4, "little") for n in range(count)]
        log.append(b"and on")
        log.seal()
        assert check_sealed(log) > 1


def test_mapped_readers_see_each_byte_at_once(tmp_path):
    """Goal: a reader whose mapping has a half-written block never keeps it. Method: one thread
    appends and flushes small pieces, others read the newest records all the time, by mappings that
    they took while the block was not full yet."""
    failures: list[BaseException] = []
    done = threading.Event()
    with aof2.open(tmp_path / "r", config=config(ring_bytes=64 * KIB)) as manager:
        log = manager.stream("s")
        log.append(b"0" * 100)

        def read() -> None:
            chance = random.Random(1)
            try:
                while not done.is_set():
                    end = log.next_offset
                    start = max(0, end - chance.randrange(1, 2000))
                    for record in log.reader(start=start, stop=end):
                        assert record.payload == b"%d" % record.offset * 25 or record.offset == 0
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(1, 12_000):
            log.append(b"%d" % n * 25)
            if n % 37 == 0:
                log.flush()
        done.set()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        manager.drain("local")
        assert check_sealed(log) > 5


def test_a_file_system_without_direct_writes_takes_them_through_the_cache(tmp_path):
    """Goal: nothing is lost where the first direct write is refused. Method: the seam refuses every
    write of whole blocks with EINVAL once, in the middle of a segment."""
    refused = []

    def refuse(op, fd, name, position, data, n):
        if op == "pwrite" and n >= 4096 and n % 4096 == 0 and position >= 16384 and not refused:
            refused.append(position)
            return 22
        return 0

    with aof2.open(tmp_path / "r", config=config(ring_bytes=64 * KIB)) as manager:
        log = manager.stream("s")
        log.append(b"first")
        log.flush()
        before = posix.set_seam_hook(refuse)
        try:
            for n in range(3000):
                log.append(b"%d" % n * 50)
            log.flush()
        finally:
            posix.set_seam_hook(before)
        assert refused
        manager.drain("local")
        assert list(log.reader().payloads()) == [b"first", *(b"%d" % n * 50 for n in range(3000))]
        assert check_sealed(log) > 0


def test_auto_changes_with_the_pace(tmp_path, monkeypatch):
    """Goal: only sustained ingest goes past the page cache. Method: lower the bound, append slowly,
    then much at once, and see how segments are handed to the writer."""
    monkeypatch.setattr("aof2.tiers.pace.SUSTAINED_BYTES", 1 << 20)
    seen: list[bool] = []
    with aof2.open(tmp_path / "r", config=config("auto")) as manager:
        log = manager.stream("s")
        log.append(b"first")
        pace = log._instance.pace
        ask = pace.is_sustained

        def note(now_s: float, total: int) -> bool:
            seen.append(ask(now_s, total))
            return seen[-1]

        monkeypatch.setattr(pace, "is_sustained", note)
        for _ in range(5000):
            log.append(bytes(1000))
        manager.drain("local")
        until(lambda: len(seen) > 5)
        assert seen[0] is False
        assert seen[-1] is True
        assert check_sealed(log) > 5


def test_an_unknown_way_is_refused():
    """Goal: a typing error is told of at once. Method: make the configuration."""
    with pytest.raises(aof2.ConfigError, match="write_out"):
        aof2.FlushConfig(write_out="sideways")
