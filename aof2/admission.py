"""Byte budgets: every allocated byte of a local tier is accounted for here, over all streams."""

from __future__ import annotations

import threading

BLOCK_BYTES = 4096


def on_disk(file_bytes: int) -> int:
    """Bytes that a file takes on disk: whole blocks, which counts where files are many and small.

    Example:
        >>> on_disk(1), on_disk(4096)
        (4096, 4096)
    """
    return -(-file_bytes // BLOCK_BYTES) * BLOCK_BYTES


class Budget:
    """Bytes of one tier that all streams of a manager share.

    Args:
        bytes_max: What `admit` never lets usage pass.

    Example:
        >>> budget = Budget(10)
        >>> budget.admit(8), budget.admit(3), budget.used
        (True, False, 8)
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes accounted for now."""
        return self._used

    def admit(self, n: int) -> bool:
        """Take `n` bytes if they fit; False, and nothing taken, if they do not."""
        with self._lock:
            if self._used + n > self.bytes_max:
                return False
            self._used += n
            return True

    def charge(self, n: int) -> None:
        """Account for bytes that are there already, fit or not."""
        with self._lock:
            self._used += n

    def release(self, n: int) -> None:
        """Give `n` bytes back."""
        with self._lock:
            self._used -= n
