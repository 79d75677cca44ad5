"""Tier 2 fails: local copies stay until the object is verified, and the job goes on by itself."""

from __future__ import annotations

import errno
import time

import pytest
from jobhelp import KIB, FaultyStore, check_equal, random_payloads, small_config

import aof2
from aof2 import Tier, WouldBlockKind
from aof2._core.manifest import RecordType
from aof2.manifest.log import Manifest
from aof2.objectstore import ObjectInfo

SEED = 40
CONFIG = small_config(
    aof2.Tier2Config(url="memory://faulty"),
    256 * KIB,
    1024 * KIB,
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.02),
)


@pytest.fixture
def store(monkeypatch):
    """The store that every root opened in the test has as its tier 2."""
    made = FaultyStore()
    monkeypatch.setattr("aof2.opening.open_store", lambda url, **options: made)
    return made


def fail_first(count: int, error: type[aof2.TierError]):
    """A request handler that fails so many times, and then works."""
    left = [count]

    def handler(thing):
        if left[0]:
            left[0] -= 1
            raise error("planned failure", path=str(thing))
        return thing

    return handler


def refuse(thing: object) -> None:
    raise aof2.Tier2Unavailable("tier 2 is down", path=str(thing))


def append_until_timeout(
    log: aof2.Aof, records: list[bytes], taken: list[bytes]
) -> WouldBlockKind | None:
    """Append until a wait runs out; what it waited for. What was appended goes into `taken`."""
    for record in records:
        try:
            log.append(record, timeout=0.5)
        except aof2.WaitTimeout as error:
            return error.kind
        taken.append(record)
    return None


def check_one_object_each(store: FaultyStore, log: aof2.Aof) -> None:
    """Every segment is one object, and no request ever named another key for it."""
    keys = sorted(str(info.key) for info in log.segments())
    assert store.segments() == keys
    assert sorted(set(store.puts)) == keys


@pytest.mark.parametrize("error", [aof2.UploadFailed, aof2.Tier2Unavailable])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_uploads_are_tried_again_until_they_work(tmp_path, store, error, moment):
    """Goal: no help is needed after an outage. Method: five failures, before or after the object
    was stored; everything ends in tier 2, each segment under one key."""
    setattr(store, moment, fail_first(5, error))
    records = list(random_payloads(SEED, 150))
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.extend(records)
        manager.drain("remote", timeout=30)
        assert log.watermarks.remote == len(records)
        assert len(store.puts) == len(log.segments()) + 5
        check_one_object_each(store, log)
        check_equal(log.reader().payloads(), records)


def test_an_outage_stops_appends_and_loses_nothing(tmp_path, store):
    """Goal: both budgets bind while tier 2 is down. Method: append until that says
    TIER2_BACKLOG; all is local and readable; the outage ends, and the same handle goes on."""
    store.before = refuse
    records = list(random_payloads(SEED + 1, 400))
    taken: list[bytes] = []
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        assert append_until_timeout(log, records, taken) is WouldBlockKind.TIER2_BACKLOG
        with pytest.raises(aof2.WouldBlock) as refused:
            log.append_nowait(bytes(90_000))
        assert refused.value.kind is WouldBlockKind.TIER2_BACKLOG
        assert log.next_offset == len(taken) < len(records)
        assert store.segments() == []
        assert all(info.residency & {Tier.HOT, Tier.WARM} for info in log.segments())
        assert log.watermarks.remote == 0
        check_equal(log.reader().payloads(), taken)
        store.before = lambda key: None
        for record in records[len(taken) :]:
            log.append(record, timeout=20)
        manager.drain("remote", timeout=30)
        check_one_object_each(store, log)
        check_equal(log.reader().payloads(), records)


