"""Records to benchmark with: the same for every store, distinct, compressible as logs are."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

BATCH = 1000
"""Records of one batch, and of one group that is synced together."""
BATCH_BYTES = 2 << 20
"""A batch of large records has fewer of them."""
POOL_BYTES = 32 << 20
MIXED = 0
"""Stands for sizes that vary: log-normal, median 200 bytes."""


@dataclass(frozen=True)
class Pool:
    """Records that a run goes round and round through.

    Attributes:
        records: Each of them.
        batches: The same in lists of `BATCH`, or of fewer that are large.
        bytes: Of all records together.
    """

    records: list[bytes]
    batches: list[list[bytes]]
    bytes: int


def log_lines(seed: int) -> Iterator[bytes]:
    """JSON log lines of about 280 bytes, for ever."""
    chance = random.Random(seed)
    services = ("ingest", "billing", "gateway", "auth")
    for n in itertools.count():
        yield (
            f'{{"ts":{1_700_000_000 + n * 0.002:.6f},"level":"{chance.choice(("INFO", "WARN"))}",'
            f'"service":"{chance.choice(services)}","host":"ip-10-0-{n % 16}-{n % 251}",'
            f'"trace":"{chance.getrandbits(128):032x}","span":"{chance.getrandbits(64):016x}",'
            f'"path":"/api/v1/orders/{chance.randrange(10**6)}","status":{200 + n % 5},'
            f'"latency_ms":{chance.lognormvariate(2, 1):.3f},"msg":"request completed"}}\n'
        ).encode()


def record_pool(record_bytes: int) -> Pool:
    """Records of exactly `record_bytes`, or of `MIXED` sizes; the same ones at each call.

    At least ten batches, and about 32 MiB unless that is less: more than the processor's caches.
    """
    chance = random.Random(7)
    lines = b"".join(itertools.islice(log_lines(7), POOL_BYTES // 200))
    records, at = [], 0
    while at < POOL_BYTES or len(records) < 10 * BATCH:
        size = record_bytes or max(1, min(65536, round(chance.lognormvariate(5.3, 0.8))))
        start = at % (len(lines) - size)
        records.append(lines[start : start + size])
        at += size
    del records[len(records) // BATCH * BATCH :]
    step = min(BATCH, BATCH_BYTES // max(1, record_bytes))
    batches = [records[i : i + step] for i in range(0, len(records), step)]
    return Pool(records, batches, sum(map(len, records)))
