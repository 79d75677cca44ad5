"""A job that uses all of the library on a small scale, and what must be true after it.

It goes on after an error, as programs do, and knows what was accepted: an append that raised was
accepted if, and only if, the stream's end moved.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aof2
from aof2.errors import AofError, CorruptionError, DurabilityLost, NotYetDurable
from aof2.tiers.choice import MEDIUM_ERRORS

STREAM = "s"


def job_config(tier2: str | None) -> aof2.AofManagerConfig:
    """Small files, small budgets, short pauses."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=256 << 10),
        tier1=aof2.Tier1Config(bytes_max=128 << 10, frame_bytes=16 << 10),
        tier2=None if tier2 is None else aof2.Tier2Config(url=tier2),
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
        flush=aof2.FlushConfig(interval_s=0.01),
        coordinator=aof2.CoordinatorConfig(workers=2, retry_delay_s=0.01, shutdown_timeout_s=1),
        retention=aof2.RetentionConfig(delete_grace_s=0),
        manifest=aof2.ManifestConfig(
            chunk_bytes=16 << 10, publish_interval_s=0.01, snapshot_chunks=1
        ),
        wait_timeout_s=0.5,
    )


class Job:
    """One root, the records that were offered to it, and which of them were accepted.

    Attributes:
        accepted: Payloads whose append returned, or moved the stream's end.
        flushed: So many of them had been flushed by a call that returned.
        errors: Errors met, by type.
        violations: What must not be; empty where all is well.
    """

    def __init__(self, root: Path, tier2: str | None, seed: int) -> None:
        self.root = root
        self.config = job_config(tier2)
        self.accepted: list[bytes] = []
        self.flushed = 0
        self.errors: dict[str, int] = {}
        self.violations: list[str] = []
        self._chance = random.Random(seed)

    # --- the job ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Open, work, close; open again, work, close."""
        for turn in range(2):
            with self.typed("open"), self._opened() as manager, self.typed("stream"):
                log = manager.stream(STREAM)
                self._check_start(log)
                self._work(manager, log, turn)

    def _work(self, manager: aof2.AofManager, log: aof2.Aof, turn: int) -> None:
        for size in (0, 100, 3000):
            self._append(log, lambda data: log.append(data), size)
        self._flush(log)
        self._append_many(log)
        with self.typed("seal"):
            log.seal()
        for _ in range(14):
            self._append(log, lambda data: log.append(data), 9000)
        self._append(log, lambda data: log.append(data, durable=True), 500)
        self._read(log)
        with self.typed("drain"):
            manager.drain("remote" if self.config.tier2 else "local")
        self._read(log)
        if turn:
            with self.typed("trim"):
                log.trim(before=log.first_offset + 6)
            with self.typed("drain"):
                manager.drain("remote" if self.config.tier2 else "local")

    @contextmanager
    def _opened(self) -> Iterator[aof2.AofManager]:
        manager = aof2.open(self.root, config=self.config)
        try:
            yield manager
        finally:
            with self.typed("close"):
                manager.close()

    @contextmanager
    def typed(self, what: str) -> Iterator[None]:
        """Our own errors pass; any other is a violation.

        Damage is one too, as there is none, unless it is what the system said of the medium."""
        try:
            yield
        except AofError as error:
            name = type(error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1
            if isinstance(error, CorruptionError) and not _is_of_the_medium(error.__cause__):
                self.violations.append(f"{what}: no byte was damaged, but {name}: {error}")
        except OSError as error:
            # What the system said of a file is told as it is.
            name = "OSError" if error.filename else "OSError without a file"
            self.errors[name] = self.errors.get(name, 0) + 1
        except Exception as error:
            self.violations.append(f"{what}: {type(error).__name__}: {error}")

    def _append(self, log: aof2.Aof, append: Callable[[bytes], int], size: int) -> None:
        data = self._chance.randbytes(size)
        at = len(self.accepted)
        with self.typed("append"):
            try:
                offset = append(data)
            except NotYetDurable as error:
                self.accepted.append(data)
                if error.offset != at:
                    self.violations.append(f"append of {at} tells offset {error.offset}")
                raise
            except DurabilityLost:
                # It was accepted where the failure came while waiting for its flush.
                self.accepted += [data] * (log.next_offset > at)
                raise
            self.accepted.append(data)
            if offset != at:
                self.violations.append(f"append of {at} gave {offset}")
        if log.next_offset != len(self.accepted):
            if log.next_offset == at + 1:
                self.violations.append(f"append of {at} raised, but it was accepted")
            self.accepted.append(data)

    def _append_many(self, log: aof2.Aof) -> None:
        parts = [self._chance.randbytes(n * 50) for n in range(5)]
        with self.typed("append_many"):
            log.append_many(parts)
            self.accepted += parts
        if log.next_offset != len(self.accepted):
            self.violations.append("append_many raised, but something was accepted")
            self.accepted += parts[: log.next_offset - len(self.accepted)]

    def _flush(self, log: aof2.Aof) -> None:
        before = len(self.accepted)
        with self.typed("flush"):
            log.flush()
            self.flushed = before

    def _check_start(self, log: aof2.Aof) -> None:
        """A stream that was opened again has what was accepted."""
        if log.next_offset != len(self.accepted):
            self.violations.append(
                f"reopened with {log.next_offset} records, {len(self.accepted)} were accepted "
                f"({self.flushed} flushed)"
            )
            del self.accepted[log.next_offset :]

    def _read(self, log: aof2.Aof) -> None:
        """Whatever can be read is what was appended."""
        with self.typed("read"):
            at = log.first_offset
            with log.reader(at) as reader:
                for payload in reader.payloads():
                    if payload != self.accepted[at]:
                        self.violations.append(f"record {at} differs")
                        return
                    at += 1
            if at != len(self.accepted):
                self.violations.append(f"a read ended at {at} of {len(self.accepted)}")

    # --- afterwards ------------------------------------------------------------------------------

    def check_reopened(self) -> None:
        """With nothing in the way any more, all that was accepted is there, and all goes on."""
        try:
            with aof2.open(self.root, config=self.config) as manager:
                log = manager.stream(STREAM)
                self._check_start(log)
                self._read(log)
                errors = dict(self.errors)
                self._append(log, lambda data: log.append(data, timeout=10), 100)
                manager.drain("remote" if self.config.tier2 else "local", timeout=20)
                self._read(log)
                if self.errors != errors:
                    self.violations.append(f"errors without a fault: {self.errors}")
                if self.config.tier2 and log.watermarks.remote != len(self.accepted):
                    self.violations.append("a drain without a fault left something behind")
        except Exception as error:
            self.violations.append(f"reopening: {type(error).__name__}: {error}")
        for path in self.root.rglob(".*"):
            self.violations.append(f"left behind: {path.relative_to(self.root)}")


def _is_of_the_medium(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) and cause.errno in MEDIUM_ERRORS


class Leaks:
    """Descriptors, threads and mappings of this process, before and after."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._fds, self._threads = self._look()

    def _look(self) -> tuple[dict[str, str], set[str]]:
        gc.collect()
        fds = {}
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        return fds, {thread.name for thread in threading.enumerate()}

    def found(self) -> list[str]:
        """What is there now and was not."""
        fds, threads = self._look()
        leaks = [f"descriptor of {path}" for fd, path in fds.items() if fd not in self._fds]
        leaks = [leak for leak in leaks if "/proc/" not in leak]
        leaks += [f"thread {name}" for name in threads - self._threads]
        with open("/proc/self/maps") as maps:
            leaks += [f"mapping {line.split()[-1]}" for line in maps if self._root in line]
        return leaks


def fresh(root: Path) -> Path:
    """An empty directory of that name."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    return root
