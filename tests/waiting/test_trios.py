"""The three forms of every operation that can wait say the same, in states that really block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from blocked_states import STATES, Blocked

import aof2

HANDLES = (aof2.Aof, aof2.AofReader, aof2.AofManager)


def ids(row: Any) -> str:
    return f"{row[0]}-{row[1].__name__}"


@pytest.fixture(params=STATES, ids=ids)
def case(request, tmp_path) -> Iterator[tuple[Blocked, Any]]:
    """An operation in a state in which it has to wait."""
    with request.param[1](tmp_path / "root") as blocked:
        yield blocked, request.param


def forms(handle: Any, operation: str) -> tuple[Any, Any, Any]:
    """`(x, x_nowait, x_async)`."""
    name = operation.partition(".")[2]
    return tuple(getattr(handle, name + suffix) for suffix in ("", "_nowait", "_async"))


def test_every_operation_that_waits_is_tried_here():
    """Goal: no trio without a test. Method: enumerate the interface, compare with the table."""
    found = {
        f"{cls.__name__}.{name.removesuffix('_nowait')}"
        for cls in HANDLES
        for name in dir(cls)
        if name.endswith("_nowait")
    }
    assert found == {row[0] for row in STATES}
    assert {row[3] for row in STATES} >= {
        aof2.WouldBlockKind[name] for name in ("FLUSH", "ROLLOVER", "HYDRATION", "TAIL", "REMOTE")
    }
    for name in found:
        cls, _, operation = name.partition(".")
        for suffix in ("", "_async"):
            assert callable(getattr(getattr(aof2, cls), operation + suffix))


def test_without_time_all_three_forms_refuse_alike(case):
    """Goal: one contract. Method: call each form with no time to wait, and with time that is up
    already; kinds and errors agree."""
    (handle, _), (operation, _, arguments, kind, late) = case
    blocking, nowait, coroutine = forms(handle, operation)
    with pytest.raises(aof2.WouldBlock) as told:
        nowait(*arguments)
    assert type(told.value) is aof2.WouldBlock
    assert told.value.kind is kind
    assert 0 < told.value.retry_after_s <= 5
    assert told.value.wait(0) is False
    for timeout in (0, -1, -2.5):
        with pytest.raises(late) as first:
            blocking(*arguments, timeout=timeout)
        with pytest.raises(late) as second:
            asyncio.run(coroutine(*arguments, timeout=timeout))
        assert type(first.value) is type(second.value) is late
        for error in (first.value, second.value):
            assert isinstance(error, TimeoutError)
            assert getattr(error, "kind", kind) is kind


def test_a_wait_ends_when_a_retry_succeeds(case):
    """Goal: `WouldBlock.wait` tells the truth. Method: release what holds; wait; call again."""
    (handle, held), (operation, _, arguments, _, _) = case
    _, nowait, _ = forms(handle, operation)
    with pytest.raises(aof2.WouldBlock) as told:
        nowait(*arguments)
    blocked = told.value
    assert asyncio.run(blocked.wait_async(0)) is False
    held.release()
    for _ in range(100):
        assert blocked.wait(20) is True
        try:
            nowait(*arguments)
            return
        except aof2.WouldBlock as again:
            # Something else is missing now, e.g. room in the ring once there is a segment.
            blocked = again
    raise AssertionError("100 waits that ended, and no success")


def test_coroutines_of_a_loop_resume_by_themselves(case):
    """Goal: notifiers, cancellable. Method: two wait, one is cancelled; the other goes on after
    the release, and nobody is registered any more."""
    (handle, held), (operation, _, arguments, _, _) = case
    _, _, coroutine = forms(handle, operation)

    async def program() -> None:
        # A reader serves one task at a time.
        cancelled = asyncio.ensure_future(coroutine(*arguments, timeout=None))
        await asyncio.sleep(0.01)
        assert not cancelled.done()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        waiting = asyncio.ensure_future(coroutine(*arguments, timeout=30))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        held.release()
        await asyncio.wait_for(waiting, 20)

    asyncio.run(program())
    stream = getattr(handle, "_instance", None) or getattr(handle, "_stream", None)
    if stream is not None:
        assert sum(signal.waiters for signal in stream.signals._all()) == 0
