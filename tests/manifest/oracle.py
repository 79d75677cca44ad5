"""The fold of the manifest again, in plain Python, from the documented rules alone.

Slow and short on purpose: a list of dicts, and everything that the core counts as it goes along is
worked out anew from the rows.
"""

from __future__ import annotations

from typing import Any

from aof2._core.manifest import RecordType as T
from aof2.manifest.index import Index
from aof2.types import Tier

Row = dict[str, Any]


class Refused(Exception):
    """The record cannot follow the ones before it."""


def need(holds: object) -> None:
    if not holds:
        raise Refused


def empty_row(segment_id: int) -> Row:
    return {
        "segment_id": segment_id, "base_offset": 0, "end_offset": None, "epoch": 0,
        "sealed": False, "raw_bytes": 0, "segment_crc64": 0, "ext_id": 0,
        "coordinator_watermark": 0, "flush_failure": False, "compressed": None,
        "warm_present": False, "upload_key": None, "cold": None, "hot_evicted": False,
        "delete_queued": False, "needs_fetch": False, "recency": 0,
    }  # fmt: skip


class Oracle:
    """What `Index` is, said once more."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.applied = 0
        self.trimmed = 0
        self.cold_rows = 0
        self.cold_end = 0

    def apply(self, kind: T, segment_id: int, offset: int, fields: dict[str, Any]) -> None:
        """Take one record in, or raise `Refused` and change nothing."""
        if kind is T.TRIMMED:
            self.trimmed = max(self.trimmed, fields["before_offset"])
        elif kind is T.SEGMENT_OPENED:
            self._open(segment_id, fields["base_offset"], fields["epoch"])
        elif kind is T.SEAL_SEGMENT:
            self._seal(segment_id, offset, fields)
        elif kind not in (T.SNAPSHOT_MARKER, T.CUSTOM_EVENT):
            row = next((r for r in self.rows if r["segment_id"] == segment_id), None)
            need(row and row["sealed"])
            row |= getattr(self, "_" + kind.name.lower(), lambda row, fields: {})(row, fields)
        self.applied += 1
        for row in self.rows[self.cold_rows :]:
            end = row["end_offset"]
            if not row["sealed"] or not (row["cold"] or end <= self.trimmed):
                break
            self.cold_rows, self.cold_end = self.cold_rows + 1, end

    def _open(self, segment_id: int, base: int, epoch: int) -> None:
        need(segment_id)
        before = [r for r in self.rows if r["segment_id"] < segment_id]
        need(not any(r["sealed"] for r in self.rows[len(before) :]))
        if before:
            last = before[-1]
            fits = base == last["end_offset"] if last["sealed"] else base >= last["base_offset"]
            if not fits:
                behind = [
                    i
                    for i, row in enumerate(before)
                    if row["sealed"] and row["base_offset"] == base and i >= self.cold_rows
                ]
                need(behind)
                need(epoch > max(row["epoch"] for row in before[behind[0] :]))
                del before[behind[0] :]
        old = [r for r in self.rows[len(before) :] if r["segment_id"] == segment_id]
        if len(before) < len([r for r in self.rows if r["segment_id"] < segment_id]):
            old = []
        row = old[0] if old else empty_row(segment_id)
        row |= {"base_offset": base, "epoch": epoch, "recency": self.applied}
        self.rows = [*before, row]

    def _seal(self, segment_id: int, end: int, fields: dict[str, Any]) -> None:
        at = sum(r["segment_id"] < segment_id for r in self.rows)
        known = at < len(self.rows) and self.rows[at]["segment_id"] == segment_id
        before = self.rows[at - 1] if at else None
        facts = dict(fields)
        facts["raw_bytes"] = facts.pop("durable_bytes")
        if known and self.rows[at]["sealed"]:
            same = facts | {"end_offset": end}
            need(all(self.rows[at][name] == value for name, value in same.items()))
            return
        if known:
            row = self.rows[at]
        else:
            need(at == len(self.rows))
            need(before is None or before["sealed"])
            row = empty_row(segment_id) | {"base_offset": before["end_offset"] if before else 0}
        need(segment_id and end > row["base_offset"])
        need(not (before and before["sealed"]) or before["end_offset"] == row["base_offset"])
        if at + 1 < len(self.rows):
            after = self.rows[at + 1]
            need(end == after["base_offset"] or not after["sealed"])
            need(end <= after["base_offset"])
            after["base_offset"] = end
        if not known:
            self.rows.append(row)
        row |= facts | {"end_offset": end, "sealed": True, "recency": self.applied}

    def _compression_done(self, row: Row, fields: dict[str, Any]) -> Row:
        names = ("bytes", "table_bytes", "crc64", "raw_crc64")
        made = tuple(fields[name] for name in names)
        need(not row["cold"] or row["cold"][1:3] == (made[0], made[2]))
        cold = row["cold"] and (*row["cold"][:4], made[1])
        return {"compressed": made, "warm_present": True, "cold": cold}

    def _upload_started(self, row: Row, fields: dict[str, Any]) -> Row:
        need(fields["key"])
        need(not row["cold"] or row["upload_key"] == fields["key"])
        return {"upload_key": fields["key"]}

    def _upload_done(self, row: Row, fields: dict[str, Any]) -> Row:
        key, made = fields["key"], row["compressed"]
        need(key and key == row["upload_key"] and made)
        need((fields["size"], fields["crc64"]) == (made[0], made[2]))
        return {"cold": (key, made[0], made[2], fields["etag"], made[1])}

    def _hydration_done(self, row: Row, fields: dict[str, Any]) -> Row:
        return {"hot_evicted": False, "needs_fetch": False, "recency": self.applied}

    def _local_evicted(self, row: Row, fields: dict[str, Any]) -> Row:
        tier, copy = fields["tier"], fields["copy_tier"]
        if copy == Tier.WARM:
            need(tier == Tier.HOT and row["warm_present"])
        else:
            need(copy == Tier.COLD and tier != Tier.COLD and row["cold"])
        return {"hot_evicted": True} if tier == Tier.HOT else {"warm_present": False}

    def _tier2_delete_queued(self, row: Row, fields: dict[str, Any]) -> Row:
        need(fields["key"] and fields["key"] == row["upload_key"])
        return {"delete_queued": True}

    def _tier2_deleted(self, row: Row, fields: dict[str, Any]) -> Row:
        need(fields["key"] and fields["key"] == row["upload_key"] and row["delete_queued"])
        gone = {"cold": None, "upload_key": None}
        return gone | {"delete_queued": False, "needs_fetch": False}

    def _fetch_queued(self, row: Row, fields: dict[str, Any]) -> Row:
        return {"needs_fetch": True}

    def _fetch_done(self, row: Row, fields: dict[str, Any]) -> Row:
        need(row["cold"])
        return {"warm_present": True, "needs_fetch": False}

    # --- as plain values ------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that can be asked, in the form of `state_of`."""

        def ids(holds: Any) -> list[int]:
            return [r["segment_id"] for r in self.rows if holds(r)]

        def kept(row: Row) -> bool:
            return row["sealed"] and row["end_offset"] > self.trimmed

        first = self.rows[0]["base_offset"] if self.rows else 0
        return {
            "rows": [dict(row) for row in self.rows],
            "applied": self.applied,
            "trimmed": self.trimmed,
            "cold_end": self.cold_end,
            "first_offset": max(self.trimmed, first),
            "pending_compress": ids(lambda r: kept(r) and not r["compressed"] and not r["cold"]),
            "pending_upload": ids(lambda r: kept(r) and r["warm_present"] and not r["cold"]),
            "pending_delete": ids(lambda r: r["delete_queued"]),
            "needs_fetch": ids(lambda r: kept(r) and r["needs_fetch"]),
        }


def state_of(index: Index) -> dict[str, Any]:
    """Everything that an index says, as plain values."""
    names = ("applied", "trimmed", "cold_end", "first_offset", "pending_compress")
    names += ("pending_upload", "pending_delete", "needs_fetch")
    found = {name: getattr(index, name) for name in names}
    return found | {"rows": [row._asdict() for row in index.rows()]}
