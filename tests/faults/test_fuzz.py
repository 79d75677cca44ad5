"""A short selection of the fuzz row, and what it found."""

from __future__ import annotations

import random
import struct

import pytest

from aof2._core import seal
from aof2.errors import SegmentCorrupt
from aof2.torture.damage import build
from aof2.torture.forge import FOOTER_BYTES, forge_log_file
from aof2.torture.fuzz import NAME, Place, begin, targets
from aof2.torture.pool import run_forked
from aof2.torture.row import Setting

SEED = 2


def test_changed_files_are_refused_or_read(tmp_path):
    """Goal: no crash, leak, or error that is not ours. Method: four cases of the row, forked."""
    cases = begin(Setting(SEED, tmp_path))
    for ended in run_forked(lambda number: cases.run(number).as_json(), range(4), batch=2):
        assert ended.problem == ""
        assert ended.result["violations"] == []
        assert ended.result["units"] == 500


@pytest.mark.parametrize(
    ("field", "value"), [(136, 1 << 60), (136, (1 << 60) + 1), (104, (1 << 64) - 40)]
)
def test_a_footer_whose_sums_wrap_around_is_refused(tmp_path, field, value):
    """Goal: an index that cannot be in the file is not looked at; it was, and ended the process.

    Method: a good sealed segment with another number in its footer, under good checksums.
    """
    world = build(tmp_path)[0]
    path = sorted(path for path in world.files if path.endswith(".seg"))[0]
    place = Place(tmp_path / "place", bytes(16))
    data = bytearray(world.files[path])
    struct.pack_into("<Q", data, len(data) - FOOTER_BYTES + field, value)
    forge_log_file(data, random.Random(1))
    place.write(bytes(data))
    with pytest.raises(SegmentCorrupt):
        seal.read_footer(place.directory, NAME)


def test_every_kind_of_input_is_there(tmp_path):
    """Goal: no decoder is left out. Method: look at the names."""
    names = {target.name for target in targets(build(tmp_path)[1], bytes(16))}
    assert names >= {"sealed segment", "active segment", "sealed chunk", "warm file", "ring"}
    assert names >= {"snapshot head", "index page", "pointer", "manifest record", "claim", "HEAD"}
