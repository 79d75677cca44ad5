"""The worked example of `docs/format.md`: the page's rules hold for it, and the code reads it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from aof2._core import logfile, seal
from aof2._core.checksum import crc64nvme
from aof2._core.cursor import RecordCursor
from aof2._core.directory import Directory
from aof2._core.mapping import MappedSegment
from aof2._core.scan import scan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
NAME = f"{1:020d}.seg"
ALL = 2**64 - 1


@pytest.fixture(scope="module")
def example() -> bytes:
    """The bytes that the page shows, with the zeros that it leaves out."""
    page = PAGE.read_text(encoding="utf-8").split("## Worked example", 1)[1]
    size = re.search(r"A segment of ([\d,]+) bytes", page)
    assert size
    data = bytearray(int(size[1].replace(",", "")))
    rows = re.findall(r"^([0-9a-f]{6})  ([0-9a-f ]+?) *\|", page.split("```")[1], re.M)
    for at, text in rows:
        row = bytes.fromhex(text)
        data[int(at, 16) : int(at, 16) + len(row)] = row
    assert len(rows) > 20
    return bytes(data)


def u64(data: bytes, position: int) -> int:
    value: int = struct.unpack_from("<Q", data, position)[0]
    return value


def test_every_checksum_of_the_example_is_what_the_page_says(example):
    """Goal: the page suffices to check a file. Method: compute each checksum as its text says."""
    salt = example[56:64]
    assert u64(example, 2040) == crc64nvme(example[:2040])
    assert u64(example, 4088) == crc64nvme(salt + example[2048:4088])
    assert u64(example, 4608 + 24) == crc64nvme(salt + example[4608:4632])
    position, crcs, kinds = 8192, b"", []
    while not kinds or kinds[-1] != 3:
        length = struct.unpack_from("<I", example, position)[0]
        end = position + (length + 7) // 8 * 8
        head, body = example[position : position + 24], example[position + 32 : end]
        where = struct.pack("<Q", position)
        assert u64(example, position + 24) == crc64nvme(salt + where + head + body)
        kinds.append(example[position + 20])
        if kinds[-1] != 3:
            crcs += example[position + 24 : position + 32]
        position = end
    assert kinds == [1, 1, 2, 3]
    assert u64(example, position - 8) == crc64nvme(crcs)
    footer = len(example) - 168
    assert footer % 4096 == 0
    assert u64(example, footer + 144) == crc64nvme(crcs)
    assert u64(example, footer + 152) == crc64nvme(example[:footer])
    assert u64(example, footer + 160) == crc64nvme(example[footer : footer + 160])


def test_the_code_reads_the_example(example, tmp_path):
    """Goal: the page shows what the code takes. Method: write the file, and read it every way."""
    (tmp_path / NAME).write_bytes(example)
    directory = Directory(tmp_path)
    header = logfile.read_header(directory, NAME)
    assert (header.kind, header.file_id, header.file_bytes) == ("segment", 1, 65536)
    found = scan(directory, NAME)
    assert found is not None
    assert (found.records, found.whole, found.slot_position) == (5, True, 0x2028)
    footer = seal.read_footer(directory, NAME)
    assert footer is not None
    assert (footer.end_offset, footer.chain_crc) == (5, found.chain_crc)
    seal.verify_sealed(directory, NAME, footer)

    source = MappedSegment(directory, NAME)
    cursor = RecordCursor(0, ALL)
    cursor.enter(source.salt, source.base_offset, source.ext_id, source.locate(0))
    cursor.load(source.window(cursor.position))
    records = list(cursor)
    assert [r.payload for r in records] == [b"hello", b"", b"a", b"", b"bcd"]
    assert [r.ext_id for r in records] == [9, 7, 9, 9, 9]
    seconds = [r.timestamp_ns // 1_000_000_000 - 1_700_000_000 for r in records]
    assert seconds == [1, 2, 3, 3, 3]
    directory.close()


def test_the_table_below_the_example_names_its_values(example):
    """Goal: the explanation is of this file. Method: look for its numbers in the text."""
    text = PAGE.read_text(encoding="utf-8").split("## Worked example", 1)[1].split("\n## ", 1)[0]
    for position in (56, 0x20B0, 0x3098, 0x30A0):
        assert f"0x{u64(example, position):016x}" in text
    assert f"created_ns {u64(example, 64)}" in text
    assert f"ring base 0x{u64(example, 0x808):x}" in text
    assert f"time stamp {u64(example, 0x20C0)}" in text
