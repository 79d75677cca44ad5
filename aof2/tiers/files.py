"""Files of a local tier: which there are, how many bytes they take, and the claims behind them."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TypeVar
from weakref import WeakKeyDictionary

from aof2._core.directory import Directory
from aof2.admission import AdmissionGuard, Budget, on_disk

Reader = TypeVar("Reader", bound=Hashable)


class TierFiles:
    """What the hot and the warm tier of a stream have in common; decides nothing.

    Attributes:
        directory: Where the files are.
        budget: What they are claimed from.
        sizes: Bytes that each usable file takes on disk, by segment id.
    """

    def __init__(self, directory: Directory, budget: Budget) -> None:
        self.directory = directory
        self.budget = budget
        self.sizes: dict[int, int] = {}
        self._guards: dict[int, AdmissionGuard] = {}
        self._lent: WeakKeyDictionary[Hashable, int] = WeakKeyDictionary()
        self._leased: WeakKeyDictionary[Hashable, tuple[int, int]] = WeakKeyDictionary()
        self._lease_lock = threading.Lock()

    def file_name(self, segment_id: int) -> str:
        """File name of a segment in this tier."""
        raise NotImplementedError

    def take(self, segment_id: int, guard: AdmissionGuard, file_bytes: int) -> None:
        """A file is there now; what it does not need of its claim goes back."""
        old = self._guards.get(segment_id)
        self._guards[segment_id] = guard.keep()
        self.resize(segment_id, file_bytes)
        if old is not None:
            old.drop()

    def adopt(self, segment_id: int) -> None:
        """Account for a file that is there already and was found good."""
        file_bytes = self.directory.size(self.file_name(segment_id))
        if segment_id in self._guards:
            self.resize(segment_id, file_bytes)
        else:
            self.take(segment_id, self.budget.charge(0), file_bytes)

    def resize(self, segment_id: int, file_bytes: int) -> None:
        """Account for a file's size as it is now, e.g. after the seal cut it."""
        taken = on_disk(file_bytes)
        self.sizes[segment_id] = taken
        self._guards[segment_id].resize(taken)

    def evict(self, segment_id: int) -> None:
        """Drop a file's name; who has it mapped or open goes on reading."""
        self.directory.unlink(self.file_name(segment_id), missing_ok=True)
        self.dropped(segment_id)

    def dropped(self, segment_id: int) -> None:
        """Account for a file that has lost its name, and who still keeps its bytes on disk."""
        file_bytes = self.sizes.get(segment_id, 0)
        with self._lease_lock:
            for reader in self._borrowers(segment_id):
                self._leased[reader] = segment_id, file_bytes
        self.forget(segment_id)

    def _borrowers(self, segment_id: int) -> list[Hashable]:
        return [reader for reader, lent in self._lent.items() if lent == segment_id]

    def lend(self, segment_id: int, reader: Reader) -> Reader:
        """Note an object that keeps a file's bytes readable for as long as it lives."""
        with self._lease_lock:
            self._lent[reader] = segment_id
        return reader

    @property
    def leased_bytes(self) -> int:
        """Bytes on disk of files without a name, which only those who read them keep there; they
        count against no budget."""
        with self._lease_lock:
            # Each file once, however many hold it.
            return sum(dict(self._leased.values()).values())

    def set_aside(self, segment_id: int, quarantine: Directory, now_ns: int) -> None:
        """Move a damaged file into quarantine, where nobody deletes it; fine when it is gone."""
        name = self.file_name(segment_id)
        try:
            self.directory.rename(name, f"{name}.{now_ns}", quarantine)
            quarantine.sync()
            self.directory.sync()
        except FileNotFoundError:
            # Somebody removed it: that was the damage.
            pass
        self.forget(segment_id)

    def forget(self, segment_id: int) -> None:
        """Account for a file that is not there any more."""
        self.sizes.pop(segment_id, None)
        with self._lease_lock:
            for reader in self._borrowers(segment_id):
                del self._lent[reader]
        guard = self._guards.pop(segment_id, None)
        if guard is not None:
            guard.drop()
