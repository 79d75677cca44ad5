"""Append and read a few records with an installed aof2; `ci/wheels` runs it for every wheel."""

import platform
import tempfile

import aof2
from aof2._core.checksum import crc64nvme

PAYLOADS = [b"", b"x", b"aof2" * 1000, bytes(range(256)) * 64]


def main() -> None:
    if crc64nvme(b"123456789") != 0xAE8B14860A799888:
        raise SystemExit("the checksum kernel of this wheel computes something else")
    with tempfile.TemporaryDirectory() as root:
        with aof2.open(root) as manager:
            log = manager.stream("check")
            first = log.append(PAYLOADS[0])
            span = log.append_many(PAYLOADS[1:])
            log.flush()
        with aof2.open(root) as manager:
            records = list(manager.stream("check").reader())
    if [record.payload for record in records] != PAYLOADS:
        raise SystemExit("the records read back differ from those appended")
    if (first, span) != (0, range(1, len(PAYLOADS))):
        raise SystemExit(f"unexpected offsets: {first}, {span}")
    print(f"aof2 {aof2.__version__} on CPython {platform.python_version()}: {len(records)} records")


if __name__ == "__main__":
    main()
