"""Runs cases in forked children, which may die or hang without ending the run."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aof2.clock import Clock

PROCESSES = max(1, min(8, os.cpu_count() or 1))
"""Children at a time."""

_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Attributes:
        case: Its number.
        result: What its function returned, as JSON gives it back; None where it did not return.
        problem: Why it did not: the traceback, a signal, or its time ran out. Empty where it did.
    """

    case: int
    result: Any = None
    problem: str = ""


@dataclass
class _Child:
    pid: int
    pipe: int
    cases: Sequence[int]
    deadline_s: float
    text: bytes = b""
    begun: int = -1
    done: set[int] = field(default_factory=set)


def run_forked(
    work: Callable[[int], Any],
    cases: Sequence[int],
    *,
    processes: int = PROCESSES,
    case_timeout_s: float = 60.0,
    batch: int = 50,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Ended]:
    """Call `work(case)` for each case in children, and give the results as they come.

    Args:
        work: Returns what JSON can hold. The parent must have no thread and no manager when this
            is called, since children begin as copies of it.
        cases: Numbers of cases; each comes back once, in no particular order.
        case_timeout_s: After so long a case is killed. It prints its threads' stacks before.
        batch: So many cases share one child, unless one of them ends it.
        stop: Asked before each case; once it says True, no further case begins.
    """
    clock = Clock()
    waiting = deque(list(cases[at : at + batch]) for at in range(0, len(cases), batch))
    children: dict[int, _Child] = {}
    try:
        while waiting or children:
            if stop():
                waiting.clear()
            while waiting and len(children) < processes:
                child = _start(work, waiting.popleft(), clock.monotonic_s() + case_timeout_s, stop)
                children[child.pipe] = child
            ready = select.select(list(children), [], [], 0.2)[0]
            for pipe in ready:
                child = children[pipe]
                data = os.read(pipe, _READ_BYTES)
                if data:
                    child.text += data
                    yield from _lines(child, clock.monotonic_s() + case_timeout_s)
                else:
                    del children[pipe]
                    yield from _reap(child, waiting)
            for child in children.values():
                if clock.monotonic_s() > child.deadline_s:
                    # The child's own handler has printed every stack; its pipe now ends.
                    os.kill(child.pid, signal.SIGKILL)
    finally:
        for child in children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pipe)


def _start(
    work: Callable[[int], Any], cases: Sequence[int], deadline_s: float, stop: Callable[[], bool]
) -> _Child:
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(reading)
        status = 1
        try:
            _child(work, cases, writing, stop)
            status = 0
        finally:
            # Never back into the parent's stack.
            os._exit(status)
    os.close(writing)
    return _Child(pid, reading, cases, deadline_s)


def _child(
    work: Callable[[int], Any], cases: Sequence[int], pipe: int, stop: Callable[[], bool]
) -> None:
    for case in cases:
        if stop():
            return
        _tell(pipe, {"begin": case})
        try:
            _tell(pipe, {"case": case, "result": work(case)})
        except BaseException:
            _tell(pipe, {"case": case, "problem": traceback.format_exc()})


def _tell(pipe: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _lines(child: _Child, deadline_s: float) -> Iterator[Ended]:
    *lines, child.text = child.text.split(b"\n")
    for line in lines:
        message = json.loads(line)
        child.deadline_s = deadline_s
        if "begin" in message:
            child.begun = message["begin"]
            continue
        child.done.add(message["case"])
        yield Ended(message["case"], message.get("result"), message.get("problem", ""))


def _reap(child: _Child, waiting: deque[list[int]]) -> Iterator[Ended]:
    _, status = os.waitpid(child.pid, 0)
    os.close(child.pipe)
    left = [case for case in child.cases if case not in child.done]
    if not left or status == 0:
        return
    if child.begun in left:
        left.remove(child.begun)
        ended = os.waitstatus_to_exitcode(status)
        why = f"signal {-ended}" if ended < 0 else f"status {ended}"
        why += " (its time ran out)" * (-ended == signal.SIGKILL)
        yield Ended(child.begun, problem=f"the process ended with {why}")
    if left:
        waiting.appendleft(left)
