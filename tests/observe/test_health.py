"""`health()` tells what is wrong, and nothing when all is well; the page lists every reason."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from test_metrics import rows

import aof2
import aof2.observing
from aof2._core import posix
from aof2.coordinator.commands import Command, Rollover

KIB = 1 << 10


def reasons(manager: aof2.AofManager) -> set[str]:
    return {reason.code for reason in manager.health().reasons}


def fail(error: BaseException):
    def before(command: Command) -> None:
        raise error

    return before


@pytest.fixture
def manager(tmp_path):
    config = aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=1024 * KIB),
        coordinator=aof2.CoordinatorConfig(retry_delay_s=0.01, retry_attempts_max=2),
    )
    with aof2.open(tmp_path / "r", tier2=str(tmp_path / "cold"), config=config) as made:
        yield made


def test_the_page_lists_every_reason():
    """Goal: no reason without a remedy. Method: compare the page with the code."""
    source = Path(aof2.observing.__file__).read_text(encoding="utf-8")
    coded = set(re.findall(r'HealthReason\(\s*"(\w+)"', source)) | {"disk_full", "last_error"}
    assert {row[0] for row in rows("Health")} == coded


def test_it_is_ok_when_all_is_well(manager):
    """Goal: no false alarm. Method: some work, then ask."""
    manager.stream("s").append(b"x")
    manager.drain("remote", timeout=20)
    assert manager.health() == aof2.Health("ok")


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "full"), "disk_full"), (OSError(errno.EIO, "planned"), "last_error")],
)
def test_a_seal_that_fails_again_and_again_is_degraded_until_it_works(manager, error, code):
    """Goal: the newest error and what is overdue, and no trace of them afterwards. Method: fail
    seals a few times, then let them pass."""
    log = manager.stream("s")
    log.append(b"x")
    manager._coordinator.before = fail(error)
    with pytest.raises(aof2.RolloverFailed):
        log.seal(timeout=20)
    meter = manager._context.meters.command("Rollover")
    while meter.failures < 4:
        manager._coordinator.kick(hasten=True)
    assert manager.health().state == "degraded"
    assert {code, "overdue"} <= reasons(manager)
    assert manager.metrics().commands_overdue == 1
    manager._coordinator.before = lambda command: None
    manager.drain("remote", timeout=20)
    assert manager.health() == aof2.Health("ok")
    found = manager.metrics()
    assert found.command_failures["Rollover"] == found.command_retries["Rollover"] >= 4


def test_dead_workers_are_a_failure(tmp_path):
    """Goal: `failed` says that a reopen is needed. Method: kill workers until they stay dead."""
    manager = aof2.open(tmp_path)
    log = manager.stream("s")
    log.append(b"x")
    manager._coordinator.before = fail(SystemExit("planned"))
    with pytest.raises(aof2.CoordinatorDied):
        log.seal(timeout=20)
    health = manager.health()
    assert (health.state, health.reasons[0].code) == ("failed", "coordinator_died")
    assert manager.metrics().worker_deaths == 4
    with pytest.raises(aof2.CoordinatorDied):
        manager.close()


def test_a_failed_sync_is_a_failure(tmp_path):
    """Goal: a writer that stopped is not overlooked. Method: make one fdatasync fail."""
    manager = aof2.open(tmp_path)
    log = manager.stream("s")
    log.append(b"x")

    def hook(op, fd, name, position, data, n):
        return errno.EIO if op == "fdatasync" else 0

    previous = posix.set_seam_hook(hook)
    try:
        with pytest.raises(aof2.DurabilityLost):
            log.flush()
    finally:
        posix.set_seam_hook(previous)
    assert manager.health().state == "failed"
    assert reasons(manager) == {"durability_lost"}
    assert manager.metrics().durability_lost == 1
    with pytest.raises(aof2.DurabilityLost):
        manager.close()


def test_an_open_breaker_is_degraded(manager):
    """Goal: an outage shows. Method: tell the breaker of failures."""
    for _ in range(5):
        manager._context.breaker.record(aof2.Tier2Unavailable("planned"))
    assert (manager.health().state, reasons(manager)) == ("degraded", {"breaker_open"})
    assert manager.metrics().breaker_state == 2
    manager._context.breaker.record(None)
    assert manager.metrics().breaker_openings == 1


def test_a_command_that_hangs_is_overdue(manager, monkeypatch):
    """Goal: a handler that does not return shows. Method: hold one past a deadline of none."""
    import threading

    gate = threading.Event()
    monkeypatch.setattr(Rollover, "deadline_s", 0.0)
    log = manager.stream("s")
    log.append(b"x")
    manager._coordinator.before = lambda command: gate.wait(20)
    with pytest.raises(aof2.WouldBlock):
        log.seal_nowait()
    while "overdue" not in reasons(manager):
        pass
    assert "runs for longer" in manager.health().reasons[0].text
    gate.set()
    manager.drain("remote", timeout=20)
    assert manager.health().state == "ok"
