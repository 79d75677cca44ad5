"""aof2, with everything at its defaults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from store import Store

import aof2


class Aof2(Store):
    """A fresh root; it is closed and opened again between writing and reading."""

    name = "aof2"
    settings = "defaults; batches as numpy columns"
    modes = ("one", "batch", "packed", "group", "each")
    packages = ("aof2",)
    columns = True

    def open_write(self) -> None:
        self._manager = aof2.open(self.path)
        log = self._manager.stream("bench")
        self.append = log.append  # type: ignore[method-assign]
        self.append_many = log.append_many  # type: ignore[method-assign]
        self.sync = log.flush  # type: ignore[method-assign]
        self._append_packed = log.append_packed

    def append_packed(self, data: bytes, ends: npt.NDArray[np.int32]) -> object:
        return self._append_packed(data, ends)

    def close_write(self) -> None:
        self._manager.close()

    def open_read(self) -> None:
        self._manager = aof2.open(self.path)
        self._log = self._manager.stream("bench")

    def scan(self) -> Iterator[bytes]:
        return self._log.reader().payloads()

    def scan_columns(self) -> Iterator[tuple[int, int]]:
        for batch in self._log.reader().batches():
            with batch:
                yield len(batch), batch.data.nbytes

    def get(self, number: int) -> bytes:
        return self._log.get(number).payload

    def close_read(self) -> None:
        self._manager.close()
