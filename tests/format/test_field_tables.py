"""The field tables of `docs/format.md` are those of the core's structs, field by field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aof2._core import layout, manifest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
STRUCTS = (ROOT / "aof2" / "_core" / "layout.pxd").read_text(encoding="utf-8")
WIDTHS = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "uint64_t": 8, "int64_t": 8}

Row = tuple[int, int, str]


def table_of(name: str) -> list[tuple[Row, str]]:
    """`((at, width, name), meaning)` of each row below the line that announces the struct."""
    match = re.search(rf"^`{name}`, ([\d,]+) bytes[^\n]*\n\n((?:\|[^\n]*\n)+)", PAGE, re.M)
    assert match, f"docs/format.md has no table of {name}"
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \| ?(.*?) ?\|$", match[2], re.M)
    return [((int(at), int(width), field), meaning) for at, width, field, meaning in rows]


def struct_of(name: str) -> list[tuple[Row, bool]]:
    """`((at, width, name), signed)` of each field of a packed struct, in the source's order."""
    body = re.search(rf"cdef packed struct {name}:\n((?:    \w[^\n]*\n)+)", STRUCTS)
    assert body, name
    found: list[tuple[Row, bool]] = []
    at = 0
    for kind, field, count in re.findall(r"^    (\w+) (\w+)(?:\[(\d+)\])?", body[1], re.M):
        width = WIDTHS[kind] * int(count or 1)
        found.append(((at, width, field), kind == "int64_t"))
        at += width
    return found


@pytest.mark.parametrize("name", sorted(layout.sizes()))
def test_a_table_of_the_format_is_the_struct_of_the_core(name):
    """Goal: a reader written from the page reads our files. Method: compare place, width, name."""
    told, real = table_of(name), struct_of(name)
    assert [row for row, _ in told] == [row for row, _ in real]
    last = real[-1][0]
    assert last[0] + last[1] == layout.sizes()[name]
    signed = [row[2] for row, is_signed in real if is_signed]
    assert [row[2] for row, meaning in told if meaning.startswith("signed")] == signed


def test_the_sizes_of_manifest_records_are_those_of_the_codec():
    """Goal: as above. Method: compare both tables of the page with the codec."""
    sizes = manifest.sizes()
    listed = {name: int(n) for name, n in re.findall(r"^\| ([A-Z0-9_]+) \| (\d+) \|$", PAGE, re.M)}
    assert listed == sizes
    rows = re.findall(r"^\| (\d+) \| (\w+)(?: \*)? \| (\d+) \| (.*?) ?\|$", PAGE, re.M)
    by_number = {int(number): (name, int(n), fields) for number, name, n, fields in rows}
    assert sorted(by_number) == [int(kind) for kind in manifest.RecordType]
    for kind in manifest.RecordType:
        name, n, fields = by_number[kind]
        assert name.upper() == kind.name.replace("_", "")
        assert n == sizes[kind.name]
        plain = re.sub(r"\([^)]*\)", "", fields)
        names = tuple(part.strip() for part in plain.split(",") if part.strip())
        assert names == manifest.field_names(kind)
