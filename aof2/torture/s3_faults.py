"""The S3 fault matrix: operation x fault x once or always x a fresh or a reopened root.

In each cell a small job runs against a real server, behind a proxy that harms one kind of request.
While the fault lasts: only our own errors, never other bytes than were appended, and no segment
without a local copy whose object is not there. Once it is gone: everything drains, the job reads
back what it wrote, nobody was fenced, deleted objects go, and a fresh root restores all of it from
the bucket alone.
"""

from __future__ import annotations

import atexit
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aof2
from aof2.clock import Clock
from aof2.errors import AofError, Fenced, TierError, WouldBlock
from aof2.objectstore import open_tier2
from aof2.testing.faults import Fault
from aof2.testing.proxy import FaultProxy, Rule
from aof2.testing.seaweedfs import SeaweedFS
from aof2.torture.order import drawn
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

OPERATIONS: dict[str, tuple[str, str]] = {
    "put segment": ("put", "*/seg/*"),
    "put chunk": ("put", "*.mlog"),
    "put claim": ("put", "*/epoch/*"),
    "put HEAD": ("put", "*/HEAD"),
    "get range": ("get", "*/seg/*"),
    "head": ("head", "*"),
    "list": ("list", "*"),
    "delete": ("delete", "*/seg/*"),
}
PHASES = ("fresh", "reopened")
RECORDS = 90
_TRIM = 20
_GONE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Cell:
    """One place of the matrix."""

    operation: str
    fault: Fault
    times: int | None
    phase: str

    def __str__(self) -> str:
        often = "once" if self.times else "always"
        return f"{self.operation} / {self.fault.value} / {often} / {self.phase}"


@dataclass
class Verdict:
    """What a cell showed.

    Attributes:
        applied: How often the fault happened.
        errors: Codes of the errors that the job met while it lasted.
        violations: What must not be; empty where all is well.
    """

    applied: int = 0
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def cells() -> list[Cell]:
    """Every cell, in a fixed order."""
    return [
        Cell(operation, fault, times, phase)
        for phase in PHASES
        for times in (1, None)
        for fault in Fault
        for operation in OPERATIONS
    ]


def job_config(tier2: aof2.Tier2Config) -> aof2.AofManagerConfig:
    """Small segments and budgets, short pauses."""
    return aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=256 << 10),
        tier1=aof2.Tier1Config(bytes_max=128 << 10, frame_bytes=16 << 10),
        tier2=tier2,
        segment=aof2.SegmentConfig(segment_bytes_max=64 << 10),
        coordinator=aof2.CoordinatorConfig(workers=3, retry_delay_s=0.02, shutdown_timeout_s=3),
        retention=aof2.RetentionConfig(delete_grace_s=0),
        manifest=aof2.ManifestConfig(chunk_bytes=16 << 10, publish_interval_s=0.02),
        wait_timeout_s=20,
    )


