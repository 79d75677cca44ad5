"""A run of records as columns: numpy arrays over the bytes where they lie."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from aof2.errors import Closed


class RecordBatch:
    """Consecutive records of a stream as columns, without one object per record.

    A batch that was appended as one comes back zero-copy; single records are gathered. Arrays made
    from it keep the bytes alive, also after `release` and after the log was closed. It is a context
    manager.

    Attributes:
        first_offset: Offset of the first record.

    ```python
    for batch in log.reader().batches():
        total += batch.ends[-1]
    ```

    See `docs/reading.md`.
    """

    def __init__(
        self,
        first_offset: int,
        count: int,
        data: memoryview,
        offsets: memoryview,
        timestamps: memoryview | int,
        ext_ids: memoryview | int,
    ) -> None:
        self.first_offset = first_offset
        self._count = count
        starts: npt.NDArray[np.int32] = np.frombuffer(offsets, dtype=np.int32, count=count + 1)
        payloads: npt.NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)
        if starts[0] or int(starts[-1]) != len(payloads):
            # A part of a batch frame: its ends are counted from its own first byte.
            payloads = payloads[int(starts[0]) : int(starts[-1])]
            starts = starts - starts[0]
        self._starts: npt.NDArray[np.int32] | None = starts
        self._data: npt.NDArray[np.uint8] | None = payloads
        self._timestamps = timestamps
        self._ext_ids = ext_ids

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"RecordBatch(first_offset={self.first_offset}, len={self._count})"

    def __enter__(self) -> RecordBatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the bytes; arrays that were taken before stay valid."""
        self._data = self._starts = None
        self._timestamps = self._ext_ids = 0

    def _held(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        if self._data is None or self._starts is None:
            raise Closed("the batch was released", offset=self.first_offset)
        return self._data, self._starts

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The payloads back to back, uint8, shape `(bytes,)`, read-only."""
        return self._held()[0]

    @property
    def ends(self) -> npt.NDArray[np.int32]:
        """End positions of the payloads in `data`, int32, shape `(len,)`, ascending."""
        return self._held()[1][1:]

    @property
    def timestamps_ns(self) -> npt.NDArray[np.int64]:
        """Time stamps, nanoseconds since 1970 UTC, int64, shape `(len,)`."""
        self._held()
        return self._column(self._timestamps, np.int64)

    @property
    def ext_ids(self) -> npt.NDArray[np.uint64]:
        """The records' ext_ids, uint64, shape `(len,)`."""
        self._held()
        return self._column(self._ext_ids, np.uint64)

    def _column(self, values: memoryview | int, dtype: Any) -> npt.NDArray[Any]:
        if isinstance(values, int):
            return np.full(self._count, values, dtype=dtype)
        return np.frombuffer(values, dtype=dtype, count=self._count)

    def payload(self, i: int) -> bytes:
        """Payload of the i-th record of the batch, as bytes; `IndexError` outside of it."""
        data, starts = self._held()
        if not -self._count <= i < self._count:
            raise IndexError(f"record {i} of a batch of {self._count}")
        at = i % self._count
        return data[int(starts[at]) : int(starts[at + 1])].tobytes()

    def to_pylist(self) -> list[bytes]:
        """All payloads as a list of bytes."""
        data, starts = self._held()
        raw = data.data
        ends = starts.tolist()
        return [bytes(raw[a:b]) for a, b in pairwise(ends)]

    def to_arrow(self) -> Any:
        """The payloads as a `pyarrow.BinaryArray` over the same bytes; needs the extra `arrow`."""
        import pyarrow

        data, starts = self._held()
        return pyarrow.Array.from_buffers(
            pyarrow.binary(),
            self._count,
            [None, pyarrow.py_buffer(starts), pyarrow.py_buffer(data)],
        )
