"""A takeover of a stream whose last segments never came to tier 2."""

from __future__ import annotations

import shutil

import pytest

import aof2
from aof2._core.manifest import RecordType as T
from aof2.errors import UploadFailed
from aof2.tiers.cold import ColdTier

QUICK = aof2.AofManagerConfig(
    manifest=aof2.ManifestConfig(publish_interval_s=0.1),
    coordinator=aof2.CoordinatorConfig(retry_delay_s=0.05, shutdown_timeout_s=1),
)


@pytest.mark.parametrize("opened", [False, True], ids=["newest sealed", "newest only opened"])
def test_what_never_came_to_tier_2_is_given_up_with_its_root(tmp_path, monkeypatch, opened):
    """Goal: no offset is promised that nobody has. Method: publish a seal whose upload fails.

    Then the root is lost; the chunk that tier 2 has may end between an opening and its seal.
    """
    root, tier2 = tmp_path / "root", str(tmp_path / "tier2")
    upload = ColdTier.upload

    def only_the_first(self, key, contents, crc64):
        if "/seg/" in key and f"/{0:020d}-" not in key:
            raise UploadFailed("not this one", path=key)
        return upload(self, key, contents, crc64)

    monkeypatch.setattr(ColdTier, "upload", only_the_first)
    with aof2.open(root, tier2=tier2, config=QUICK) as manager:
        log = manager.stream("orders")
        for text in (b"a", b"b"):
            log.append(text)
            log.seal()
        if opened:
            instance = manager._instances["orders"]
            instance.manifest.append(T.SEGMENT_OPENED, 3, 2, base_offset=2, epoch=1)
        log.wait(0, "remote", timeout=20)
    shutil.rmtree(root)
    monkeypatch.undo()
    with aof2.open(tmp_path / "again", tier2=tier2, config=QUICK) as manager:
        log = manager.stream("orders")
        assert (log.first_offset, log.next_offset) == (0, 1)
        assert log.append(b"B") == 1
        log.wait(1, "remote", timeout=20)
        assert [record.payload for record in log.reader()] == [b"a", b"B"]
