"""A segment is opened while one copy of it goes and another comes: it was never lost."""

from __future__ import annotations

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


def test_the_hot_copy_goes_once_a_warm_one_has_come(made, monkeypatch):
    """Goal: the look that found the hot copy only is not the last one. Method: the warm and the
    cold copy become visible as the hot one is opened and dropped."""
    log, drop = made
    hidden = [Tier.WARM, Tier.COLD]
    hide(monkeypatch, log, hidden)

    def move() -> None:
        hidden.clear()
        drop(Tier.HOT)

    seen = when_opened(monkeypatch, log, Tier.HOT, move)
    assert read(log) == PAYLOADS
    assert seen == [Tier.HOT, Tier.HOT, Tier.WARM]
    assert log._instance.meters.corruption.total() == 0


def test_the_warm_copy_goes_once_a_cold_one_has_come(made, monkeypatch):
    """The same one tier further down."""
    log, drop = made
    drop(Tier.HOT)
    hidden = [Tier.COLD]
    hide(monkeypatch, log, hidden)

    def move() -> None:
        hidden.clear()
        drop(Tier.WARM)

    seen = when_opened(monkeypatch, log, Tier.WARM, move)
    assert read(log) == PAYLOADS
    assert seen[-1] is Tier.COLD
    assert log._instance.meters.corruption.total() == 0


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
