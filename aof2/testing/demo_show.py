"""How the demo shows what happens: live on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INTERVAL_S = 0.5
LIVE_INTERVAL_S = 0.1


def mb(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB"


@dataclass(frozen=True)
class Figures:
    """What the library says at one moment.

    Attributes:
        hot_bytes, warm_bytes, cold_bytes: Bytes that each tier takes.
        cold_raw_bytes: Bytes that the segments in tier 2 have uncompressed.
        segments: All segments.
        tiers: Segments with a copy in the hot, warm and cold tier.
        appended, local, remote: The watermarks.
    """

    hot_bytes: int
    warm_bytes: int
    cold_bytes: int
    cold_raw_bytes: int
    segments: int
    tiers: tuple[int, ...]
    appended: int
    local: int
    remote: int

    @property
    def ratio(self) -> float:
        """How often the objects in tier 2 fit into what they hold."""
        return self.cold_raw_bytes / self.cold_bytes if self.cold_bytes else 0.0


class Show:
    """Shows the figures of one phase while its block runs, from a thread of its own.

    Attributes:
        figures: The newest figures.
        seconds: How long the block took.
    """

    figures: Figures

    def __init__(self, phase: str, count: int, look: Callable[[], Figures]) -> None:
        self._phase = phase
        self._count = count
        self._look = look
        self._done = self._done_bytes = 0
        self._begin_s = self._last_s = time.monotonic()
        self._last_done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aof2-demo-show")
        self._failure: BaseException | None = None
        self._live = _live()
        self.seconds = 0.0

    def advance(self, records: int, size: int) -> None:
        """Count records that are done."""
        self._done += records
        self._done_bytes += size

    def finish(self, text: str) -> None:
        """Say how the phase ended."""
        rate = f"{self._done / self.seconds:,.0f} records/s, " if self._done else ""
        print(f"{self._phase}: {self.seconds:.2f} s, {rate}{text}", flush=True)

    def __enter__(self) -> Show:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.seconds = time.monotonic() - self._begin_s
        self._ended.set()
        self._thread.join()
        if self._live is not None:
            self._live.stop()
        if kind is None:
            if self._failure is not None:
                raise self._failure
            self._refresh()

    def _run(self) -> None:
        try:
            while not self._ended.wait(INTERVAL_S if self._live is None else LIVE_INTERVAL_S):
                self._refresh()
                if self._live is None:
                    print(self._line(), flush=True)
                else:
                    self._live.update(self._table())
        except BaseException as error:
            # The main thread raises it, once it gets there.
            self._failure = error

    def _refresh(self) -> None:
        self.figures = self._look()

    def _rate(self) -> float:
        """Records per second since the last look."""
        now_s, done = time.monotonic(), self._done
        rate = (done - self._last_done) / max(now_s - self._last_s, 1e-9)
        self._last_s, self._last_done = now_s, done
        return rate

    def _line(self) -> str:
        f = self.figures
        done = f"{100 * self._done / self._count:3.0f}%  " if self._count else ""
        rate = f"{self._rate():9,.0f} records/s  " if self._count else ""
        return (
            f"{self._phase:<6} {done}{rate}"
            f"hot {mb(f.hot_bytes)} ({f.tiers[0]})  warm {mb(f.warm_bytes)} ({f.tiers[1]})  "
            f"cold {mb(f.cold_bytes)} ({f.tiers[2]}, ratio {f.ratio:.2f})  "
            f"appended {f.appended:,}  local {f.local:,}  remote {f.remote:,}"
        )

    def _table(self) -> Any:
        from rich.table import Table

        f = self.figures
        table = Table(title=f"{self._phase}, {time.monotonic() - self._begin_s:.1f} s")
        for name in ("tier", "segments", "bytes", "", "watermark", "offset"):
            table.add_column(name, justify="left" if name in ("tier", "watermark") else "right")
        table.add_row("hot", str(f.tiers[0]), mb(f.hot_bytes), "", "appended", f"{f.appended:,}")
        table.add_row("warm", str(f.tiers[1]), mb(f.warm_bytes), "", "local", f"{f.local:,}")
        ratio = f"ratio {f.ratio:.2f}"
        table.add_row("cold", str(f.tiers[2]), mb(f.cold_bytes), ratio, "remote", f"{f.remote:,}")
        if self._count:
            table.caption = (
                f"{self._done:,} of {self._count:,} records, {self._rate():,.0f} records/s, "
                f"{mb(self._done_bytes)}"
            )
        return table


def _live() -> Any:
    """A live display where there is a terminal and rich; else None."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.live import Live
    except ModuleNotFoundError:
        return None
    return Live(refresh_per_second=8, transient=True)
