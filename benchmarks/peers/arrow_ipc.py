"""pyarrow's IPC stream of record batches; it has no checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from records import BATCH
from store import Store


class ArrowIpc(Store):
    """One binary column, batches of 1,000 records."""

    name = "pyarrow IPC"
    settings = "RecordBatchStreamWriter, one binary column, 1,000 records a batch, no checksum"
    modes = ("one", "batch", "packed", "group", "each")
    packages = ("pyarrow",)
    columns = True

    def open_write(self) -> None:
        import pyarrow as pa

        os.makedirs(self.path, exist_ok=True)
        self._pa = pa
        self._name = os.path.join(self.path, "log")
        self._schema = pa.schema([("data", pa.binary())])
        self._file: Any = pa.OSFile(self._name, "wb")
        self._writer = pa.RecordBatchStreamWriter(self._file, self._schema)
        self._fd = os.open(self._name, os.O_RDONLY)
        self._pending: list[bytes] = []

    def append(self, record: bytes) -> None:
        self._pending.append(record)
        if len(self._pending) == BATCH:
            self._write()

    def _write(self) -> None:
        if self._pending:
            self.append_many(self._pending)
            self._pending = []

    def append_many(self, records: list[bytes]) -> None:
        column = self._pa.array(records, self._pa.binary())
        self._writer.write_batch(self._pa.record_batch([column], schema=self._schema))

    def append_packed(self, data: bytes, ends: npt.NDArray[np.int32]) -> None:
        offsets = np.concatenate((np.zeros(1, np.int32), ends))
        buffers = [None, self._pa.py_buffer(offsets), self._pa.py_buffer(data)]
        column = self._pa.Array.from_buffers(self._pa.binary(), len(ends), buffers)
        self._writer.write_batch(self._pa.record_batch([column], schema=self._schema))

    def sync(self) -> None:
        self._write()
        self._file.flush()
        os.fdatasync(self._fd)

    def close_write(self) -> None:
        self._writer.close()
        self._file.close()
        os.close(self._fd)

    def open_read(self) -> None:
        self._map = self._pa.memory_map(self._name)
        self._batches: list[Any] = []

    def scan(self) -> Iterator[bytes]:
        for batch in self._pa.ipc.open_stream(self._map):
            yield from batch.column(0).to_pylist()

    def scan_columns(self) -> Iterator[tuple[int, int]]:
        self._map.seek(0)
        for batch in self._pa.ipc.open_stream(self._map):
            yield batch.num_rows, batch.column(0).buffers()[2].size

    def get(self, number: int) -> bytes:
        if not self._batches:
            self._map.seek(0)
            self._batches = [batch.column(0) for batch in self._pa.ipc.open_stream(self._map)]
        size = len(self._batches[0])
        return self._batches[number // size][number % size].as_py()

    def close_read(self) -> None:
        self._batches.clear()
        self._map.close()
