"""A segment is opened while one copy of it goes and another comes: it was never lost."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

import aof2
from aof2 import Tier
from aof2.coordinator.commands import Evict
from aof2.coordinator.handlers import handle
from aof2.tiers.holding import LOOKS_MAX

PAYLOADS = [b"%d" % n * 3000 for n in range(10)]


@pytest.fixture
def made(tmp_path):
    """A stream with one sealed segment in all three tiers, and what drops a copy of it."""
    with aof2.open(tmp_path / "r", tier2=str(tmp_path / "cold")) as manager:
        log = manager.stream("a")
        log.extend(PAYLOADS)
        log.seal(timeout=20)
        manager.drain("remote", timeout=20)
        yield log, lambda tier: handle(Evict("a", 1, tier), manager._context)


def when_opened(monkeypatch, log: aof2.Aof, tier: Tier, work: Callable[[], object]) -> list[Tier]:
    """Do something once, as soon as the copy of a tier is about to be opened; all that are."""
    instance, seen = log._instance, list[Tier]()
    plain = instance._open_copy

    def opening(segment_id: int, at: Tier) -> object:
        seen.append(at)
        if at is tier and seen.count(tier) == 1:
            work()
        return plain(segment_id, at)

    monkeypatch.setattr(instance, "_open_copy", opening)
    return seen


def read(log: aof2.Aof) -> list[bytes]:
    with log.reader(0) as reader:
        return list(reader.payloads())


def hide(monkeypatch, log: aof2.Aof, hidden: list[Tier]) -> None:
    """Have a look at the copies not see some, for as long as they are in the list."""
    plain = log._instance.copies
    monkeypatch.setattr(
        log._instance, "copies", lambda segment: [t for t in plain(segment) if t not in hidden]
    )


@pytest.mark.parametrize(
    ("gone", "hidden", "came"),
    [(Tier.HOT, [Tier.WARM, Tier.COLD], Tier.WARM), (Tier.WARM, [Tier.COLD], Tier.COLD)],
    ids=["hot to warm", "warm to cold"],
)
def test_one_copy_goes_once_another_has_come(made, monkeypatch, gone, hidden, came):
    """Goal: the look that found one copy only is not the last one. Method: the lower copies become
    visible as that one is opened and dropped."""
    log, drop = made
    if gone is Tier.WARM:
        drop(Tier.HOT)
    unseen = list(hidden)
    hide(monkeypatch, log, unseen)

    def move() -> None:
        unseen.clear()
        drop(gone)

    seen = when_opened(monkeypatch, log, gone, move)
    assert read(log) == PAYLOADS
    assert seen[-1] is came
    assert log._instance.meters.corruption.total() == 0


def test_a_medium_that_gives_nothing_back_is_told_as_that(made, monkeypatch):
    """Goal: what to do next, where no copy can be read. Method: EIO for each of them."""
    log, drop = made
    drop(Tier.HOT)

    def fail(segment_id: int, tier: Tier) -> None:
        raise OSError(errno.EIO, "Input/output error", "the file")

    monkeypatch.setattr(log._instance, "_open_copy", fail)
    with pytest.raises(aof2.RecordCorrupt, match="read again once the device is well") as caught:
        read(log)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.path == "the file"


def test_what_no_tier_has_is_told_after_a_few_looks(made, monkeypatch):
    """Goal: no look without end. Method: what says which copies there are is wrong for good."""
    log, drop = made
    drop(Tier.HOT)
    monkeypatch.setattr(log._instance, "_open_copy", lambda segment, tier: None)
    looks = []
    plain = log._instance._open_first
    monkeypatch.setattr(
        log._instance, "_open_first", lambda *told: looks.append(told) or plain(*told)
    )
    with pytest.raises(aof2.SegmentLost):
        log._instance.open_segment(1)
    assert len(looks) == LOOKS_MAX
