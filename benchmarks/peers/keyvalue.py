"""Embedded databases as logs: 8-byte big-endian sequence numbers as keys."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from typing import Any

from records import BATCH
from store import Store

KEY = struct.Struct(">Q").pack
TRANSACTION = 10 * BATCH
"""Records of a transaction while only the end is synced."""


class Lmdb(Store):
    """lmdb, appending in key order."""

    name = "lmdb"
    settings = "append=True, putmulti, transactions of 10,000, lock=False, readahead=False"
    packages = ("lmdb",)
    columns = True

    def open_write(self) -> None:
        import lmdb

        os.makedirs(self.path, exist_ok=True)
        safe = self.mode in ("group", "each")
        self._file = os.path.join(self.path, "data")
        common = {"map_size": 16 << 30, "subdir": False, "lock": False, "readahead": False}
        self._env = lmdb.open(self._file, sync=safe, metasync=safe, **common)
        self._safe, self._next, self._pending = safe, 0, 0
        self._transaction: Any = None

    def append(self, record: bytes) -> None:
        if self._transaction is None:
            self._transaction = self._env.begin(write=True)
        self._transaction.put(KEY(self._next), record, append=True)
        self._next += 1
        self._pending += 1
        if self._pending == TRANSACTION and not self._safe:
            self._commit()

    def append_many(self, records: list[bytes]) -> None:
        if self._transaction is None:
            self._transaction = self._env.begin(write=True)
        keys = map(KEY, range(self._next, self._next + len(records)))
        self._transaction.cursor().putmulti(zip(keys, records, strict=True), append=True)
        self._next += len(records)
        self._pending += len(records)
        if self._pending >= TRANSACTION and not self._safe:
            self._commit()

    def _commit(self) -> None:
        if self._transaction is not None:
            self._transaction.commit()
            self._transaction, self._pending = None, 0

    def sync(self) -> None:
        self._commit()
        if not self._safe:
            self._env.sync(True)

    def close_write(self) -> None:
        self._env.close()

    def open_read(self) -> None:
        import lmdb

        self._env = lmdb.open(self._file, readonly=True, lock=False, subdir=False)
        self._read = self._env.begin()

    def scan(self) -> Iterator[bytes]:
        return self._read.cursor().iternext(keys=False, values=True)

    def scan_columns(self) -> Iterator[tuple[int, int]]:
        with self._env.begin(buffers=True) as transaction:
            for value in transaction.cursor().iternext(keys=False, values=True):
                yield 1, len(value)

    def get(self, number: int) -> bytes:
        return self._read.get(KEY(number))

    def close_read(self) -> None:
        self._read.abort()
        self._env.close()


class Sqlite(Store):
    """sqlite3 with a write-ahead log."""

    name = "sqlite3"
    settings = "WAL, locking_mode=EXCLUSIVE, 8 KiB pages, 64 MiB cache, transactions of 10,000"

    def open_write(self) -> None:
        os.makedirs(self.path, exist_ok=True)
        self._file = os.path.join(self.path, "data")
        self._safe = self.mode in ("group", "each")
        self._db = sqlite3.connect(self._file, isolation_level=None)
        for pragma in (
            "page_size=8192",
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            f"synchronous={'FULL' if self._safe else 'OFF'}",
            "cache_size=-65536",
            "wal_autocheckpoint=4000",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE log(number INTEGER PRIMARY KEY, data BLOB)")
        self._next = self._pending = 0

    def _more(self, n: int) -> None:
        self._next += n
        self._pending += n
        if self._pending >= TRANSACTION and not self._safe:
            self._commit()

    def _begin(self) -> None:
        if not self._pending:
            self._db.execute("BEGIN")

    def append(self, record: bytes) -> None:
        self._begin()
        self._db.execute("INSERT INTO log VALUES(?,?)", (self._next, record))
        self._more(1)

    def append_many(self, records: list[bytes]) -> None:
        self._begin()
        rows = zip(range(self._next, self._next + len(records)), records, strict=True)
        self._db.executemany("INSERT INTO log VALUES(?,?)", rows)
        self._more(len(records))

    def _commit(self) -> None:
        if self._pending:
            self._db.execute("COMMIT")
            self._pending = 0

    def sync(self) -> None:
        self._commit()
        if not self._safe:
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close_write(self) -> None:
        self._db.close()

    def open_read(self) -> None:
        self._db = sqlite3.connect(self._file)
        self._db.execute("PRAGMA mmap_size=8589934592")

    def scan(self) -> Iterator[bytes]:
        cursor = self._db.execute("SELECT data FROM log ORDER BY number")
        while rows := cursor.fetchmany(BATCH):
            for row in rows:
                yield row[0]

    def get(self, number: int) -> bytes:
        return self._db.execute("SELECT data FROM log WHERE number=?", (number,)).fetchone()[0]

    def close_read(self) -> None:
        self._db.close()


class Rocksdict(Store):
    """RocksDB by rocksdict."""

    name = "rocksdict"
    settings = "raw, uncompressed, 4 x 128 MiB buffers, WriteBatch; WAL only where synced each time"
    packages = ("rocksdict",)

    def _options(self) -> Any:
        import rocksdict

        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_write_buffer_size(128 << 20)
        options.set_max_write_buffer_number(4)
        options.increase_parallelism(2)
        options.set_level_zero_file_num_compaction_trigger(64)
        return options

    def open_write(self) -> None:
        import rocksdict

        self._module = rocksdict
        self._db = rocksdict.Rdict(self.path, self._options())
        write = rocksdict.WriteOptions()
        self._safe = self.mode in ("group", "each")
        write.sync = self._safe
        write.disable_wal = not self._safe
        self._db.set_write_options(write)
        self._write, self._next = write, 0

    def append(self, record: bytes) -> None:
        self._db.put(KEY(self._next), record, self._write)
        self._next += 1

    def append_many(self, records: list[bytes]) -> None:
        batch = self._module.WriteBatch(raw_mode=True)
        for number, record in enumerate(records, self._next):
            batch.put(KEY(number), record)
        self._db.write(batch, self._write)
        self._next += len(records)

    def sync(self) -> None:
        if not self._safe:
            self._db.flush(True)

    def close_write(self) -> None:
        self._db.close()

    def open_read(self) -> None:
        self._db = self._module.Rdict(self.path, self._options())

    def scan(self) -> Iterator[bytes]:
        return self._db.values()

    def get(self, number: int) -> bytes:
        return self._db[KEY(number)]

    def close_read(self) -> None:
        self._db.close()


class Plyvel(Store):
    """LevelDB by plyvel."""

    name = "plyvel"
    settings = "uncompressed, 128 MiB buffer, write_batch"
    packages = ("plyvel",)

    def open_write(self) -> None:
        import plyvel

        self._options = {"compression": None, "write_buffer_size": 128 << 20}
        self._module = plyvel
        self._db = plyvel.DB(self.path, create_if_missing=True, **self._options)
        self._safe, self._next = self.mode in ("group", "each"), 0

    def append(self, record: bytes) -> None:
        self._db.put(KEY(self._next), record, sync=self.mode == "each")
        self._next += 1

    def append_many(self, records: list[bytes]) -> None:
        with self._db.write_batch(sync=self._safe) as batch:
            for number, record in enumerate(records, self._next):
                batch.put(KEY(number), record)
        self._next += len(records)

    def sync(self) -> None:
        if not self._safe:
            # LevelDB has no call of its own: a synced write syncs the log before it.
            self._db.put(b"end", b"", sync=True)

    def close_write(self) -> None:
        self._db.close()

    def open_read(self) -> None:
        self._db = self._module.DB(self.path, **self._options)

    def scan(self) -> Iterator[bytes]:
        return self._db.iterator(include_key=False, stop=b"end", verify_checksums=True)

    def get(self, number: int) -> bytes:
        return self._db.get(KEY(number), verify_checksums=True)

    def close_read(self) -> None:
        self._db.close()
