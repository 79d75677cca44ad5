"""A process that writes to a root until something ends it, and tells an observer what it was told.

It is forked from a process that has the library loaded and no manager, so it begins at once.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aof2

KIB = 1 << 10
STREAM = "a"
RECORDS = 30_000
"""A writer that is not killed ends after so many."""


def config(tier2: Path | None, interval_s: float = 0.01) -> aof2.AofManagerConfig:
    """Small enough that seconds do all kinds of work."""
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
        tier0=aof2.Tier0Config(bytes_max=512 * KIB),
        tier1=aof2.Tier1Config(bytes_max=1024 * KIB if tier2 is None else 128 * KIB),
        tier2=None if tier2 is None else aof2.Tier2Config(url=str(tier2)),
        flush=aof2.FlushConfig(interval_s=interval_s, confirm_interval_s=0.005),
        coordinator=aof2.CoordinatorConfig(workers=2, retry_delay_s=0.01),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 * KIB, snapshot_chunks=1, publish_interval_s=0.01
        ),
        retention=aof2.RetentionConfig(delete_grace_s=0),
    )


def payload(offset: int) -> bytes:
    """The payload of an offset: its number, and a length that depends on it."""
    return b"%d." % offset * (1 + offset * 7919 % 60)


@dataclass
class Told:
    """What the observer has read so far: offsets below which records are safe.

    Attributes:
        returned: From a process kill.
        durable: From a power cut.
        text: What came after the last whole line.
    """

    returned: int = 0
    durable: int = 0
    text: bytes = b""

    def read(self, pipe: int) -> bool:
        """Take what there is; False at the end."""
        data = os.read(pipe, 1 << 16)
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            what, _, number = line.partition(b" ")
            if what == b"d":
                self.durable = int(number)
            self.returned = max(self.returned, int(number))
        return bool(data)


def start(
    root: Path, tier2: Path | None, seed: int, before: Callable[[], object]
) -> tuple[int, int]:
    """Fork a writer; `(process id, pipe that it tells)`. `before` runs in it first."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            # What it has to say is said through the pipe; a file system that went says more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            before()
            _write(root, tier2, seed, writing)
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return pid, reading


def _write(root: Path, tier2: Path | None, seed: int, pipe: int) -> None:
    chance = random.Random(seed)
    chosen = config(tier2, chance.choice([0.001, 0.01, 1.0]))
    durable_share = chance.choice([0.01, 0.1, 0.5])
    with aof2.open(root, config=chosen) as manager:
        log = manager.stream(STREAM)
        end = log.next_offset + RECORDS
        while (n := log.next_offset) < end:
            if chance.random() < 0.6:
                log.append(payload(n))
            else:
                log.append_many([payload(k) for k in range(n, n + chance.randrange(1, 40))])
            if chance.random() < durable_share:
                upto = log.next_offset
                log.flush()
                os.write(pipe, b"d %d\n" % upto)
            else:
                os.write(pipe, b"r %d\n" % log.next_offset)
            if chance.random() < 0.002:
                log.seal()


def end(pid: int) -> int:
    """Kill the writer where it lives; its wait status."""
    # It is a zombie at least until it is waited for, so its number cannot be another's.
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def check(root: Path, tier2: Path | None, at_least: int) -> int:
    """Open twice: an exact prefix with all that was promised, the same each time; how long it
    is."""
    ends = []
    for _ in range(2):
        with aof2.open(root, config=config(tier2)) as manager:
            log = manager.stream(STREAM)
            ends.append(log.next_offset)
            assert log.next_offset >= at_least, f"{log.next_offset} of {at_least} promised"
            assert log.watermarks.local == log.next_offset
            read = 0
            for offset, data in enumerate(log.reader().payloads()):
                read += 1
                assert data == payload(offset), f"record {offset} is {data[:40]!r}"
            assert read == log.next_offset, f"{read} of {log.next_offset} can be read"
    assert ends[0] == ends[1], f"{ends} at the first and the second open"
    return ends[0]
