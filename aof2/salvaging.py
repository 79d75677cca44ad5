"""Copying what is left of a damaged stream into a new one; what is lost is listed, never hidden."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from aof2._core.cursor import RecordCursor
from aof2._core.record import Record
from aof2._core.salvage import SalvagedSegment
from aof2._core.timesource import ManualTime
from aof2.clock import Clock
from aof2.config import AofManagerConfig, Tier2Config
from aof2.errors import AofError, ConfigError
from aof2.opening import open_root
from aof2.stream import Aof
from aof2.tiers.instance import StreamInstance
from aof2.types import Gap


@dataclass(frozen=True)
class SalvageReport:
    """What a salvage found.

    Attributes:
        stream: The stream that was read; nothing of it was changed.
        into: The new stream.
        first_offset: The earliest offset of the old stream; what was before it had been trimmed.
        next_offset: Just past the last record that was found in it.
        records: Records that were copied: the new stream's offsets are `[0, records)`.
        moved: `(old, new)` offsets at which each run of consecutive records begins.
        gaps: What could not be read, in offsets of the old stream, ascending.
        notes: What may be missing behind `next_offset`, and files that could not be used.
        kept: Directory of the old stream. Where its damage keeps the root from opening for writing,
            move it elsewhere.
    """

    stream: str
    into: str
    first_offset: int
    next_offset: int
    records: int
    moved: tuple[tuple[int, int], ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    kept: str


def salvage(
    root: str | os.PathLike[str],
    stream: str,
    into: str,
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    config: AofManagerConfig | None = None,
) -> SalvageReport:
    """Copy every record of a stream that can still be read into a new stream of the same root.

    Payloads, `ext_id` and time stamps stay; offsets close up over each gap, and `moved` says how.
    Each record is taken from whichever tier has a good copy. Behind the last sealed segment every
    frame that validates counts, whatever lies before it.

    Args:
        root: The directory that is given to `aof2.open`; nobody may be writing to it.
        stream: The damaged stream; it stays as it is.
        into: The stream to make; it must not exist.
        tier2: As for `aof2.open`.
        config: As for `aof2.open`; the budgets must have room for the copy.

    Raises:
        StreamNotFound, ConfigError: there is no such stream, or there is one named `into`.
        RootLocked: somebody writes to the root.
        StorageFull: no room for the copy; what was copied so far is in the new stream, whose
            directory has to go before the next try.

    ```python
    report = aof2.salvage("data", "orders", "orders-salvaged")
    for gap in report.gaps:
        print(gap.first, gap.next, gap.reason)
    ```
    See `docs/durability.md`.
    """
    system = Clock()
    stamp = ManualTime(system.now_ns())
    with (
        open_root(root, tier2=tier2, config=config, clock=Clock(stamp), opens=False) as writing,
        open_root(root, tier2=tier2, config=config, readonly=True) as reading,
    ):
        old = reading.stream(stream, create=False)
        if into in reading.streams():
            text = f"there is a stream {into!r} already: name a new one"
            raise ConfigError(text, path=reading.root)
        new = writing.stream(into)
        report = _Salvage(old, new, stamp).run()
        stamp.set_ns(system.now_ns())
        new.flush(timeout=None)
    return report


class _Salvage:
    """One copy of a stream."""

    def __init__(self, old: Aof, new: Aof, stamp: ManualTime) -> None:
        self._old, self._new, self._stamp = old, new, stamp
        self._stream: StreamInstance = old._instance
        self._next = self._last = old.first_offset
        self._moved: list[tuple[int, int]] = []
        self._gaps: list[Gap] = []
        self._notes: list[str] = []

    def run(self) -> SalvageReport:
        """Copy what is sealed, then what is not."""
        self._copy_sealed()
        self._copy_unsealed()
        try:
            self._stream.check_end(self._old.next_offset)
        except AofError as error:
            self._notes.append(str(error))
        return SalvageReport(
            stream=self._old.name,
            into=self._new.name,
            first_offset=self._old.first_offset,
            next_offset=self._next,
            records=self._new.next_offset,
            moved=tuple(self._moved),
            gaps=tuple(self._gaps),
            notes=tuple(self._notes),
            kept=self._stream.directory.path,
        )

    def _put(self, record: Record) -> None:
        if record.offset != self._last or not self._moved:
            self._moved.append((record.offset, self._new.next_offset))
        self._stamp.set_ns(record.timestamp_ns)
        self._new.append(record.payload, ext_id=record.ext_id, timeout=None)
        self._last = record.offset + 1

    def _miss(self, following: int, reason: str) -> None:
        """Records up to an offset are lost."""
        if following > self._next:
            self._gaps.append(Gap(self._next, following, reason))
            self._next = following

    def _copy_sealed(self) -> None:
        end = self._stream.sealed_end()
        with self._old.reader(stop=max(end, self._next), on_corruption="skip") as reader:
            for record in reader:
                self._put(record)
            self._gaps += reader.gaps
        self._next = max(end, self._next)

    def _copy_unsealed(self) -> None:
        row = self._stream.manifest.index.last_sealed()
        after = 0 if row is None else row.segment_id
        for segment_id in self._stream.hot.ids():
            if segment_id > after:
                self._copy_segment(segment_id)

    def _copy_segment(self, segment_id: int) -> None:
        hot, stream = self._stream.hot, self._stream
        segment = SalvagedSegment(
            hot.directory,
            hot.name(segment_id),
            stream_uuid=stream.identity.uuid,
            segment_id=segment_id,
            base_offset=self._next,
            end_offset=None,
            ext_id=0,
            ring=stream.ring(),
        )
        if not segment.identified:
            self._notes.append(f"{segment.path}: its header is damaged, or it belongs elsewhere")
        if not segment.started:
            return
        reason = f"{segment.path}: the frames there fail their checks"
        if segment.base_offset < self._next:
            self._notes.append(
                f"{segment.path}: it begins at offset {segment.base_offset}, before the end of the "
                "segment before it, and was left out"
            )
            return
        self._miss(segment.base_offset, "a segment before this is missing or damaged at its end")
        for start, _, first, following in segment.stretches:
            self._miss(first, reason)
            for record in _records(segment, start, first, following):
                self._put(record)
            self._next = following
        self._miss(segment.end_offset, reason)
        self._next = segment.end_offset


def _records(segment: SalvagedSegment, start: int, first: int, following: int) -> Iterator[Record]:
    """The records of a stretch of frames."""
    cursor = RecordCursor(first, following)
    cursor.enter(segment.salt, segment.base_offset, segment.ext_id, start)
    cursor.load(segment.window(start))
    while (record := cursor.next_record()) is not None:
        yield record
