"""`Aof`: one stream, as users hold it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from aof2._core.pointread import PointReader
from aof2._core.record import Record
from aof2.appending import Appending
from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.runtime import Coordinator
from aof2.errors import WouldBlock
from aof2.explain import BlockExplanation, explain
from aof2.places import Place, resolve
from aof2.reader import AofReader, OnCorruption, Until
from aof2.tiers.instance import StreamInstance
from aof2.types import RecoveryReport, SegmentInfo, Tier, Watermarks
from aof2.waiting import TURNS, Timeout, retried, retried_async
from aof2.walking import Lookup

LOOKUPS_MAX = 64
LOOKUP_KEPT_S = 60.0
"""How many calls of `get_nowait` are remembered, and for how long, so that the next call for the
same record gets what the first one asked for."""


class Aof(Appending):
    """One append-only stream. Made by `AofManager.stream`; safe to use from many threads.

    Calls that wait come as `x(timeout=)`, `x_nowait()` and `x_async()`. `WouldBlock` means that
    nothing was accepted; `NotYetDurable` that the record was.

    Example, and more in `docs/reading.md`:

    ```python
    offset = log.append(b"order 1")
    log.wait(offset, "local")
    log.get(offset).payload
    ```
    """

    def __init__(
        self,
        instance: StreamInstance,
        config: AofManagerConfig,
        clock: Clock,
        coordinator: Coordinator | None,
        pool: Callable[[], Executor],
        recovery: RecoveryReport,
    ) -> None:
        super().__init__(instance, config, clock, coordinator, pool)
        self._lookups: dict[int, tuple[float, Lookup]] = {}
        self.recovery = recovery
        """The `RecoveryReport` of this open."""
        writer = instance.writer
        if writer is not None:
            # Bound straight to the core: one C call, and it stays right across rollovers.
            self.append = writer.append  # type: ignore[method-assign]
            self.append_nowait = writer.append_nowait  # type: ignore[method-assign]
            self.append_many = writer.append_many  # type: ignore[method-assign]
            self.append_many_nowait = writer.append_many_nowait  # type: ignore[method-assign]
            self.append_packed = writer.append_packed  # type: ignore[method-assign]
            self.append_packed_nowait = writer.append_packed_nowait  # type: ignore[method-assign]
            # Records of hot segments come from the core too, all others by the way around it.
            fold = instance.manifest.index.fold
            instance.points = PointReader(fold, writer, self._get, instance.touch)
            self.get = instance.points.get  # type: ignore[method-assign]

    @property
    def ext_id(self) -> int:
        """The 64-bit number of records that were appended without one of their own."""
        self._check_owner()
        return 0 if self._instance.writer is None else self._instance.writer.ext_id

    @property
    def watermarks(self) -> Watermarks:
        """Offsets below which records are appended, on the local disk, in tier 2."""
        self._check_owner()
        return Watermarks(
            self._instance.next_offset,
            self._instance.durable_offset,
            self._instance.remote_offset,
        )

    def explain_block(self, record_bytes: int = 0) -> BlockExplanation:
        """What an append would wait for now, since when, and what would free it.

        Args:
            record_bytes: Size of the payload that would be appended.

        Works beside the writing process too, as far as files and budgets tell. Like an append, it
        asks for a segment where one is missing.

        Raises:
            CoordinatorDied, StorageFull: what the append would get.

        Example: `print(log.explain_block().text)`; see `docs/cli.md`.
        """
        self._check_open()
        self._instance.refresh()
        assert self._coordinator is not None
        return explain(self._instance, self._coordinator, record_bytes)

    def segments(self) -> list[SegmentInfo]:
        """The residency map: every segment, oldest first, with the tiers that hold it."""
        self._check_open()
        self._instance.refresh()
        return list(self._instance.infos())

    def __repr__(self) -> str:
        return f"Aof({self.name!r}, next_offset={self.next_offset})"

    def __reduce__(self) -> str:
        raise TypeError("a stream does not pickle: open the root with readonly=True over there")

    def get(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """One record, from whichever tier holds it.

        Args:
            offset: The record.
            timeout: Seconds to wait for tier 2. Reading a local file is not cut short.

        Raises:
            OffsetOutOfRange: there is no such record.
            WaitTimeout: tier 2 did not answer in time; the request goes on.
            CorruptionError: it cannot be read.
        """
        return self._get(offset, timeout=timeout)

    def _get(self, offset: int, *, timeout: Timeout = ...) -> Record:
        lookup = self._lookup(offset)
        return retried(lambda: lookup.attempt(Tier.COLD), self._until(timeout))

    def get_nowait(self, offset: int) -> Record:
        """Like `get`; a record that is not in the hot tier raises `WouldBlock`(HYDRATION) at
        first."""
        asked_s, lookup = self._lookups.pop(offset, (0.0, None))
        now_s = self._clock.monotonic_s()
        if lookup is None or now_s > asked_s + LOOKUP_KEPT_S:
            asked_s, lookup = now_s, self._lookup(offset)
        try:
            return lookup.attempt(Tier.WARM)
        except WouldBlock:
            while len(self._lookups) >= LOOKUPS_MAX:
                self._lookups.pop(next(iter(self._lookups)), None)
            self._lookups[offset] = asked_s, lookup
            raise

    async def get_async(self, offset: int, *, timeout: Timeout = ...) -> Record:
        """Like `get`, without blocking the event loop."""
        lookup = self._lookup(offset)
        record = await retried_async(lambda: lookup.attempt(Tier.WARM), self._until(timeout))
        if TURNS.is_due(self._clock.monotonic_s()):
            await TURNS.give()
        return record

    def _lookup(self, offset: int) -> Lookup:
        """A walk to a record, which must be there."""
        self._check_open()
        instance = self._instance
        if instance.writer is None and not 0 <= offset < self.next_offset:
            instance.refresh()
        if not self.first_offset <= offset < self.next_offset:
            instance.check_end(offset)
            raise instance.out_of_range(offset)
        return Lookup(instance, offset)

    def reader(
        self,
        start: Place = "earliest",
        stop: Place | None = None,
        *,
        follow: bool = False,
        until: Until = "appended",
        on_corruption: OnCorruption = "raise",
    ) -> AofReader:
        """Read a range in order, over all tiers.

        Args:
            start: First record: an offset (negative: from the end), `"earliest"`, `"latest"` (the
                next one to come) or an aware datetime.
            stop: End, half-open; None: the end as of now, or none when following.
            follow: Wait for records to come instead of ending, like `tail -f`.
            until: Read no further than `"appended"`, `"local"` or `"remote"`.
            on_corruption: What to do about records that no copy has any more: `"raise"`, or
                `"skip"` to go on with the next one that can be read and note the `gaps`.

        Raises:
            OffsetOutOfRange: `start` is before the first or beyond the next offset.
        """
        self._check_open()
        if until not in ("appended", "local", "remote"):
            raise ValueError(f'until is {until!r}: "appended", "local" or "remote"')
        if on_corruption not in ("raise", "skip"):
            raise ValueError(f'on_corruption is {on_corruption!r}: "raise" or "skip"')
        self._instance.refresh()
        reader = AofReader(
            self._instance,
            self._fetches,
            self._clock,
            start=self.first_offset,
            stop=None if stop is None else resolve(self._instance, stop),
            follow=follow,
            until=until,
            on_corruption=on_corruption,
            timeout_s=self._config.wait_timeout_s,
            check_alive=self._check_alive,
        )
        reader.seek(start)
        return reader
