"""A chunk whose seal was interrupted anywhere is sealed by the next open, as others read it."""

from __future__ import annotations

import errno

import pytest
from lives import IDENTITY, append_all, lives, open_manifest

from aof2._core.chunk_link import chunk_link
from aof2._core.posix import set_seam_hook
from aof2.errors import DurabilityLost
from aof2.manifest.chunks import chunk_name


@pytest.fixture(autouse=True)
def seam():
    """No hook outlives a test."""
    yield
    set_seam_hook(None)


@pytest.mark.parametrize(
    ("call", "nth"),
    [("pwrite", 2), ("pwrite", 3), ("fdatasync", 1), ("ftruncate", 1), ("fdatasync", 2)],
)
def test_a_seal_that_failed_is_finished_by_the_next_open(tmp_path, call, nth):
    """Goal: a chunk that counts as sealed can be published.

    Method: fail one call of the seal, so that the file keeps its full size behind the footer; open
    again, and read the chunk as its publication does.
    """
    manifest = open_manifest(tmp_path / "m")
    append_all(manifest, list(lives(5, 1)))
    manifest.flush()
    left = [nth]

    def fail(op, *rest):
        left[0] -= op == call
        return errno.EIO if op == call and left[0] == 0 else 0

    set_seam_hook(fail)
    with pytest.raises(DurabilityLost):
        manifest.seal_chunk()
    set_seam_hook(None)
    manifest.close()
    again = open_manifest(tmp_path / "m")
    again.seal_chunk()
    assert len(again.sealed_chunks(0)) == 2
    for chunk_id in again.sealed_chunks(0):
        chunk_link(
            again.read_chunk(chunk_id),
            stream_uuid=IDENTITY.uuid,
            chunk_id=chunk_id,
            path=chunk_name(chunk_id),
        )
    again.close()
