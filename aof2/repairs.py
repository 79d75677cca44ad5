"""Mending a stream's manifest: made again from what the copies of its segments say.

Files are facts. What only the manifest knew is taken from those of its records that can still be
read: how far the stream was trimmed, and how far it once went. No offset is skipped silently.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from aof2._core import scan, seal
from aof2._core.directory import Directory
from aof2.clock import Clock
from aof2.config import AofManagerConfig, Tier2Config
from aof2.errors import ConfigError
from aof2.manifest.facts import FactFinder, Facts, Record, SegmentFacts, check_contiguous, hole
from aof2.manifest.rebuild import (
    generation_records,
    highest_chunk,
    settle,
    write_aside,
)
from aof2.manifest.remains import Remains, read_remains
from aof2.objectstore import ObjectStore, open_tier2
from aof2.root import Root
from aof2.streamdir import hot_name, read_pointer
from aof2.types import StreamIdentity

LOGGER = logging.getLogger("aof2.tiered")


@dataclass(frozen=True)
class RepairReport:
    """What a repair found and did.

    Attributes:
        stream: The stream's name.
        segments: Sealed segments that the new manifest knows.
        first_offset: The earliest offset there is.
        sealed_offset: Offset just past the last sealed record; what was appended behind it is found
            by the next open.
        first_chunk: Number of the first chunk of the new manifest.
        kept: Names below `quarantine/` that were moved there: the old manifest, damaged files.
        notes: Copies that were passed over, and why.
    """

    stream: str
    segments: int
    first_offset: int
    sealed_offset: int
    first_chunk: int
    kept: tuple[str, ...]
    notes: tuple[str, ...]


def repair(
    root: str | os.PathLike[str],
    stream: str,
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    config: AofManagerConfig | None = None,
    clock: Clock | None = None,
) -> RepairReport:
    """Make a stream's manifest again, from its segments, warm files and objects.

    The old manifest is kept in `quarantine/`. A repair that was cut is finished, or undone, by the
    next one and by the next open. Every local copy is read whole, and each object asked for.

    Args:
        root: The directory that is given to `aof2.open`; nobody may be writing to it.
        stream: The stream's name.
        tier2: As for `aof2.open`. A stream that has one must be given it, or what only tier 2 holds
            counts as lost.
        config: As for `aof2.open`.
        clock: Time, for tests.

    Raises:
        StreamNotFound: there is no such stream.
        RootLocked: another process writes to the root.
        SegmentLost: offsets are in no copy; nothing was changed.
        Fenced: another root wrote to tier 2 last; nothing was changed.
        Tier2Unavailable, Tier2Auth, FetchFailed: tier 2 could not be read; nothing was changed.

    Example:
        >>> aof2.repair("data", "orders").segments  # doctest: +SKIP
        12
    """
    if not os.path.isdir(root):
        raise ConfigError("there is no such root", path=os.fspath(root))
    chosen = AofManagerConfig() if config is None else config
    place = chosen.tier2 if tier2 is None else tier2
    store = None if place is None else open_tier2(place)
    now = Clock() if clock is None else clock
    try:
        held = Root(os.fspath(root), now, readonly=False)
        try:
            return _Repair(held, stream, chosen, store, now).run()
        finally:
            held.close()
    finally:
        if store is not None:
            store.close()


class _Repair:
    def __init__(
        self,
        root: Root,
        stream: str,
        config: AofManagerConfig,
        store: ObjectStore | None,
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._directory, self._identity = root.open_stream(stream)
        self._kept: list[str] = []
        self._notes: list[str] = []

    def run(self) -> RepairReport:
        directory = self._directory
        hot, warm = directory.subdir("segments"), directory.subdir("warm")
        try:
            earlier = settle(directory, self._clock.now_ns())
            old = read_remains(directory, self._identity, self._store)
            facts = self._facts(hot, warm, old)
            segments, head = self._chosen(facts, old, hot)
            self._kept = [*([earlier] if earlier else []), *self._set_aside(facts, segments, hot)]
            return self._swap(facts, segments, old, head)
        finally:
            for each in (hot, warm, directory):
                each.close()

    def _facts(self, hot: Directory, warm: Directory, old: Remains) -> Facts:
        finder = FactFinder(self._identity, verify=True)
        finder.take_hot(hot)
        finder.take_warm(warm)
        if self._store is not None:
            finder.take_objects(self._store, old.keys)
        self._reseal(finder, hot)
        return finder.facts

    def _reseal(self, finder: FactFinder, hot: Directory) -> None:
        """Give segments in the middle their footer again, where all of their frames are there."""
        facts = finder.facts
        last = max(facts.segments, default=0)
        for segment_id in [n for n in facts.unsealed if n < last and n not in facts.segments]:
            name = hot_name(segment_id)
            found = scan.scan(hot, name)
            if found is None or found.start is None or not found.whole:
                self._notes.append(f"{hot.join(name)}: its frames end before its last record")
                continue
            footer = seal.finish(hot, name, found, now_ns=self._clock.now_ns())
            facts.segments[segment_id] = SegmentFacts(
                segment_id, footer, found.start.epoch, hot=True
            )

    def _chosen(
        self, facts: Facts, old: Remains, hot: Directory
    ) -> tuple[list[SegmentFacts], list[Record]]:
        """The segments of the new manifest: contiguous, and as far as anything says they went.

        And what to put before them: the end of a history of which everything was trimmed and is
        gone, so that offsets go on there.
        """
        segments = facts.ordered()
        for at in range(len(segments) - 1, 0, -1):
            base = segments[at].footer.base_offset
            if segments[at - 1].footer.end_offset != base and base <= old.trimmed:
                # What is missing there was given up, and so was everything before it.
                self._notes += [f"segment {s.segment_id} was trimmed" for s in segments[:at]]
                segments = segments[at:]
                break
        check_contiguous(segments)
        head: list[Record] = []
        end = segments[-1].footer.end_offset if segments else 0
        last_id = segments[-1].segment_id if segments else 0
        gone = end < old.sealed_offset <= old.trimmed and old.last_id not in facts.unsealed
        if gone and old.last:
            segments, head = [], list(old.last)
            end, last_id = old.sealed_offset, old.last_id
        end = _tail_end(hot, facts, last_id, end)
        reached = max(old.sealed_offset, _pointer_end(hot, self._identity))
        if reached > end:
            raise hole(end, reached)
        first = segments[0].footer.base_offset if segments else end
        if old.first_offset < first and not head:
            raise hole(old.first_offset, first, segments[0].segment_id if segments else None)
        return segments, head

    def _swap(
        self,
        facts: Facts,
        segments: list[SegmentFacts],
        old: Remains,
        head: list[Record],
    ) -> RepairReport:
        directory, identity = self._directory, self._identity
        epoch = max([identity.epoch, old.epoch, *(s.epoch for s in segments)])
        first_chunk = max(highest_chunk(directory), old.published_chunk) + 1
        text = f"repaired: {len(segments)} segments, from their copies"
        records = generation_records(segments, old.trimmed, text)
        write_aside(
            directory,
            dataclasses.replace(identity, epoch=epoch),
            [*head, *records],
            first_chunk=first_chunk,
            chunk_bytes=self._config.manifest.chunk_bytes,
            source=self._clock.source,
        )
        moved = settle(directory, self._clock.now_ns())
        kept = [*self._kept, *([moved] if moved else [])]
        first = segments[0].footer.base_offset if segments else 0
        last = segments[-1].footer.end_offset if segments else 0
        report = RepairReport(
            stream=identity.name,
            segments=len(segments),
            first_offset=max(first, old.trimmed),
            sealed_offset=max(last, old.sealed_offset) if head else last,
            first_chunk=first_chunk,
            kept=tuple(kept),
            notes=(*old.notes, *facts.notes, *self._notes),
        )
        LOGGER.info(
            "the manifest of stream %s was made again: %d segments, offsets %d to %d",
            identity.name,
            report.segments,
            report.first_offset,
            report.sealed_offset,
            extra={"event": "manifest_repaired", "stream": identity.name},
        )
        return report

    def _set_aside(
        self, facts: Facts, segments: list[SegmentFacts], hot: Directory
    ) -> Iterator[str]:
        """Keep damaged hot files out of the way where another copy serves."""
        quarantine = self._directory.subdir("quarantine")
        try:
            for segment in segments:
                if segment.segment_id in facts.damaged and (segment.warm or segment.cold):
                    name = hot_name(segment.segment_id)
                    kept = f"{name}.{self._clock.now_ns()}"
                    hot.rename(name, kept, quarantine)
                    quarantine.sync()
                    hot.sync()
                    yield kept
        finally:
            quarantine.close()


def _pointer_end(hot: Directory, identity: StreamIdentity) -> int:
    """Offset that the pointer says is sealed; 0 without a good one."""
    pointer = read_pointer(hot, identity.uuid)
    return 0 if pointer is None else pointer.end_offset


def _tail_end(hot: Directory, facts: Facts, after: int, end: int) -> int:
    """Where the started segments behind the sealed ones end.

    Raises:
        SegmentLost: one of them begins behind a hole.
    """
    for segment_id in facts.unsealed:
        found = scan.scan(hot, hot_name(segment_id)) if segment_id > after else None
        if found is None or found.start is None:
            continue
        if found.start.base_offset > end:
            raise hole(end, found.start.base_offset, segment_id)
        end = max(end, found.end_offset)
    return end
