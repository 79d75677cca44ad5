"""The JSON copy of the index: written when asked for, told apart from the log, never needed."""

from __future__ import annotations

import errno
import json
import logging

import pytest
from lives import append_all, facts, lives, open_manifest

import aof2
from aof2._core.directory import Directory
from aof2._core.posix import set_seam_hook
from aof2.manifest.index import Index
from aof2.manifest.mirror import MIRROR_NAME, differences, mirror_of, read_mirror


@pytest.fixture
def kept(tmp_path):
    """A closed manifest with its copy, and the index that it had."""
    manifest = open_manifest(tmp_path / "m", mirror=True)
    append_all(manifest, lives(30, 5))
    manifest.close()
    return tmp_path / "m", manifest.index


def test_the_copy_says_what_the_index_says(kept):
    """Goal: something to go back to. Method: compare with the replayed index, field by field."""
    path, index = kept
    mirror = read_mirror(Directory(str(path)))
    assert mirror == mirror_of(index)
    assert len(mirror["segments"]) == 30
    again = open_manifest(path, readonly=True)
    assert differences(mirror, again.index) == []
    again.close()


def test_every_changed_value_of_the_copy_is_told(kept):
    """Goal: parity means every field. Method: change each field of a row, drop and add rows."""
    path, index = kept
    mirror = read_mirror(Directory(str(path)))
    for name in mirror["segments"][3]:
        changed = json.loads(json.dumps(mirror))
        changed["segments"][3][name] = 424242
        assert any("segment 4" in line or "424242" in line for line in differences(changed, index))
    dropped = {**mirror, "segments": mirror["segments"][1:]}
    assert differences(dropped, index) == ["segment 1 is missing in the copy"]
    assert differences(mirror, Index())[-1] == "segment 30 is in the copy only"


def test_back_and_forth_loses_nothing(tmp_path):
    """Goal: the field can be changed at any open. Method: true, false, true, false, true."""
    steps, count, expected = list(lives(40, 2)), 0, None
    for turn, mirror in enumerate((False, True, False, True, False)):
        manifest = open_manifest(tmp_path / "m", mirror=mirror)
        assert expected is None or facts(manifest.index) == expected
        count += append_all(manifest, steps[turn::5] if turn > 4 else steps[count : count + 100])
        expected = facts(manifest.index)
        manifest.close()
        found = read_mirror(Directory(str(tmp_path / "m")))
        assert (found is not None) == (turn > 0)
        if mirror:
            assert differences(found, manifest.index) == []
    last = open_manifest(tmp_path / "m", readonly=True)
    assert facts(last.index) == expected
    assert last.appended_count == count
    last.close()


def test_a_stream_keeps_its_copy_only_when_asked(tmp_path):
    """Goal: the configuration's field is what decides. Method: open, append, seal, close."""
    for log_only in (True, False):
        config = aof2.AofManagerConfig(manifest=aof2.ManifestConfig(log_only=log_only))
        root = tmp_path / str(log_only)
        with aof2.open(root, config=config) as manager:
            manager.stream("orders").append(b"first")
            manager.stream("orders").seal()
        found = list(root.glob(f"orders-*/manifest/{MIRROR_NAME}"))
        assert bool(found) is not log_only


def test_a_copy_that_cannot_be_written_fails_nothing(kept, caplog):
    """Goal: the log alone counts. Method: a full disk at the copy's rename."""
    path, _ = kept
    before = (path / MIRROR_NAME).read_bytes()
    manifest = open_manifest(path, mirror=True)
    append_all(manifest, lives(0, 0))
    set_seam_hook(lambda op, *rest: errno.ENOSPC if op == "rename" else 0)
    try:
        with caplog.at_level(logging.ERROR):
            manifest.close()
    finally:
        set_seam_hook(None)
    assert [record.event for record in caplog.records] == ["mirror_failed"]
    assert (path / MIRROR_NAME).read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"records": 1}', '{"records": 1, "segments": 2}'])
def test_a_damaged_copy_is_told(kept, text):
    """Goal: no copy is trusted for its name. Method: put other text there."""
    path, _ = kept
    (path / MIRROR_NAME).write_text(text)
    with pytest.raises(aof2.ManifestCorrupt, match="JSON copy"):
        read_mirror(Directory(str(path)))
    open_manifest(path).close()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("false", False), ("TRUE", True), ("0", False), ("on", True), (False, False), (True, True)],
)
def test_the_flag_is_read_from_text(value, wanted):
    """Goal: variables and files can say it. Method: each form of a flag; and what is none."""
    found = aof2.AofManagerConfig.from_env({"AOF2_MANIFEST_LOG_ONLY": str(value)})
    assert found.manifest.log_only is wanted
    assert aof2.AofManagerConfig.from_mapping({"manifest": {"log_only": value}}) == found
    with pytest.raises(aof2.ConfigError, match="true or false"):
        aof2.AofManagerConfig.from_env({"AOF2_MANIFEST_LOG_ONLY": "perhaps"})
