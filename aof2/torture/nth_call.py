"""The n-th call fails: every call to the operating system and to the store that a job makes.

A dry run of the job lists its calls by *place*: the operation and the kind of file, or the request
and the kind of object. A case is one place, its n-th call, an error, and whether it fails once or
from then on. Under it: only our own errors, everything accepted is there after a reopen, nothing
leaks, and nothing hangs.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aof2._core.posix import set_seam_hook
from aof2.errors import FetchFailed, Tier2Unavailable, UploadFailed
from aof2.objectstore import MemoryStore
from aof2.torture.job import Job, Leaks, fresh
from aof2.torture.order import drawn
from aof2.torture.pool import run_forked
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

WRITES = frozenset({"pwrite", "fallocate", "open", "rename", "mkdir", "fdatasync", "fsync_dir"})
REQUESTS = ("put", "replace", "get", "get_range", "head", "delete", "list")

SHORT = "short write"
_ERRNOS: dict[str, int] = {
    name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "ENOMEM")
}
_NUMBERS = re.compile(r"\d{6,}|[0-9a-f]{16,}")


@dataclass(frozen=True)
class Case:
    """Which call fails, and how.

    Attributes:
        place: `operation kind`, e.g. `pwrite segments/N.seg` or `store put seg`.
        nth: From 1.
        error: Name of an errno, `short write`, or `before` or `after` the store did it.
        once: Else every later call at this place fails as well.
    """

    place: str
    nth: int
    error: str
    once: bool

    def __str__(self) -> str:
        return f"{self.place} #{self.nth} {self.error} {'once' if self.once else 'for ever'}"


class Faults:
    """Counts calls by place, and fails those of a case."""

    def __init__(self, root: Path, case: Case | None) -> None:
        self.calls: Counter[str] = Counter()
        self.failed = 0
        self._root, self._case = str(root) + "/", case
        self._lock = threading.Lock()

    def hit(self, place: str) -> bool:
        """Count a call; whether it is to fail."""
        with self._lock:
            self.calls[place] += 1
            case, count = self._case, self.calls[place]
            if case is None or case.place != place:
                return False
            hit = count == case.nth if case.once else count >= case.nth
            self.failed += hit
            return hit

    def seam(
        self, op: str, fd: int, name: str | None, position: int, data: bytes | None, n: int
    ) -> int:
        """The hook of the core's seam."""
        if op == "store" or not self.hit(f"{op} {self._kind(fd, name)}".strip()):
            return 0
        assert self._case is not None
        if self._case.error == SHORT:
            return -max(1, n // 2)
        return _ERRNOS[self._case.error]

    def _kind(self, fd: int, name: str | None) -> str:
        try:
            path = os.readlink(f"/proc/self/fd/{fd}") if fd >= 0 else ""
        except OSError:
            path = ""
        if name and not name.startswith("/"):
            path = f"{path}/{name}"
        elif name:
            path = name
        path = path.replace(self._root, "").replace(" (deleted)", "")
        return _NUMBERS.sub("N", path)

    def request(self, name: str, key: str, moment: str) -> None:
        """A request to the store, before or after it was done."""
        kind = _NUMBERS.sub("N", key.rpartition("s-043a7187/")[2])
        kind = re.sub(r"^N/seg/.*", "seg", kind)
        if self._case is not None and self._case.error != moment:
            return
        if (self._case is not None or moment == "before") and self.hit(f"store {name} {kind}"):
            raise self.error_of(name, key)

    def error_of(self, name: str, key: str) -> Exception:
        """An outage at even counts, a refusal at odd ones."""
        if self.failed % 2:
            return Tier2Unavailable("planned outage", path=key)
        kind = UploadFailed if name in ("put", "replace", "delete") else FetchFailed
        return kind("planned failure", path=key)


class FailingStore(MemoryStore):
    """Objects in memory; every request asks whether it is to fail, before and after it."""

    faults: Faults | None = None


def _asking(name: str) -> Any:
    plain = getattr(MemoryStore, name)

    def call(self: FailingStore, key: str = "", *args: Any, **named: Any) -> Any:
        if self.faults is not None:
            self.faults.request(name, key, "before")
        answer = plain(self, key, *args, **named)
        if self.faults is not None:
            self.faults.request(name, key, "after")
        return answer

    return call


for _name in REQUESTS:
    setattr(FailingStore, _name, _asking(_name))


def cases_of(calls: Counter[str]) -> list[Case]:
    """Every case that a dry run's calls give."""
    found = []
    for place, count in sorted(calls.items()):
        op = place.partition(" ")[0]
        errors = ["EIO"]
        if op == "store":
            errors = ["before", "after"]
        elif op in WRITES:
            errors += ["ENOSPC", "EDQUOT"]
        if op in ("open", "mmap"):
            errors += ["EMFILE"] if op == "open" else ["ENOMEM"]
        if op == "pwrite":
            errors += [SHORT]
        for nth in range(1, count + 1):
            for error in errors:
                for once in (True,) if error == SHORT else (True, False):
                    found.append(Case(place, nth, error, once))
    return found


def dry_run(work: Path, seed: int) -> Counter[str]:
    """The calls of the job without any fault, by place."""
    _, faults = _run(None, fresh(work / "dry"), "torture-dry", seed)
    return faults.calls


def run_case(case: Case, work: Path, name: str, seed: int) -> dict[str, Any]:
    """Run the job under one fault, then without it.

    Returns:
        `violations`, `errors` by type, and `failed`: how many calls did.
    """
    root = fresh(work / name)
    leaks = Leaks(root)
    job, faults = _run(case, root, f"torture-{name}", seed)
    job.check_reopened()
    MemoryStore.forget(f"torture-{name}")
    job.violations += [f"leaked: {leak}" for leak in leaks.found()]
    return {"violations": job.violations, "errors": job.errors, "failed": faults.failed}


def _run(case: Case | None, root: Path, tier2: str, seed: int) -> tuple[Job, Faults]:
    store = FailingStore(tier2)
    MemoryStore.stand_in(tier2, store)
    job, faults = Job(root / "r", f"memory://{tier2}", seed), Faults(root / "r", case)
    set_seam_hook(faults.seam)
    store.faults = faults
    try:
        job.run()
    finally:
        set_seam_hook(None)
        store.faults = None
    return job, faults


def begin(setting: Setting) -> Cases:
    """Find all cases by a dry run."""
    # In a child, since whoever forks must have had no manager.
    (dry,) = run_forked(lambda _: dict(dry_run(setting.work, setting.seed)), [0])
    if dry.problem:
        raise CannotRun(f"the dry run failed: {dry.problem}")
    every = cases_of(Counter(dry.result))

    def run(number: int) -> Tally:
        case = every[drawn(setting.seed, number, len(every))]
        result = run_case(case, setting.work, f"nth-{number}", setting.seed)
        counts = Counter(dict.fromkeys(result["errors"], 1))
        counts["faults that happened"] = int(result["failed"] > 0)
        return Tally(counts=counts, violations=[f"{case}: {text}" for text in result["violations"]])

    return Cases(run, full=len(every))


ROW = Row(
    name="nth-call",
    tries="the n-th system call or request fails, once or for ever, by every error it can have",
    unit="cases",
    full=6000,
    minutes=15,
    begin=begin,
    case_timeout_s=90,
    at_a_time=6,
)
