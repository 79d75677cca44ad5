"""`current.sealed` is a hint: whatever happens to it, the records are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashhelp import check, config, copy_of, fill

import aof2


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """A root that was closed, the same as a crash leaves it, and an older pointer of it."""
    base = tmp_path_factory.mktemp("pointer")
    with aof2.open(base / "closed", config=config()) as manager:
        log = manager.stream("a")
        fill(log, 500)
        log.seal()
        (path,) = (base / "closed").glob("*/segments/current.sealed")
        stale = path.read_bytes()
        fill(log, 3000)
        manager.drain()
        fill(log, 3050)
        log.flush()
        copy_of(base / "closed", base / "crashed")
    return base / "closed", base / "crashed", stale


def damaged(good: bytes, stale: bytes) -> dict[str, bytes | None]:
    """Every state the pointer may be found in; None: it is missing."""
    states: dict[str, bytes | None] = {
        "nominal": good,
        "missing": None,
        "stale": stale,
        "empty": b"",
    }
    states["zeroed"] = bytes(len(good))
    states["too long"] = good + b"\0"
    states["another stream's"] = good[:16] + bytes(16) + good[32:]
    for at in range(0, len(good), 8):
        flipped = bytearray(good)
        flipped[at] ^= 0x10
        states[f"byte {at} changed"] = bytes(flipped)
    for size in (1, 8, 50, len(good) - 1):
        states[f"cut to {size}"] = good[:size]
    return states


@pytest.mark.parametrize("how", ["closed", "crashed"])
def test_the_pointer_is_never_required(tmp_path, roots, how):
    """Goal: nominal, missing, stale, damaged: the same records each time.

    Method: each state of the pointer in a copy of a root; opened for reading, then for writing,
    which
    also repairs it.
    """
    closed, crashed, stale = roots
    source = closed if how == "closed" else crashed
    (name,) = [p.relative_to(source) for p in source.glob("*/segments/current.sealed")]
    good = (source / name).read_bytes()
    assert len(good) == 96
    assert stale != good
    for number, (state, data) in enumerate(damaged(good, stale).items()):
        root = copy_of(source, tmp_path / str(number))
        if data is None:
            (root / name).unlink()
        else:
            (root / name).write_bytes(data)
        with aof2.open(root, config=config(), readonly=True) as manager:
            payloads = list(manager.stream("a").reader().payloads())
            assert len(payloads) == 3050, state
        with aof2.open(root, config=config()) as manager:
            log = manager.stream("a")
            assert check(log) == 3050, state
            assert log.recovery.truncated_bytes == 0
            assert log.recovery.quarantine == ()
        again = (root / name).read_bytes()
        assert len(again) == 96
        if how == "closed":
            assert again == good, state
