"""A seal's acknowledgement: who holds it is told, whatever form he waits in."""

from __future__ import annotations

import asyncio
import threading

import pytest
from coordinatorhelp import SteppedClock, without_workers
from waithelp import until

import aof2
from aof2.coordinator.commands import Command, Rollover
from aof2.coordinator.queue import CommandQueue
from aof2.seals import Seals

KIND = aof2.WouldBlockKind


def started(manager: aof2.AofManager) -> aof2.Aof:
    """A stream with one record, in a manager whose commands run only when they are told."""
    log = manager.stream("s")
    with pytest.raises(aof2.WouldBlock):
        log.append_nowait(b"x")
    manager._coordinator.poll()
    log.append_nowait(b"x")
    return log


def test_two_seals_of_a_segment_are_one_whatever_their_acks():
    """Goal: de-duplication. Method: the same segment with two acks; put both into the queue."""
    one, other = (Rollover("s", 1, Seals("s").ack(1)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == "Rollover(stream='s', segment=1)"
    queue = CommandQueue()
    assert queue.put(one, 0.0)
    assert not queue.put(other, 0.0)


def test_while_the_coordinator_is_held_a_seal_waits_for_its_ack_in_every_form(
    tmp_path, monkeypatch
):
    """Goal: the right kind at once; coroutines resume by themselves on the ack. Method: no worker,
    time stands still; one step of the coordinator acknowledges."""
    clock = SteppedClock()
    with without_workers(monkeypatch, tmp_path, clock=clock) as manager:
        log = started(manager)

        async def program() -> None:
            sealing = [asyncio.ensure_future(log.seal_async()) for _ in range(3)]
            await asyncio.sleep(0)
            for _ in range(3):
                with pytest.raises(aof2.WouldBlock) as refused:
                    log.seal_nowait()
                assert refused.value.kind is KIND.ROLLOVER
            assert not any(task.done() for task in sealing)
            assert manager._coordinator.poll()["Rollover"] == 1
            await asyncio.wait_for(asyncio.gather(*sealing), 20)
            log.seal_nowait()

        asyncio.run(program())
        assert clock.now_s == 1000.0
        assert log._instance.signals.work.waiters == 0


def test_while_the_coordinator_is_held_an_append_without_segment_resumes_by_itself(
    tmp_path, monkeypatch
):
    """Goal: the same for appends. Method: no worker; coroutines append into a stream without a
    segment; `Prepare` runs; each record is there once."""
    with without_workers(monkeypatch, tmp_path, clock=SteppedClock()) as manager:
        log = manager.stream("s")

        async def program() -> None:
            appending = [asyncio.ensure_future(log.append_async(b"%d" % n)) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(aof2.WouldBlock) as refused:
                log.append_nowait(b"refused")
            assert refused.value.kind is KIND.ROLLOVER
            assert manager._coordinator.poll() == {"Prepare": 1}
            assert sorted(await asyncio.wait_for(asyncio.gather(*appending), 20)) == [0, 1, 2]

        asyncio.run(program())
        assert sorted(log.reader().payloads()) == [b"0", b"1", b"2"]
        assert manager._context.meters.admission.snapshot().count == 3


def test_a_seal_that_fails_is_rollover_failed_for_everybody_who_waits_and_counted(tmp_path):
    """Goal: nobody waits for a seal that failed. Method: a thread, coroutines and a later call wait
    for a seal whose handler is held, then fails; afterwards it is tried again and succeeds."""
    gate, fail = threading.Event(), [True]

    def before(command: Command) -> None:
        if isinstance(command, Rollover):
            assert gate.wait(20)
            if fail[0]:
                raise OSError("planned")

    config = aof2.AofManagerConfig(coordinator=aof2.CoordinatorConfig(retry_delay_s=0.001))
    with aof2.open(tmp_path, config=config) as manager:
        log = manager.stream("s")
        log.append(b"kept")
        manager._coordinator.before = before
        ends: list[BaseException] = []

        def seal() -> None:
            with pytest.raises(aof2.RolloverFailed, match="planned") as told:
                log.seal(timeout=None)
            ends.append(told.value)

        async def program() -> None:
            sealing = [asyncio.ensure_future(log.seal_async(timeout=None)) for _ in range(3)]
            while log._instance.signals.work.waiters < 4:
                await asyncio.sleep(0.001)
            gate.set()
            ends.extend(await asyncio.gather(*sealing, return_exceptions=True))

        thread = threading.Thread(target=seal)
        thread.start()
        asyncio.run(program())
        thread.join(20)
        assert [type(error) for error in ends] == [aof2.RolloverFailed] * 4
        assert all(isinstance(error.__cause__, OSError) for error in ends)
        assert all(error.segment == 1 and error.stream == "s" for error in ends)
        with pytest.raises(aof2.RolloverFailed, match="planned"):
            log.seal_nowait()
        assert manager.metrics().command_failures["Rollover"] >= 1
        fail[0] = False
        until(lambda: log._instance.seals.error is None)
        log.seal(timeout=20)
        assert log.segments()[-1].sealed
        assert log.get(0).payload == b"kept"


def test_a_later_seal_is_told_that_an_earlier_one_fails(tmp_path, monkeypatch):
    """Goal: seals are in order, so who waits for the second hears of the first. Method: two
    segments with their END; the first seal fails, then both succeed."""
    with without_workers(monkeypatch, tmp_path, clock=(clock := SteppedClock())) as manager:
        log = started(manager)
        fail = [True]

        def before(command: Command) -> None:
            if isinstance(command, Rollover) and fail[0]:
                raise OSError("planned")

        manager._coordinator.before = before
        for _ in range(2):
            with pytest.raises((aof2.WouldBlock, aof2.RolloverFailed)):
                log.seal_nowait()
            with pytest.raises(aof2.WouldBlock):
                log.append_nowait(b"y")
            manager._coordinator.poll()
            log.append_nowait(b"y")
        assert [s.sealed for s in log.segments()] == [False] * 3
        with pytest.raises(aof2.RolloverFailed, match="planned") as told:
            log.seal_nowait()
        assert told.value.segment == 3
        fail[0] = False
        clock.step(60.0)
        assert manager._coordinator.poll()["Rollover"] == 3
        log.seal_nowait()
