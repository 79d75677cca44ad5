"""One measurement: one store, one way of writing, in a process of its own."""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable
from statistics import median, quantiles

import numpy as np
from arrow_ipc import ArrowIpc
from files import Device, FramedFile
from keyvalue import Lmdb, Plyvel, Rocksdict, Sqlite
from ours import Aof2
from records import BATCH, Pool, record_pool
from store import Mode, Store

PEERS: dict[str, type[Store]] = {
    store.name: store
    for store in (Aof2, Lmdb, FramedFile, ArrowIpc, Rocksdict, Plyvel, Sqlite, Device)
}
GETS = 20_000
CHECKED = 50
"""Records at each end of a scan, and random ones, that are compared with what was written."""

Figures = dict[str, float]


def measure(peer: str, mode: Mode, record_bytes: int, payload_bytes: int, path: str) -> Figures:
    """Write about `payload_bytes` of records and read them back.

    Returns:
        `write` and `scan` in records per second, the first from the first call to the end of the
        last sync; `columns` in bytes per second; `get_us` mean; `p50_us` and `p99_us` of each group
        or record where these are synced one by one; `cpu_s` per GB written.
    """
    pool = record_pool(record_bytes)
    store = PEERS[peer](path, mode)
    store.open_write()
    write = _writer(store, mode, pool)
    rounds = max(1, round(payload_bytes / pool.bytes))
    gc.collect()
    spent = _cpu_s()
    began = time.perf_counter()
    records, times = write(rounds, payload_bytes)
    if mode not in ("group", "each"):
        store.sync()
    elapsed = time.perf_counter() - began
    spent = _cpu_s() - spent
    store.close_write()
    written = records * pool.bytes / len(pool.records)
    figures = {"write": records / elapsed, "cpu_s": spent / written * 1e9, "records": records}
    if times:
        figures |= {"p50_us": median(times) * 1e6, "p99_us": quantiles(times, n=100)[98] * 1e6}
    if store.sequential and mode in ("one", "batch", "packed"):
        store.open_read()
        figures |= _read(store, pool, records)
        store.close_read()
    return figures


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _writer(store: Store, mode: Mode, pool: Pool) -> Callable[[int, int], tuple[int, list[float]]]:
    """`write(rounds, bytes)` -> records written, seconds of each synced group."""

    def one(rounds: int, _: int) -> tuple[int, list[float]]:
        append = store.append
        for _round in range(rounds):
            for record in pool.records:
                append(record)
        return rounds * len(pool.records), []

    def batch(rounds: int, _: int) -> tuple[int, list[float]]:
        append_many = store.append_many
        for _round in range(rounds):
            for records in pool.batches:
                append_many(records)
        return rounds * len(pool.records), []

    packed_batches = []
    if mode == "packed":
        for records in pool.batches:
            ends = np.cumsum([len(record) for record in records]).astype(np.int32)
            packed_batches.append((b"".join(records), ends))

    def packed(rounds: int, _: int) -> tuple[int, list[float]]:
        append_packed = store.append_packed
        for _round in range(rounds):
            for data, ends in packed_batches:
                append_packed(data, ends)
        return rounds * len(pool.records), []

    def timed(put: Callable[[], object], times: list[float]) -> None:
        began = time.perf_counter()
        put()
        store.sync()
        times.append(time.perf_counter() - began)

    def group(_: int, payload_bytes: int) -> tuple[int, list[float]]:
        times: list[float] = []
        count = max(50, round(payload_bytes / pool.bytes * len(pool.batches)))
        total = 0
        for n in range(count):
            records = pool.batches[n % len(pool.batches)]
            timed(lambda records=records: store.append_many(records), times)
            total += len(records)
        return total, times

    def each(_: int, __: int) -> tuple[int, list[float]]:
        times: list[float] = []
        for record in pool.records[: 2 * BATCH]:
            timed(lambda record=record: store.append(record), times)
        return len(times), times

    return {"one": one, "batch": batch, "packed": packed, "group": group, "each": each}[mode]


def _read(store: Store, pool: Pool, records: int) -> Figures:
    wanted = pool.records
    checked = {}
    began = time.perf_counter()
    seen = 0
    for record in store.scan():
        if seen < CHECKED or seen >= records - CHECKED:
            checked[seen] = record
        seen += 1
    figures = {"scan": seen / (time.perf_counter() - began)}
    _same(seen == records, store, f"it returned {seen} of {records} records")
    for number, record in checked.items():
        _same(bytes(record) == wanted[number % len(wanted)], store, f"record {number} differs")
    if store.columns:
        began = time.perf_counter()
        counts = [(n, size) for n, size in store.scan_columns()]
        figures["columns"] = sum(size for _, size in counts) / (time.perf_counter() - began)
        _same(sum(n for n, _ in counts) == records, store, "its batches lack records")
    if store.random:
        chance = random.Random(3)
        numbers = [chance.randrange(records) for _ in range(GETS)]
        for number in numbers[:CHECKED]:
            same = bytes(store.get(number)) == wanted[number % len(wanted)]
            _same(same, store, f"record {number} differs")
        get = store.get
        began = time.perf_counter()
        for number in numbers:
            get(number)
        figures["get_us"] = (time.perf_counter() - began) / GETS * 1e6
    return figures


def _same(is_same: bool, store: Store, what: str) -> None:
    if not is_same:
        raise SystemExit(f"{store.name}: {what}")
