"""What an append would wait for now, since when, and what would free it."""

from __future__ import annotations

from dataclasses import dataclass

from aof2._core.logfile import frames_end
from aof2.coordinator.commands import (
    Command,
    Compress,
    CompressToTier2,
    Evict,
    Prepare,
    Publish,
    Relinquish,
    Retain,
    ReturnSpare,
    Rollover,
    Upload,
)
from aof2.coordinator.planner import who_frees
from aof2.coordinator.runtime import Coordinator
from aof2.errors import AofError, WouldBlockKind
from aof2.outside import prepared, view_from_files
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier
from aof2.walking import Lookup
from aof2.writer import full_for_ever

FRAMES_AT = frames_end(0)
"""Where the frames of a segment begin."""
FRAME_BYTES = 64
"""What a record takes beside its payload, at most."""


@dataclass(frozen=True, slots=True)
class Freeing:
    """What ends a wait of some kind: for people, the commands that do it, and whose they are."""

    text: str
    commands: tuple[type[Command], ...] = ()
    own: bool = False


FREED_BY = {
    WouldBlockKind.ADMISSION: Freeing(
        "compression and eviction of sealed segments make room in tier 0",
        (Rollover, Compress, CompressToTier2, Retain, Evict, Relinquish, ReturnSpare, Prepare),
    ),
    WouldBlockKind.ROLLOVER: Freeing("the coordinator prepares the next segment", (Prepare,), True),
    WouldBlockKind.FLUSH: Freeing("the device takes what the landing ring holds"),
    WouldBlockKind.TIER2_BACKLOG: Freeing(
        "uploads let tier 1 drop what tier 2 has, and tier 0 follows",
        (Upload, CompressToTier2, Publish),
    ),
    WouldBlockKind.DISK_FULL: Freeing("somebody frees room on the file system"),
}


@dataclass(frozen=True)
class BlockExplanation:
    """What an append of a record would wait for; from `Aof.explain_block`.

    Attributes:
        kind: What it would wait for; None: for nothing.
        text: The finding, for people.
        since_s: For how many seconds appends have found no room; beside the process that writes:
            how long ago the newest record was appended, which is as long or longer. None where an
            append would wait for nothing, and where that cannot be known.
        freed_by: What ends the wait; empty where there is none.
        live: True in the process that writes. Elsewhere files and budgets are all there is: the
            writer's queue and its ring cannot be known.
        facts: The numbers behind it, in bytes and segments.
    """

    kind: WouldBlockKind | None
    text: str
    since_s: float | None
    freed_by: str
    live: bool
    facts: dict[str, int]


def explain(
    stream: StreamInstance, coordinator: Coordinator, record_bytes: int
) -> BlockExplanation:
    """Look at a stream as an append of a payload of so many bytes would find it.

    Beside the process that writes, every stream of the root must have been opened, as all take
    their share of the budgets.

    Raises:
        CoordinatorDied, StorageFull: what the append would get.
    """
    coordinator.check_alive()
    facts = _facts(stream, coordinator)
    live = stream.writer is not None
    need = record_bytes + FRAME_BYTES
    kind = _kind_here(stream, need) if live else _by_files(stream, coordinator, need)
    if kind is None:
        return BlockExplanation(None, "an append would wait for nothing", None, "", live, facts)
    since_s = _blocked_s(stream, coordinator) if live else _silent_s(stream, coordinator)
    text, freeing = f"an append would wait for {kind.value}", FREED_BY[kind]
    if since_s is not None:
        text += f", since {since_s:.1f} s" + ("" if live else " at most")
    text += _at_work(stream, coordinator, freeing)
    if stream.last_error is not None:
        text += f"; the newest failure: {stream.last_error}"
    return BlockExplanation(kind, text, since_s, freeing.text, live, facts)


def _blocked_s(stream: StreamInstance, coordinator: Coordinator) -> float | None:
    """For how many seconds the writer has had no segment or no ring for an append."""
    if not stream.blocked_since_s:
        return None
    return max(0.0, coordinator.context.clock.monotonic_s() - stream.blocked_since_s)


def _silent_s(stream: StreamInstance, coordinator: Coordinator) -> float | None:
    """How many seconds ago the newest record was appended; None when that takes a lower tier, or
    when there is none."""
    if stream.next_offset == stream.first_offset:
        return None
    try:
        newest = Lookup(stream, stream.next_offset - 1).attempt(Tier.WARM)
    except (AofError, OSError):
        return None
    return max(0.0, (coordinator.context.clock.now_ns() - newest.timestamp_ns) * 1e-9)


def _at_work(stream: StreamInstance, coordinator: Coordinator, freeing: Freeing) -> str:
    """The oldest command that would end the wait, and for how long it has been there."""
    ours = [
        entry
        for entry in coordinator.entries()
        if isinstance(entry.command, freeing.commands)
        and (not freeing.own or entry.command.stream == stream.name)
    ]
    if not ours:
        return ""
    oldest = min(ours, key=lambda entry: entry.queued_s)
    queued_s = coordinator.context.clock.monotonic_s() - oldest.queued_s
    return f"; {oldest.command} is under way for {queued_s:.1f} s"


def _facts(stream: StreamInstance, coordinator: Coordinator) -> dict[str, int]:
    context = coordinator.context
    held = [stream.residency(row) for row in stream.manifest.index.rows() if row.sealed]
    return {
        "tier0_bytes_used": context.tier0.used,
        "tier0_bytes_max": context.tier0.bytes_max,
        "tier1_bytes_used": context.tier1.used,
        "tier1_bytes_max": context.tier1.bytes_max,
        "segments_to_seal": sum(1 for unsealed in stream.unsealed() if unsealed.ended),
        "segments_to_compress": sum(1 for tiers in held if tiers == {Tier.HOT}),
        "segments_to_upload": sum(
            1 for t in held if stream.cold is not None and Tier.WARM in t and Tier.COLD not in t
        ),
    }


def _kind_here(stream: StreamInstance, need: int) -> WouldBlockKind | None:
    """In the writing process: what the writer would answer. Like an append, it asks for what is
    missing."""
    writer = stream.writer
    assert writer is not None
    active = any(not unsealed.ended for unsealed in stream.unsealed())
    if (active or writer.spare_bytes >= need) and writer.has_room(need):
        return None
    if writer.spare_bytes < need and (not active or stream.spare_needed >= need):
        return stream.why_no_segment(need)
    return WouldBlockKind.FLUSH


def _by_files(
    stream: StreamInstance, coordinator: Coordinator, need: int
) -> WouldBlockKind | None:
    """Beside the writing process: whether files have room, and else whether the budgets have."""
    sizes, context = stream.hot.sizes, coordinator.context
    for unsealed in stream.unsealed():
        room = frames_end(sizes.get(unsealed.segment_id, 0)) - unsealed.bytes
        if not unsealed.ended and need <= room:
            return None
    if any(need <= frames_end(sizes[segment]) - FRAMES_AT for segment in prepared(stream)):
        return None
    wanted = context.segment_bytes(stream, need)
    if wanted <= context.tier0.room:
        return WouldBlockKind.ROLLOVER
    streams = list(context.streams.values())
    view = view_from_files(streams, context, stream.name, context.need_bytes(stream, need))
    kind = who_frees(view, stream.name)
    if kind is None:
        raise full_for_ever(view, stream.name)
    return kind
