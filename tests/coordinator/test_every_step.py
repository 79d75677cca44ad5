"""A failure at every durable step of every handler, and a close during each."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from coordinatorhelp import our_threads
from every_step import Place, Program, Steps, StepStore, every_place, failing, stepping
from waithelp import until

import aof2
from aof2.coordinator.handlers import _HANDLERS

REQUESTS = ("put", "replace", "delete")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that is possible: what is tried here is order, not a device."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="aof2-steps-", dir=memory if memory.is_dir() else None)
    yield Path(made)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def places() -> list[Place]:
    """Every durable step that background work makes."""
    made = tempfile.mkdtemp(prefix="aof2-steps-")
    found = every_place(Path(made) / "root")
    shutil.rmtree(made)
    return sorted(found)


def first_of_each(places: list[Place], *, long: bool) -> list[Place]:
    """All of them in the long campaign; else the first and the last of each call of a command."""
    if long:
        return places
    by_call = {(place.command, place.call): place for place in places}
    firsts = {(place.command, place.call): place for place in reversed(places)}
    return sorted({*by_call.values(), *firsts.values()})


def test_the_program_has_every_command_run(places):
    """Goal: a new command is not forgotten. Method: compare with the handlers."""
    found = {place.command for place in places}
    missing = {kind.__name__ for kind in _HANDLERS} - found
    assert not missing, f"{missing}: have the program do it"


def end(program: Program, manager: aof2.AofManager) -> None:
    """Close; only what a lost device makes it raise is allowed."""
    try:
        manager.close()
    except aof2.DurabilityLost:
        assert program.lost
    assert not our_threads()


def test_a_failure_at_every_step_loses_nothing(folder, places, request):
    """Goal: a handler can be cut anywhere. Method: each step fails once: a call with EIO, a
    request before and after it was carried out; the same process goes on, or its writer has
    stopped; what was acknowledged is there after reopening, and the work comes to its end."""
    chosen = first_of_each(places, long=request.config.getoption("--long"))
    for number, place in enumerate(chosen):
        for after in (False, True) if place.call in REQUESTS else (False,):
            print(f"{place}{' after' if after else ''}")
            program = Program(folder / f"{number}-{after}", StepStore())
            manager = program.open()
            steps = failing(place, after=after)
            manager._coordinator.before = steps.begin
            with stepping(program.store, steps):
                program.run(manager)
            end(program, manager)
            program.check_reopened()
            shutil.rmtree(program.root)


def closed_at(program: Program, wanted: tuple[str, str]) -> bool:
    """Close the manager while the first of these calls is held; whether it came to one."""
    held, gate = threading.Event(), threading.Event()

    def hold(place: Place) -> int:
        if place[:2] == wanted and not held.is_set():
            held.set()
            assert gate.wait(20)
        return 0

    manager = program.open()
    steps = Steps(hold, lambda place: 0)
    manager._coordinator.before = steps.begin
    with stepping(program.store, steps):
        running = threading.Thread(target=program.run_until_closed, args=(manager,))
        running.start()
        until(lambda: held.is_set() or not running.is_alive())
        closing = threading.Thread(target=manager.close)
        closing.start()
        until(lambda: manager._coordinator.stopping)
        gate.set()
        for thread in (closing, running):
            thread.join(20)
            assert not thread.is_alive()
    assert not our_threads()
    return held.is_set()


def test_a_close_during_every_step_loses_nothing(folder, places):
    """Goal: what runs is finished or found again. Method: workers run; each call of each command is
    held, the manager is closed meanwhile, then the call goes on; close ends, and all that was
    accepted is there after reopening."""
    reached = set()
    calls = sorted({place[:2] for place in places})
    for command, call in calls:
        print(f"{command}.{call}")
        program = Program(folder / f"{command}.{call}", StepStore(), threads=True)
        if closed_at(program, (command, call)):
            reached.add(command)
        program.threads = False
        program.check_reopened()
        shutil.rmtree(program.root)
    # Whether these are needed depends on how the threads fare.
    by_chance = {"ReturnSpare", "Relinquish", "Hydrate"}
    assert reached >= {command for command, _ in calls} - by_chance
