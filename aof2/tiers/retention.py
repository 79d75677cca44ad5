"""What of a stream's beginning is given up: because it was asked for, or as the stream keeps only
so many bytes."""

from __future__ import annotations

import threading

from aof2._core.manifest import RecordType
from aof2.manifest.log import Manifest
from aof2.tiers.remote import RemoteSide


class Retention:
    """How far the sealed segments of a stream are more than it keeps.

    Each look goes on where the last one ended, so that its cost does not grow with history. The
    planner looks, and so does an append that has to wait: one at a time.
    """

    def __init__(self, manifest: Manifest, remote: RemoteSide) -> None:
        self._manifest = manifest
        self._remote = remote
        self._lock = threading.Lock()
        self._kept = 0
        self._first = 0
        self._end = 0
        self._before = 0

    def due(self, bytes_max: int | None) -> int:
        """Offset below which everything is to be given up now; 0: nothing is.

        Args:
            bytes_max: Bytes of sealed segments that stay; the oldest ones go once there are more.
        """
        if bytes_max is None:
            return 0
        with self._lock:
            return self._look(bytes_max)

    def _look(self, bytes_max: int) -> int:
        index = self._manifest.index
        for row in index.rows(self._end):
            if not row.sealed:
                break
            self._kept += row.raw_bytes
            self._end += 1
        for row in index.rows(self._first):
            given_up = self._remote.is_trimmed(row)
            if self._first == self._end or not (given_up or self._kept > bytes_max):
                break
            self._kept -= row.raw_bytes
            self._first += 1
            self._before = max(self._before, row.end_offset or 0)
        return self._before if self._before > index.trimmed else 0

    def give_up(self, before: int) -> None:
        """Record durably that everything below an offset is gone, which is durable itself."""
        self._manifest.append(RecordType.TRIMMED, 0, before, before_offset=before)
        self._manifest.flush()
        self._remote.note_trimmed()
