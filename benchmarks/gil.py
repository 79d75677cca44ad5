"""How long a thread of the library keeps the GIL from everyone else, at most.

A thread asks for the GIL 2,000 times a second, at real-time priority where that is allowed, and
notes how long it waits for it. Beside it the library seals, compresses, uploads, publishes and
evicts what was appended before (*drain*), and a reader reads it back from tier 2 (*read cold*):

* *as it is*: with all workers and the interpreter's own `sys.getswitchinterval` of 5 ms. This is
  what a caller meets, with what the system adds when more threads want to run than there are
  processors, and the one that has the GIL is not among those that do.
* *calls*: with one worker, and an interval of 0.1 ms, at which pure Python gives the GIL up. What
  is left is the longest call in C that keeps it.

*Busy* is the same where more threads than processors hash without the GIL, and nothing else runs:
what the system itself takes. Asked of *calls*, draining: p99.9 at most 1 ms, never over 5 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from beside import at_rest

import aof2

BEAT_S = 0.0005
P999_US, MOST_US = 1e3, 5e3
WAYS = {"as it is": (4, 0.005), "calls": (1, 1e-4)}
"""`(workers, switch interval in seconds)` of each run."""
MIB = 1 << 20


class Probe:
    """Waits for the GIL again and again on a thread of its own.

    Attributes:
        waits_us: How long, in microseconds, of each beat.
        real_time: Whether the thread had real-time priority, so that only the GIL could hold it.
        beside: Where the other threads were when the longest wait had ended.
    """

    def __init__(self) -> None:
        self.waits_us: list[float] = []
        self.real_time = False
        self.beside: list[str] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="probe")

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            self.real_time = True
        longest = 0.0
        while not self._stop:
            began = time.perf_counter()
            time.sleep(BEAT_S)
            wait = (time.perf_counter() - began - BEAT_S) * 1e6
            self.waits_us.append(wait)
            if wait > longest:
                longest, self.beside = wait, self._others()

    @staticmethod
    def _others() -> list[str]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = []
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                code = frame.f_code
                place = f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}"
                found.append(f"{names.get(ident, 'a thread')} in {place}")
        return found

    @contextlib.contextmanager
    def running(self, switch_s: float) -> Iterator[Probe]:
        """Beat inside the block, at this switch interval."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(switch_s)
        self._thread.start()
        try:
            yield self
        finally:
            self._stop = True
            self._thread.join()
            sys.setswitchinterval(before)

    def at(self, share: float) -> float:
        """Microseconds below which this share of the waits lies."""
        ordered = sorted(self.waits_us)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def fill(log: aof2.Aof, mib: int) -> int:
    """Append so many MiB of records of 1 KiB; how many records."""
    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    from records import record_pool

    payloads, count = record_pool(1024).records, mib * 1024
    for n in range(count):
        log.append(payloads[n % len(payloads)])
    log.flush()
    return count


def burn(seconds: float) -> None:
    """Have every processor hash, without the GIL and without a new object, for so long."""
    data, until = bytes(MIB // 4), time.perf_counter() + seconds

    def work() -> None:
        while time.perf_counter() < until:
            hashlib.sha256(data)

    threads = [threading.Thread(target=work) for _ in range(1 + (os.cpu_count() or 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def probes(base: str, mib: int, workers: int, switch_s: float) -> dict[str, Probe]:
    """One run: the waits beside each kind of work."""
    found = {name: Probe() for name in ("busy", "drain", "read cold")}
    config = aof2.AofManagerConfig(
        tier0=aof2.Tier0Config(bytes_max=2 * mib * MIB),
        coordinator=aof2.CoordinatorConfig(workers=workers),
    )
    with tempfile.TemporaryDirectory(prefix="aof2-bench-", dir=base) as folder:
        cold = str(Path(folder) / "cold")
        with found["busy"].running(switch_s):
            burn(2.0)
        with at_rest():
            manager = aof2.open(Path(folder) / "root", tier2=cold, config=config)
            count = fill(manager.stream("a"), mib)
        with manager, found["drain"].running(switch_s):
            manager.drain("remote")
        # A fresh root has nothing local, so every byte comes from tier 2.
        with aof2.open(Path(folder) / "fresh", tier2=cold) as manager:
            log = manager.stream("a")
            with found["read cold"].running(switch_s):
                seen = sum(len(batch) for batch in log.reader().batches())
    if seen != count:
        raise SystemExit(f"{seen} of {count} records came back")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="ci/bench gil",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} processors ({platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}; {options.mib} MiB of records of 1 KiB\n"
    )
    print("| | Beside | Waits | p50 us | p99 us | p99.9 us | most us |")
    print("|---|---|--:|--:|--:|--:|--:|")
    held, beside = False, list[str]()
    for way, (workers, switch_s) in WAYS.items():
        for name, probe in probes(options.dir, options.mib, workers, switch_s).items():
            shares = " | ".join(f"{probe.at(q):,.0f}" for q in (0.5, 0.99, 0.999, 1.0))
            print(f"| {way} | {name} | {len(probe.waits_us):,} | {shares} |", flush=True)
            if (way, name) == ("calls", "drain"):
                held = probe.at(0.999) <= P999_US and probe.at(1.0) <= MOST_US
                beside = probe.beside
    print(f"\nat the end of the longest one of *calls*, draining: {'; '.join(beside)}")
    if not probe.real_time:
        print("\nno real-time priority here: waits for a processor are in these figures")
    print(f"\n{'held' if held else 'MISSED'}: p99.9 at most {P999_US:,.0f} us, all {MOST_US:,.0f}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
