"""What a store has to offer to take part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["one", "batch", "packed", "group", "each"]
"""How records are written:

* one: a call per record, a sync at the end;
* batch: a call per list of 1,000, a sync at the end;
* packed: a call per 1,000 records that lie in one buffer, a sync at the end;
* group: a call per list of 1,000, a sync after each;
* each: a call per record, a sync after each.
"""


class Store:
    """One peer, in a directory of its own. Writing comes first, then reading, in one process."""

    name: ClassVar[str]
    settings: ClassVar[str]
    modes: ClassVar[tuple[Mode, ...]] = ("one", "batch", "group", "each")
    packages: ClassVar[tuple[str, ...]] = ()
    sequential: ClassVar[bool] = True
    """Whether records can be read back: all peers but the bare device."""
    columns: ClassVar[bool] = False
    """Whether it reads batches without an object per record."""
    random: ClassVar[bool] = True
    """Whether it finds a record by its number."""

    def __init__(self, path: str, mode: Mode) -> None:
        self.path = path
        self.mode = mode

    def open_write(self) -> None:
        """Make the store."""
        raise NotImplementedError

    def append(self, record: bytes) -> object:
        """Write one record."""
        raise NotImplementedError

    def append_many(self, records: list[bytes]) -> object:
        """Write some records."""
        raise NotImplementedError

    def append_packed(self, data: bytes, ends: npt.NDArray[np.int32]) -> object:
        """Write the records that end at `ends` of a buffer."""
        raise NotImplementedError

    def sync(self) -> object:
        """Come back once everything is on the device."""
        raise NotImplementedError

    def close_write(self) -> None:
        """Writing is over."""

    def open_read(self) -> None:
        """Open what was written, without what the writer kept in memory where that is possible."""

    def scan(self) -> Iterable[bytes]:
        """Every record as bytes, in order, checked where the store has checksums."""
        raise NotImplementedError

    def scan_columns(self) -> Iterator[tuple[int, int]]:
        """`(records, bytes)` of each batch, read without an object per record."""
        raise NotImplementedError

    def get(self, number: int) -> bytes:
        """One record."""
        raise NotImplementedError

    def close_read(self) -> None:
        """Reading is over."""
