"""`docs/manifest.md`: its chunk is one, and its names are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aof2._core.directory import Directory
from aof2._core.manifest import RecordType
from aof2.manifest.chunkview import view_chunk
from aof2.manifest.log import Manifest
from aof2.types import StreamIdentity

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = f"{1:020d}.mlog"


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "manifest.md").read_text(encoding="utf-8")


@pytest.fixture
def place(page, tmp_path):
    """A manifest directory with the bytes of the page's example, and the stream that it is of."""
    example = page.split("## Worked example", 1)[1]
    size = re.search(r"a file of ([\d,]+) bytes", example)
    assert size
    data = bytearray(int(size[1].replace(",", "")))
    rows = re.findall(r"^([0-9a-f]{6})  ([0-9a-f ]+?) *\|", example.split("```")[1], re.M)
    assert len(rows) > 20
    for at, text in rows:
        row = bytes.fromhex(text)
        data[int(at, 16) : int(at, 16) + len(row)] = row
    (tmp_path / NAME).write_bytes(data)
    root_id = bytes(data[0x820:0x830])
    return Directory(tmp_path), StreamIdentity("orders", "orders", bytes(range(16)), root_id)


def test_the_example_holds_the_records_that_its_table_names(page, place):
    """Goal: the page shows a real chunk. Method: decode it, compare positions and types."""
    view = view_chunk(*place, 1)
    assert view is not None
    assert (view.info.state, view.info.crc_good, view.info.problem) == ("clean", True, None)
    rows = re.findall(r"^\| 0x([0-9a-f]{4}) \| `([A-Z_]+)`, segment (\d)", page, re.M)
    told = [(int(at, 16), name, int(segment)) for at, name, segment in rows]
    assert [(r.position, r.type, r.segment_id) for r in view.records] == told
    assert view.info.end is not None
    assert f"| 0x{view.info.end[1]:x} | zeros: the end" in page
    uploaded = view.records[4].fields
    assert (uploaded["key"], uploaded["size"], uploaded["etag"]) == ("seg/f1/0-3.zst", 569, '"e"')


def test_the_example_folds_into_the_row_that_its_text_tells(place):
    """Goal: and one that the fold accepts. Method: replay it; look at the row."""
    manifest = Manifest.open(*place, readonly=True)
    row = manifest.index.segments[1]
    assert (row.base_offset, row.end_offset, row.raw_bytes) == (0, 3, 12456)
    assert (row.hot_evicted, row.warm_present) == (True, True)
    assert row.cold is not None
    assert row.cold.size == 569
    assert manifest.index.cold_end == 3
    manifest.close()


def test_every_type_of_record_is_in_the_table_of_lives(page):
    """Goal: no record without a meaning. Method: compare the table with the code's types."""
    table = page.split("| Record | Written |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.M)
    told = {name.lower() for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == {kind.name.replace("_", "").lower() for kind in RecordType}


def test_its_bounds_are_those_of_the_metrics_page(page):
    """Goal: two pages, one bound. Method: compare the columns of both tables."""
    metrics = (DOCS / "metrics.md").read_text(encoding="utf-8")
    compared = 0
    row = re.compile(r"^\| `(aof_manifest_\w+)` \|([^|]*)\|([^|]*)\|", re.M)
    for name, warn, critical in row.findall(page):
        told = re.search(rf"^\| `\w+` \| `{name}` \|.*\|([^|]*)\|([^|]*)\|$", metrics, re.M)
        assert told, name
        assert (told[1].strip(), told[2].strip()) == (warn.strip(), critical.strip())
        compared += 1
    assert compared == 6
