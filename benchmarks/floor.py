"""Times aof2 against lmdb on the same records; a sync at the end counts.

Every measurement is a fresh process, and the two take turns, so that drift of the machine falls on
both.
Exits with 1 when a median ratio is below its floor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

RECORD_BYTES = 128
BATCH = 1000
KEY = struct.Struct(">Q").pack
FLOORS = {"append": 3.0, "append_many": 3.0, "scan": 1.5}


def record_pool(count: int) -> list[bytes]:
    """Distinct records of text that compresses about as log lines do."""
    lines = []
    for i in range(count):
        text = f'{{"ts":{1_700_000_000 + i},"level":"INFO","path":"/orders/{i * 7919 % 10**6}",'
        text += f'"trace":"{i * 0x9E3779B97F4A7C15 % 2**64:016x}","status":{200 + i % 5}}}'
        lines.append(text.encode().ljust(RECORD_BYTES, b"."))
    return lines


class Aof2:
    """aof2 with everything at its defaults."""

    def __init__(self, path: str) -> None:
        import aof2

        self._manager = aof2.open(path)
        self._log = self._manager.stream("bench")
        self.append, self.append_many, self.sync = (
            self._log.append,
            self._log.append_many,
            self._log.flush,
        )

    def scan(self) -> Iterator[bytes]:
        return (record.payload for record in self._log.reader())

    def close(self) -> None:
        self._manager.close()


class Lmdb:
    """lmdb with its best documented settings: appending puts, transactions of 10,000, one sync."""

    def __init__(self, path: str) -> None:
        import lmdb

        os.makedirs(path, exist_ok=True)
        self._env = lmdb.open(
            os.path.join(path, "data"),
            map_size=16 << 30,
            subdir=False,
            lock=False,
            readahead=False,
            sync=False,
            metasync=False,
        )
        self._next = 0
        self._transaction = None
        self._pending = 0

    def append(self, record: bytes) -> None:
        if self._transaction is None:
            self._transaction = self._env.begin(write=True)
        self._transaction.put(KEY(self._next), record, append=True)
        self._next += 1
        self._pending += 1
        if self._pending == 10 * BATCH:
            self._commit()

    def append_many(self, records: list[bytes]) -> None:
        if self._transaction is None:
            self._transaction = self._env.begin(write=True)
        keys = map(KEY, range(self._next, self._next + len(records)))
        self._transaction.cursor().putmulti(zip(keys, records, strict=True), append=True)
        self._next += len(records)
        self._pending += len(records)
        if self._pending >= 10 * BATCH:
            self._commit()

    def _commit(self) -> None:
        if self._transaction is not None:
            self._transaction.commit()
            self._transaction, self._pending = None, 0

    def sync(self) -> None:
        self._commit()
        self._env.sync(True)

    def scan(self) -> Iterator[bytes]:
        with self._env.begin() as transaction:
            yield from transaction.cursor().iternext(keys=False, values=True)

    def close(self) -> None:
        self._env.close()


PEERS: dict[str, Callable[[str], Aof2 | Lmdb]] = {"aof2": Aof2, "lmdb": Lmdb}


def measure(peer: str, work: str, count: int, path: str) -> float:
    """Records per second of one run, from the first call to the end of the sync or the scan."""
    pool = record_pool(10 * BATCH)
    batches = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    store = PEERS[peer](path)
    began = time.perf_counter()
    if work == "append":
        append = store.append
        for _ in range(count // len(pool)):
            for record in pool:
                append(record)
    else:
        append_many = store.append_many
        for n in range(count // BATCH):
            append_many(batches[n % len(batches)])
    store.sync()
    elapsed = time.perf_counter() - began
    if work == "scan":
        began = time.perf_counter()
        seen = sum(1 for _ in store.scan())
        elapsed = time.perf_counter() - began
        if seen != count:
            raise SystemExit(f"{peer} returned {seen} of {count} records")
    store.close()
    return count / elapsed


def run(peer: str, work: str, count: int, folder: str) -> float:
    """One measurement in a process of its own."""
    path = tempfile.mkdtemp(dir=folder)
    try:
        command = [sys.executable, __file__, "--one", peer, "--work", work]
        command += ["--records", str(count), "--dir", path]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(json.loads(out))
    finally:
        shutil.rmtree(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where on disk to write")
    parser.add_argument("--one", choices=sorted(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=sorted(FLOORS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    count = options.records // (10 * BATCH) * 10 * BATCH
    if options.one:
        print(json.dumps(measure(options.one, options.work, count, options.dir)))
        return 0
    print(f"# {platform.processor() or platform.machine()}, {os.cpu_count()} processors,", end=" ")
    print(f"Linux {platform.release()}, Python {platform.python_version()}")
    print(f"# {count} records of {RECORD_BYTES} bytes, {options.repetitions} runs each in turn\n")
    print("| work | aof2 records/s (min to max) | lmdb records/s (min to max) | ratio | floor |")
    print("|---|--:|--:|--:|--:|")
    below = 0
    for work, floor in FLOORS.items():
        rates: dict[str, list[float]] = {peer: [] for peer in PEERS}
        for _ in range(options.repetitions):
            for peer in PEERS:
                rates[peer].append(run(peer, work, count, options.dir))
        shown = {
            peer: f"{statistics.median(r):,.0f} ({min(r):,.0f} to {max(r):,.0f})"
            for peer, r in rates.items()
        }
        ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
        below += ratio < floor
        print(f"| {work} | {shown['aof2']} | {shown['lmdb']} | {ratio:.1f} | {floor} |", flush=True)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
