"""The evidence rule against an oracle in plain Python: small segments, damaged everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tailmaker import (
    FILE_BYTES,
    FRAMES_AT,
    Tail,
    into_ring,
    judge,
    payload,
    place,
    template,
)

import aof2

SEED = 20261123
SAMPLE = 45
"""Mutations of each state in the short run."""

Made = tuple[list[bytes], bytes | None, int]
"""Files, ring, and how many records a flush covered."""


def active(first: Tail) -> Made:
    first.append(5).flush().append(7)
    return [bytes(first.data)], None, 5


def with_slots(first: Tail) -> Made:
    first.append(3).flush().slot(1).append(4).flush().slot(2).append(3)
    return [bytes(first.data)], None, 7


def clean(first: Tail) -> Made:
    first.append(6).flush().slot(1)
    return [bytes(first.data)], None, 6


def ended(first: Tail) -> Made:
    first.append(4).flush().append(3)
    first.end()
    return [bytes(first.data)], None, 4


def two_started(first: Tail) -> Made:
    """Nothing of the second is durable, so neither must the end of the first be."""
    first.append(4).flush().append(3)
    second = first.end().append(6)
    return [bytes(first.data), bytes(second.data)], None, 4


def two_flushed(first: Tail) -> Made:
    """The second's frames say that it was flushed, so all of the first was."""
    first.append(6)
    second = first.end().append(3).flush().append(5)
    return [bytes(first.data), bytes(second.data)], None, 9


def three_started(first: Tail) -> Made:
    first.append(3).flush().append(2)
    second = first.end().append(4)
    third = second.end().append(3)
    return [bytes(t.data) for t in (first, second, third)], None, 3


def with_ring(first: Tail) -> Made:
    """The last frames are in the ring only, as after the death of the process."""
    first.append(4).flush().append(2)
    written = first.at
    first.append(6)
    ring = into_ring(first, written)
    return [bytes(first.data)], ring, 4


STATES: list[Callable[[Tail], Made]] = [
    active,
    with_slots,
    clean,
    ended,
    two_started,
    two_flushed,
    three_started,
    with_ring,
]


def mutations(files: list[bytes], ring: bytes | None) -> Iterator[tuple[int, str, int]]:
    """`(file, kind, place)`; file -1 is the ring."""
    for index, data in [*enumerate(files), *([] if ring is None else [(-1, ring)])]:
        used = len(data.rstrip(b"\0")) + 24
        parts = [(0, 80), (2040, 2136), (4088, 4136), (4600, 4648), (FRAMES_AT - 8, used)]
        for low, high in [(4096, used)] if index < 0 else parts:
            yield from ((index, "flip", at) for at in range(low, high))
        for size in (512, 4096):
            yield from ((index, f"zero {size}", at) for at in range(0, used, size))
        if index >= 0:
            yield from ((index, "cut", at) for at in range(0, FILE_BYTES, 8 * 7))
            yield from ((index, "cut", at) for at in range(FRAMES_AT, used))


def mutated(data: bytes, kind: str, at: int) -> bytes:
    out = bytearray(data)
    if kind == "flip":
        out[at] ^= 1 << at % 8
    elif kind == "cut":
        del out[at:]
    else:
        size = int(kind.split()[1])
        out[at : at + size] = bytes(len(out[at : at + size]))
    return bytes(out)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    path = tmp_path_factory.mktemp("evidence") / "template"
    _, uuid, root_id = template(path)
    return path, uuid, root_id


def opened(root: Path) -> list[bytes] | None:
    """What a recovery comes to: the records, or None for a typed error that names the place."""
    try:
        with aof2.open(root) as manager:
            log = manager.stream("a")
            assert log.recovery.records == log.next_offset
            return list(log.reader().payloads())
    except (aof2.CorruptionError, aof2.VersionTooNew) as error:
        return None if error.path is not None else [b"an error without a path"]