class Job:
    """The job of one cell: a root, what was appended to it, and what it met."""

    def __init__(self, cell: Cell, server: SeaweedFS, proxy: FaultProxy, work: Path, name: str):
        self.cell, self.proxy, self.root = cell, proxy, work / name
        direct = aof2.Tier2Config(**server.tier2(name), request_timeout_s=20)
        self.direct = direct
        through = replace(direct, endpoint_url=proxy.endpoint_url, request_timeout_s=0.4)
        self.config = job_config(through)
        chance = random.Random(name)
        self.records = [chance.randbytes(chance.randrange(8000)) for _ in range(RECORDS)]
        self.taken = 0
        self.verdict = Verdict()

    # --- while the fault lasts -------------------------------------------------------------------

    @contextmanager
    def typed(self, what: str) -> Iterator[None]:
        """Our own errors are fine here, but for the one that says another writer came."""
        try:
            yield
        except Fenced as error:
            self.verdict.violations.append(f"{what}: fenced without another writer: {error}")
        except AofError as error:
            self.verdict.errors.append(error.code)

    def append(self, log: aof2.Aof, until: int) -> None:
        """Append up to a record, until an append has to wait for too long."""
        with self.typed("append"):
            while self.taken < until:
                log.append(self.records[self.taken], timeout=0.4)
                self.taken += 1

    def read(self, log: aof2.Aof, what: str, start: int | None = None) -> None:
        """Read everything; other bytes than those appended are a violation."""
        at = log.first_offset if start is None else start
        with log.reader(at) as reader:
            for payload in reader.payloads():
                if payload != self.records[at]:
                    self.verdict.violations.append(f"{what}: record {at} differs")
                    return
                at += 1
        if at < self.taken:
            self.verdict.violations.append(f"{what}: ended at {at}, {self.taken} were appended")

    def check_copies(self, log: aof2.Aof) -> None:
        """No segment without a local copy unless its object is there, by the server's own word."""
        with open_tier2(self.direct) as store:
            for info in log.segments():
                local = info.residency & {aof2.Tier.HOT, aof2.Tier.WARM}
                if not local and (info.key is None or store.head(info.key) is None):
                    self.verdict.violations.append(f"segment {info.segment_id} is nowhere")

    def under_fault(self, rule: Rule) -> None:
        """The job while requests are harmed; it does not end before one was."""
        with self.typed("open"), aof2.open(self.root, config=self.config) as manager:
            log = manager.stream("s")
            self.append(log, RECORDS * 2 // 3)
            with self.typed("drain"):
                manager.drain("remote", timeout=1)
            with self.typed("trim"):
                log.trim(before=min(_TRIM, self.taken), timeout=1)
            clock = Clock()
            until_s = clock.monotonic_s() + _GONE_TIMEOUT_S
            while True:
                # Again, as nothing may be in tier 2 alone yet.
                with self.typed("read"):
                    self.read(log, "read under the fault")
                if rule.applied or clock.monotonic_s() >= until_s:
                    break
                clock.sleep(0.02)
            self.check_copies(log)

    # --- once it is gone -------------------------------------------------------------------------

    def afterwards(self) -> None:
        """Everything goes on by itself."""
        with aof2.open(self.root, config=self.config) as manager:
            log = manager.stream("s")
            for record in self.records[self.taken :]:
                log.append(record, timeout=20)
            self.taken = RECORDS
            manager.drain("remote", timeout=30)
            if log.watermarks.remote != RECORDS:
                self.verdict.violations.append(f"remote is {log.watermarks.remote} after a drain")
            log.trim(before=max(_TRIM, log.first_offset), timeout=20)
            self.read(log, "read afterwards")
            self.check_copies(log)
            self.check_objects(log)

    def check_objects(self, log: aof2.Aof) -> None:
        """One object per segment, none of what was trimmed."""
        clock = Clock()
        until_s = clock.monotonic_s() + _GONE_TIMEOUT_S
        with open_tier2(self.direct) as store:
            while True:
                wanted = sorted(info.key or "" for info in log.segments() if info.sealed)
                found = [info.key for info in store.list() if "/seg/" in info.key]
                if found == wanted:
                    return
                if clock.monotonic_s() > until_s:
                    extra = sorted(set(found) ^ set(wanted))
                    self.verdict.violations.append(f"objects and segments differ: {extra}")
                    return
                clock.sleep(0.02)

    def restored(self) -> None:
        """A fresh root has all of it from the bucket alone."""
        shutil.rmtree(self.root)
        config = job_config(self.direct)
        with aof2.open(self.root, config=config) as manager:
            log = manager.stream("s")
            if log.first_offset > _TRIM or log.next_offset != RECORDS:
                held = f"[{log.first_offset}, {log.next_offset})"
                self.verdict.violations.append(f"a fresh root has {held} of [{_TRIM}, {RECORDS})")
            self.read(log, "read after a restore")


def run_cell(cell: Cell, server: SeaweedFS, proxy: FaultProxy, work: Path, name: str) -> Verdict:
    """Run one cell; `name` is a prefix of the bucket that nobody used before."""
    job = Job(cell, server, proxy, work, name)
    applied = 0
    try:
        if cell.phase == "reopened":
            with aof2.open(job.root, config=job.config) as manager:
                job.append(manager.stream("s"), RECORDS // 3)
        if cell.operation == "head":
            # A HEAD is asked for only where the outcome of a put is unknown.
            proxy.fail(Fault.LATE_ERROR, "put", "*/seg/*", times=8)
        operation, key = OPERATIONS[cell.operation]
        rule = proxy.fail(cell.fault, operation, key, times=cell.times, pause_s=0.01)
        job.under_fault(rule)
        proxy.clear()
        applied = rule.applied
        job.afterwards()
        job.restored()
    except (TierError, WouldBlock, OSError, AofError) as error:
        job.verdict.violations.append(f"{type(error).__name__}: {error}")
    finally:
        proxy.clear()
        shutil.rmtree(job.root, ignore_errors=True)
    job.verdict.applied = applied
    return job.verdict


def begin(setting: Setting) -> Cases:
    """Start the server that all cells share; it ends with this process."""
    server, every = SeaweedFS(), cells()
    try:
        server.__enter__()
    except FileNotFoundError as error:
        raise CannotRun(str(error)) from error
    atexit.register(server.stop)

    def run(number: int) -> Tally:
        cell = every[drawn(setting.seed, number, len(every))]
        with FaultProxy.before(server) as proxy:
            verdict = run_cell(cell, server, proxy, setting.work, f"cell-{number}")
        if not verdict.applied:
            verdict.violations.append("the fault never happened")
        return Tally(
            counts=Counter(verdict.errors),
            violations=[f"{cell}: {text}" for text in verdict.violations],
        )

    return Cases(run, full=len(every))


ROW = Row(
    name="s3-faults",
    tries="each S3 request meets each fault, once or always, on a fresh and on a reopened root",
    unit="cells",
    full=len(OPERATIONS) * len(Fault) * 2 * len(PHASES),
    minutes=12,
    begin=begin,
    batch=4,
    case_timeout_s=180,
)
