"""What an append would wait for now, since when, and what would free it."""

from __future__ import annotations

from dataclasses import dataclass

from aof2.coordinator.runtime import Coordinator
from aof2.errors import WouldBlockKind
from aof2.tiers.instance import StreamInstance
from aof2.types import Tier

FRAME_BYTES = 64
"""What a record takes beside its payload, at most."""
FREED_BY = {
    WouldBlockKind.ADMISSION: "compression and eviction of sealed segments make room in tier 0",
    WouldBlockKind.ROLLOVER: "the coordinator prepares the next segment",
    WouldBlockKind.FLUSH: "the device takes what the landing ring holds",
    WouldBlockKind.TIER2_BACKLOG: "uploads let tier 1 drop what tier 2 has, and tier 0 follows",
    WouldBlockKind.DISK_FULL: "somebody frees room on the file system",
}


@dataclass(frozen=True)
class BlockExplanation:
    """What an append of a record would wait for; from `Aof.explain_block`.

    Attributes:
        kind: What it would wait for; None: for nothing.
        text: The finding, for people.
        since_s: For how many seconds the oldest work that would free it has been waiting; None
            where it waits for nothing, or where that cannot be known.
        freed_by: What ends the wait; empty where there is none.
        live: True in the process that writes. Elsewhere files and budgets are all there is: the
            writer's queue, its ring and whether a segment is ready cannot be known.
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

    Raises:
        CoordinatorDied, StorageFull: what the append would get.
    """
    coordinator.check_alive()
    facts = _facts(stream, coordinator)
    live = stream.writer is not None
    need = record_bytes + FRAME_BYTES
    kind = _kind_here(stream, need) if live else _by_files(stream, coordinator, facts, need)
    if kind is None:
        return BlockExplanation(None, "an append would wait for nothing", None, "", live, facts)
    text, since_s = f"an append would wait for {kind.value}", None
    ours = [entry for entry in coordinator.entries() if entry.command.stream == stream.name]
    if ours:
        oldest = min(ours, key=lambda entry: entry.queued_s)
        since_s = coordinator.context.clock.monotonic_s() - oldest.queued_s
        text += f", since {since_s:.1f} s by {type(oldest.command).__name__}"
    if stream.last_error is not None:
        text += f"; the newest failure: {stream.last_error}"
    return BlockExplanation(kind, text, since_s, FREED_BY[kind], live, facts)


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
    stream: StreamInstance, coordinator: Coordinator, facts: dict[str, int], need: int
) -> WouldBlockKind | None:
    """Beside the writing process: only whether the budgets leave room for one more segment."""
    for unsealed in stream.unsealed():
        size = stream.hot.sizes.get(unsealed.segment_id, 0)
        if not unsealed.ended and unsealed.bytes + need <= size:
            return None
    wanted = coordinator.context.segment_bytes(stream, need)
    if facts["tier0_bytes_used"] + wanted <= facts["tier0_bytes_max"]:
        return None
    uploads = facts["segments_to_upload"] and not facts["segments_to_compress"]
    return WouldBlockKind.TIER2_BACKLOG if uploads else WouldBlockKind.ADMISSION