def everything(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def served(root: Path) -> tuple[list[bytes], aof2.AofError | None]:
    """What a readonly opening serves, and what it raises where that ends; it changes nothing."""
    before, got = everything(root), []
    try:
        with aof2.open(root, readonly=True) as manager:
            for record in manager.stream("a").reader():
                got.append(record.payload)
    except (aof2.CorruptionError, aof2.VersionTooNew) as error:
        return got, error
    finally:
        assert everything(root) == before
    return got, None


@pytest.mark.parametrize("state", STATES)
def test_whatever_is_damaged_it_is_a_typed_error_or_the_right_prefix(
    tmp_path, base, state, pytestconfig
):
    """Goal: promises 4 and 5 for the unsealed end of a stream.

    Method: every byte flipped, every sector zeroed, every truncation of small segments (a seeded
    part of them in the short run); an oracle of the rule says what has to come of it.
    """
    path, uuid, root_id = base
    files, ring, durable = state(Tail(1, 0, uuid, root_id))
    every = list(mutations(files, ring))
    if not pytestconfig.getoption("--long"):
        every = random.Random(f"{SEED} {state.__name__}").sample(every, SAMPLE)
    refused = 0
    for turn, (index, kind, at) in enumerate(every):
        hurt, hurt_ring = list(files), ring
        if index < 0:
            assert ring is not None
            hurt_ring = mutated(ring, kind, at)
        else:
            hurt[index] = mutated(files[index], kind, at)
        wanted = judge(hurt, hurt_ring, uuid)
        root = place(path, tmp_path / str(turn), hurt, hurt_ring)
        case = f"{state.__name__}: {kind} at {at} of file {index}"
        prefix, raised = served(root)
        assert prefix == [payload(n) for n in range(len(prefix))], case
        if wanted is not None and raised is not None:
            # Only a writer can give a file that was cut behind its END its footer; and while a ring
            # may have a writer, what it says to be there and is not is damage.
            assert kind == "cut" or ring is not None, (case, raised)
            assert prefix == wanted[: len(prefix)], case
        elif raised is None:
            assert prefix == wanted, case
        else:
            assert raised.path is not None, case
            assert raised.offset == len(prefix), (case, raised)
        got = opened(root)
        assert got == wanted, case
        refused += got is None
        if got is None:
            homes = sorted(root.glob("a-*/segments/*.seg"))
            assert [home.read_bytes() for home in homes] == hurt, case
        else:
            assert got == [payload(n) for n in range(len(got))], case
            if kind == "flip":
                assert len(got) >= durable, case
            assert opened(root) == got, case
    print(f"{state.__name__}: {len(every)} mutations, {refused} refused, seed {SEED}")
    assert refused


def test_the_states_are_whole_before_they_are_damaged(tmp_path, base):
    """Goal: the oracle and the library agree on undamaged tails. Method: open each state as it
    is."""
    path, uuid, root_id = base
    for number, state in enumerate(STATES):
        files, ring, _ = state(Tail(1, 0, uuid, root_id))
        wanted = judge(files, ring, uuid)
        assert wanted
        got = opened(place(path, tmp_path / str(number), files, ring))
        assert got == wanted, state.__name__


def test_a_damaged_ring_header_holds_no_reader_up(tmp_path, base):
    """Goal: what nobody syncs can say anything; reading ends, with records or an error.

    Method: every third bit of the part of the ring's header that is in use.
    """
    path, uuid, root_id = base
    files, ring, _ = with_ring(Tail(1, 0, uuid, root_id))
    assert ring is not None
    root = place(path, tmp_path / "root", files, ring)
    (home,) = root.glob("a-*/segments")
    for bit in range(0, 8 * 128, 3):
        hurt = bytearray(ring)
        hurt[bit // 8] ^= 1 << bit % 8
        (home / "landing.ring").write_bytes(hurt)
        prefix, _ = served(root)
        assert prefix == [payload(n) for n in range(len(prefix))], bit
