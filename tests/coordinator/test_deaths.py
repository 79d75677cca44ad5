"""Background work that has ended for good: whoever waits for it is told, in whatever form."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from coordinatorhelp import our_threads
from waithelp import until

import aof2
from aof2.coordinator.commands import Command


async def finished(work: Awaitable[Any]) -> Any:
    """As a coroutine, which the end of an async iterator's next step is not."""
    return await work


class Death(BaseException):
    """Ends a worker."""


def kill(command: Command) -> None:
    raise Death


def uploaded(log: aof2.Aof) -> aof2.AofReader:
    """Follows what is in tier 2."""
    return log.reader(follow=True, until="remote")


WAITS: dict[str, Callable[[aof2.AofManager, aof2.Aof], Any]] = {
    "seal": lambda manager, log: log.seal(timeout=None),
    "seal_async": lambda manager, log: log.seal_async(timeout=None),
    "wait": lambda manager, log: log.wait(0, "remote", timeout=None),
    "wait_async": lambda manager, log: log.wait_async(0, "remote", timeout=None),
    "drain": lambda manager, log: manager.drain(timeout=None),
    "drain_async": lambda manager, log: manager.drain_async("remote", timeout=None),
    "append": lambda manager, log: manager.stream("b").append(b"x", timeout=None),
    "append_async": lambda manager, log: manager.stream("b").append_async(b"x", timeout=None),
    "append_many": lambda manager, log: manager.stream("b").append_many([b"x"], timeout=None),
    "append_many_async": lambda manager, log: manager.stream("b").append_many_async(
        [b"x"], timeout=None
    ),
    "append_durable_async": lambda manager, log: manager.stream("b").append_async(
        b"x", durable=True, timeout=None
    ),
    "read": lambda manager, log: uploaded(log).read(timeout=None),
    "read_async": lambda manager, log: uploaded(log).read_async(timeout=None),
    "iterate": lambda manager, log: next(uploaded(log)),
    "iterate_async": lambda manager, log: anext(uploaded(log)),
}
"""Waits that only background work can end."""


def check_refused(manager: aof2.AofManager, log: aof2.Aof) -> None:
    """A retry says why, at once."""
    with pytest.raises(aof2.CoordinatorDied):
        manager.stream("b").append_nowait(b"x")
    for refused in (
        log.seal_nowait,
        manager.drain_nowait,
        lambda: log.wait_nowait(0, "remote"),
        uploaded(log).read_nowait,
    ):
        with pytest.raises(aof2.CoordinatorDied):
            refused()


def test_whoever_waits_when_the_workers_have_died_is_told_so(tmp_path):
    """Goal: never a hang. Method: workers are held; each call waits, in a thread or in a coroutine
    on a loop of its own; `WouldBlock.wait` too; then every command kills its worker. All of them
    end with `CoordinatorDied`, so do later calls, and `health` says so."""
    gate, ends = threading.Event(), {}

    def hold(command: Command) -> None:
        assert gate.wait(20)
        raise Death

    manager = aof2.open(tmp_path / "r", tier2="memory://deaths")
    log = manager.stream("a")
    log.append(b"kept")
    manager.stream("b")
    manager._coordinator.before = hold

    def attempt(name: str) -> None:
        try:
            work = WAITS[name](manager, log)
            if inspect.isawaitable(work):
                asyncio.run(finished(work))
        except BaseException as error:
            ends[name] = error

    threads = [threading.Thread(target=attempt, args=(name,)) for name in WAITS]
    with pytest.raises(aof2.WouldBlock) as told:
        manager.stream("b").append_nowait(b"x")
    for thread in threads:
        thread.start()
    signals = log._instance.signals
    until(lambda: signals.work.waiters == 8)
    until(lambda: manager._context.announcer.work.waiters == 2)
    until(lambda: manager._instances["b"].signals.room.waiters == 3)
    gate.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert {name: type(error) for name, error in ends.items()} == dict.fromkeys(
        WAITS, aof2.CoordinatorDied
    )
    assert all(isinstance(error.__cause__, Death) for error in ends.values())
    assert told.value.wait(20)
    check_refused(manager, log)
    health = manager.health()
    assert health.state == "failed"
    assert "coordinator_died" in {reason.code for reason in health.reasons}
    assert manager.metrics().worker_deaths > 3
    # What needs no background work goes on.
    log.flush(timeout=20)
    assert log.get(0).payload == b"kept"
    with pytest.raises(aof2.CoordinatorDied):
        manager.close()
    assert not our_threads()
    with aof2.open(tmp_path / "r", tier2="memory://deaths") as manager:
        manager.stream("a").wait(0, "remote", timeout=20)
