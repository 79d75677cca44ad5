"""Plain files: framed by hand with a checksum, and the device with nothing on top."""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from store import Mode, Store

HEADER = struct.Struct("<II")
BUFFER_BYTES = 1 << 20


class FramedFile(Store):
    """What one writes in an hour: length, CRC-32C and payload, through a buffered file."""

    name = "file + crc32c"
    settings = "open('ab', 1 MiB), length and crc32c per record, one join per batch, fdatasync"
    packages = ("crc32c",)

    def open_write(self) -> None:
        from crc32c import crc32c

        self._file = open(self._name, "ab", buffering=BUFFER_BYTES)  # noqa: SIM115
        self._write, self._check = self._file.write, crc32c

    @property
    def _name(self) -> str:
        os.makedirs(self.path, exist_ok=True)
        return os.path.join(self.path, "log")

    def append(self, record: bytes) -> None:
        self._write(HEADER.pack(len(record), self._check(record)))
        self._write(record)

    def append_many(self, records: list[bytes]) -> None:
        pack, check, parts = HEADER.pack, self._check, []
        for record in records:
            parts += (pack(len(record), check(record)), record)
        self._write(b"".join(parts))

    def sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close_write(self) -> None:
        self._file.close()

    def open_read(self) -> None:
        with open(self._name, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at: array[int] = array("q")

    def scan(self) -> Iterator[bytes]:
        data, end, unpack, check, at = self._map, len(self._map), HEADER.unpack_from, self._check, 0
        while at < end:
            size, crc = unpack(data, at)
            record = data[at + 8 : at + 8 + size]
            if check(record) != crc:
                raise ValueError(f"checksum at {at}")
            yield record
            at += 8 + size

    def get(self, number: int) -> bytes:
        if not self._at:
            at = 0
            while at < len(self._map):
                self._at.append(at)
                at += 8 + HEADER.unpack_from(self._map, at)[0]
        at = self._at[number]
        size, crc = HEADER.unpack_from(self._map, at)
        record = self._map[at + 8 : at + 8 + size]
        if self._check(record) != crc:
            raise ValueError(f"checksum at {at}")
        return record

    def close_read(self) -> None:
        self._map.close()


class Device(Store):
    """The pace of the device: the same bytes, gathered before the clock starts where they can be,
    into a file whose blocks are allocated, by writes of 1 MiB, with the same syncs."""

    name = "device"
    settings = "pwrite of what the caller has, 1 MiB at a time, into a fallocated file; fdatasync"
    modes = ("one", "batch", "packed", "group", "each")
    sequential = random = False
    FILE_BYTES = 1 << 30

    def __init__(self, path: str, mode: Mode) -> None:
        super().__init__(path, mode)
        self._pending = bytearray()
        self._position = 0

    def open_write(self) -> None:
        os.makedirs(self.path, exist_ok=True)
        self._fd = os.open(os.path.join(self.path, "raw"), os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(self._fd, 0, self.FILE_BYTES)
        os.fdatasync(self._fd)

    def append(self, record: bytes) -> None:
        self._put(record)

    def append_many(self, records: list[bytes]) -> None:
        self._put(b"".join(records))

    def append_packed(self, data: bytes, ends: npt.NDArray[np.int32]) -> None:
        self._put(data)

    def _put(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) >= BUFFER_BYTES:
            self._write_out()

    def _write_out(self) -> None:
        os.pwrite(self._fd, self._pending, self._position)
        self._position += len(self._pending)
        self._pending.clear()

    def sync(self) -> None:
        self._write_out()
        os.fdatasync(self._fd)

    def close_write(self) -> None:
        os.close(self._fd)