def test_a_restart_uses_the_recorded_key_again(tmp_path, store):
    """Goal: no second object for a segment. Method: fail before and after storing, close in the
    middle, twice; all requests for a segment name one key."""
    records = list(random_payloads(SEED + 2, 60))
    for moment in ("before", "after"):
        store.before, store.after = lambda key: None, lambda info: info
        setattr(store, moment, fail_first(10**9, aof2.UploadFailed))
        asked = len(store.puts)
        with aof2.open(tmp_path / "r", config=CONFIG) as manager:
            log = manager.stream("s")
            if moment == "before":
                log.extend(records)
            log.seal(timeout=10)
            until = time.monotonic() + 10
            while len(set(store.puts[asked:])) < len(log.segments()):
                assert time.monotonic() < until, "every segment should be tried"
                time.sleep(0.005)
            assert log.watermarks.remote == 0
    store.after = lambda info: info
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        manager.drain("remote", timeout=30)
        check_one_object_each(store, log)
        check_equal(log.reader().payloads(), records)


def test_a_seal_does_not_wait_for_tier_2(tmp_path, store):
    """Goal: an outage of tier 2 is no failure of a seal. Method: seal again and again while every
    upload fails."""
    store.before = refuse
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        for number in range(20):
            log.append(b"x" * number)
            log.seal(timeout=10)
        assert len(log.segments()) == 20
        assert store.puts
        assert log.watermarks.remote == 0


@pytest.mark.parametrize("kind", [RecordType.COMPRESSION_DONE, RecordType.UPLOAD_DONE])
def test_a_copy_without_its_record_is_made_again(tmp_path, store, monkeypatch, kind):
    """Goal: a drain that returned has done its work. Method: the record of a copy that was just
    made cannot be written, once."""
    append, left = Manifest.append, [1]

    def fail_once(self: Manifest, type: RecordType, *arguments: int, **fields: object) -> int:
        if type == kind and left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "planned failure")
        return append(self, type, *arguments, **fields)

    monkeypatch.setattr(Manifest, "append", fail_once)
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.extend(records := list(random_payloads(SEED + 3, 30)))
        manager.drain("remote", timeout=20)
        assert left == [0]
        assert log.watermarks.remote == len(records)
        check_one_object_each(store, log)
        warm = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("r/*/warm/*"))
        assert manager.bytes_used[1] == warm


def test_an_object_that_differs_is_no_copy(tmp_path, store):
    """Goal: verified means compared. Method: a store that says another checksum, or another size;
    nothing counts as remote and the local copies stay."""
    answers = iter(range(10**9))

    def lie(info: ObjectInfo) -> ObjectInfo:
        if next(answers) % 2:
            return ObjectInfo(info.key, info.size, (info.crc64 or 0) ^ 1, info.etag)
        return ObjectInfo(info.key, info.size - 1, info.crc64, info.etag)

    store.after = lie
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.append(b"kept")
        with pytest.raises(aof2.WaitTimeout, match="another checksum"):
            manager.drain("remote", timeout=0.5)
        assert len(store.puts) >= 2
        (info,) = log.segments()
        assert info.residency == {Tier.HOT, Tier.WARM}
        assert log.watermarks.remote == 0
        store.after = lambda found: found
        manager.drain("remote", timeout=10)
        assert Tier.COLD in log.segments()[0].residency


def test_a_drain_that_cannot_end_names_the_failure(tmp_path, store):
    """Goal: waiting has an end and a reason. Method: an outage without end; local reads go on."""
    store.before = refuse
    with aof2.open(tmp_path / "r", config=CONFIG) as manager:
        log = manager.stream("s")
        log.append(b"kept")
        with pytest.raises(aof2.WaitTimeout, match="tier 2 is down"):
            manager.drain("remote", timeout=0.5)
        with pytest.raises(aof2.NotYetDurable) as caught:
            log.wait(0, "remote", timeout=0.1)
        assert (caught.value.offset, caught.value.level) == (0, "remote")
        assert log.get(0).payload == b"kept"
        assert Tier.WARM in log.segments()[0].residency
