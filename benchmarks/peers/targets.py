"""Which ratios the figures are held to."""

from __future__ import annotations

from dataclasses import dataclass

from records import MIXED
from store import Mode

BEST = "the best peer"


@dataclass(frozen=True)
class Target:
    """One ratio: ours by a peer's; above 1 is better than the peer.

    Attributes:
        what: For the table.
        mode, record_bytes: Which runs.
        figure: Which figure of them; `*_us` is better when lower.
        peer: Beside which; `BEST` of all that have the figure.
        at_least: The ratio asked for.
        device_share: Fine too when we reach this share of the device's own pace in the same round.
    """

    what: str
    mode: Mode
    record_bytes: int
    figure: str
    peer: str
    at_least: float
    device_share: float | None = None


def _writing(what: str, mode: Mode, size: int, *bars: tuple[str, float]) -> list[Target]:
    return [Target(what, mode, size, "write", peer, bar, 0.8) for peer, bar in bars]


FILE, LMDB, ARROW = "file + crc32c", "lmdb", "pyarrow IPC"


def _sizes(size: int, label: str) -> list[Target]:
    small = [
        *_writing(f"append, {label}", "one", size, (LMDB, 5.0), (FILE, 4.0)),
        *_writing(f"append_many, {label}", "batch", size, (LMDB, 5.0), (ARROW, 1.5)),
        *_writing(f"append_packed, {label}", "packed", size, (ARROW, 2.0)),
        *_writing(
            f"sync each 1,000, {label}", "group", size, (FILE, 2.5), (LMDB, 2.5), (BEST, 1.5)
        ),
    ]
    return [
        *small,
        Target(f"append(durable=True), {label}", "each", size, "p50_us", "device", 1 / 1.2),
        Target(f"scan as bytes, {label}", "one", size, "scan", LMDB, 3.0),
        Target(f"get, {label}", "one", size, "get_us", LMDB, 1 / 0.6),
    ]


TARGETS: list[Target] = [
    *_sizes(128, "128 B"),
    *_sizes(MIXED, "mixed"),
    *_writing("append, 1 KiB", "one", 1024, (LMDB, 3.0), (FILE, 2.0)),
    Target("append, 16 KiB", "one", 16384, "write", BEST, 1.3, 0.65),
]
"""Every row is what `docs/performance.md` promises; the ratios are of one round, in one run."""


def lower_is_better(figure: str) -> bool:
    """Whether a figure is a time."""
    return figure.endswith("_us")
