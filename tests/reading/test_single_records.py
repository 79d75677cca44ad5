"""Single records at random: found at once in hot segments, and the same as by any other way."""

from __future__ import annotations

import os
import random
import threading

import pytest

import aof2
from aof2._core.pointread import PointReader
from aof2._core.record import Record

KIB = 1024
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=1024 * KIB),
)
SIZES = (0, 1, 7, 8, 9, 128, 128, 128, 4095, 4096, 4097, 9000)


def fill(log: aof2.Aof, seed: int, count: int) -> list[tuple[bytes, int]]:
    """Append single records and batches of many sizes; payloads and ext_ids in order."""
    chance = random.Random(seed)
    out: list[tuple[bytes, int]] = []
    while len(out) < count:
        if chance.random() < 0.8:
            payload = chance.randbytes(chance.choice(SIZES))
            ext_id = chance.choice([None, 7])
            log.append(payload, ext_id=ext_id)
            out.append((payload, ext_id or 0))
        else:
            n = chance.randrange(1, 40)
            payloads = [chance.randbytes(chance.choice(SIZES[:8])) for _ in range(n)]
            ids = list(range(n)) if chance.random() < 0.5 else None
            log.append_many(payloads, ext_ids=ids)
            out += [(p, 0 if ids is None else ids[i]) for i, p in enumerate(payloads)]
    return out


def check(log: aof2.Aof, wanted: list[tuple[bytes, int]], seed: int, gets: int = 3000) -> None:
    """Compare random records with what was appended."""
    chance = random.Random(seed)
    for _ in range(gets):
        offset = chance.randrange(len(wanted))
        record = log.get(offset)
        assert (record.offset, record.payload, record.ext_id) == (offset, *wanted[offset])


@pytest.mark.parametrize("seed", range(4))
def test_every_record_is_found_whatever_its_size_and_wherever_it_is(tmp_path, seed):
    """Goal: `get` agrees with what was appended: in the ring, written out, sealed, evicted, after
    a reopen, in frames of one size and of many.

    Method: random records and batches over many rollovers; random gets in between and after.
    """
    with aof2.open(tmp_path / "root", tier2=str(tmp_path / "cold"), config=CONFIG) as manager:
        log = manager.stream("a")
        wanted = fill(log, seed, 3000)
        check(log, wanted, seed)
        log.flush()
        check(log, wanted, seed + 1, gets=500)
        manager.drain("remote")
        check(log, wanted, seed + 2, gets=500)
    with aof2.open(tmp_path / "root", tier2=str(tmp_path / "cold"), config=CONFIG) as manager:
        log = manager.stream("a")
        check(log, wanted, seed + 3)
        for offset in (-1, len(wanted), 2**63, 2**64, 2**70):
            with pytest.raises((aof2.OffsetOutOfRange, OverflowError)):
                log.get(offset)


def test_records_are_found_while_others_append(tmp_path):
    """Goal: a get beside appends, rollovers and ring changes returns the right record.

    Method: one thread appends numbered records of many sizes, three get random ones.
    """
    count, failures = 30_000, []
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("a")
        log.append(b"0 ")
        ended = threading.Event()

        def read(seed: int) -> None:
            chance = random.Random(seed)
            while not ended.is_set():
                offset = chance.randrange(log.next_offset)
                record = log.get(offset)
                if record.offset != offset or not record.payload.startswith(b"%d " % offset):
                    failures.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for n in range(1, count):
            log.append(b"%d " % n + b"x" * (n % 300), timeout=60)
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_damaged_frame_is_left_to_the_way_that_knows_what_to_do(tmp_path):
    """Goal: where single records are found at once, damage is seen too.

    Method: flip a bit in each frame of a sealed segment whose mapping is in use already; the core
    must ask its slow path, and only then.
    """

    def slow(offset: int, *, timeout: object = ...) -> Record:
        raise LookupError(offset)

    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("a")
        payloads = [b"%04d" % n * 64 for n in range(40)]
        for payload in payloads:
            log.append(payload)
        log.seal()
        instance = log._instance
        points = PointReader(instance.manifest.index.fold, instance.writer, slow, id)
        points.keep(1, instance.open_segment(1).source)
        [file] = (tmp_path / "root").glob("a-*/segments/*1.seg")
        good = file.read_bytes()
        fd = os.open(file, os.O_RDWR)
        for n, payload in enumerate(payloads):
            at = good.index(payload) + n
            assert points.get(n).payload == payload
            os.pwrite(fd, bytes([good[at] ^ 4]), at)
            with pytest.raises(LookupError):
                points.get(n)
            os.pwrite(fd, good[at : at + 1], at)
            assert points.get(n).payload == payload
        os.close(fd)
        points.close()


def test_what_was_trimmed_or_closed_is_not_found_any_more(tmp_path):
    """Goal: a mapping that is at hand does not outlive its stream or a trim.

    Method: get, trim, get again; then close, and get through the method that was taken before.
    """
    with aof2.open(tmp_path / "root", config=CONFIG) as manager:
        log = manager.stream("a")
        for n in range(100):
            log.append(b"%d" % n)
        log.seal()
        log.append(b"active")
        get = log.get
        assert (get(5).payload, get(100).payload) == (b"5", b"active")
        log.trim(before=10)
        with pytest.raises(aof2.OffsetOutOfRange):
            get(5)
        assert get(10).payload == b"10"
    with pytest.raises(aof2.Closed):
        get(10)
