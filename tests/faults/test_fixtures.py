"""What users get for their own tests: a manager, and fixtures."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import aof2
from aof2.objectstore import MemoryStore
from aof2.testing import fixtures, manager
from aof2.testing.faults import Fault

# As a user has them by `pytest_plugins`, which only the topmost conftest.py may say.
aof2_manager = fixtures.aof2_manager
aof2_s3_proxy = fixtures.aof2_s3_proxy
aof2_tier2 = fixtures.aof2_tier2


@pytest.fixture
def aof2_s3_server(seaweedfs):
    """The server of this test run instead of one more."""
    return seaweedfs


def test_a_temporary_manager_leaves_nothing():
    """Goal: a test can use it a thousand times. Method: use it; look for root, objects, threads."""
    before = set(threading.enumerate())
    with manager() as made:
        log = made.stream("orders")
        log.append(b"first")
        made.drain("remote", timeout=20)
        assert log.watermarks.remote == 1
        root, tier2 = Path(made.root), made.config.tier2
        assert root.exists()
        assert tier2 is not None
        name = tier2.url.removeprefix("memory://")
        assert list(MemoryStore.named(name).list())
    assert not root.exists()
    assert not list(MemoryStore.named(name).list())
    MemoryStore.forget(name)
    assert set(threading.enumerate()) == before


def test_a_temporary_manager_takes_a_configuration():
    """Goal: budgets and the like can be tried. Method: without a tier 2, and with one's own."""
    small = aof2.SegmentConfig(segment_bytes_max=1 << 16)
    with manager(aof2.AofManagerConfig(segment=small), tier2=False) as made:
        assert made.config.tier2 is None
        assert made.config.segment == small
    own = aof2.Tier2Config(url="memory://own")
    with manager(aof2.AofManagerConfig(tier2=own)) as made:
        assert made.config.tier2 == own


def test_the_manager_fixture_has_a_tier_2(aof2_manager):
    """Goal: it is ready to use. Method: append, and wait for tier 2."""
    log = aof2_manager.stream("orders")
    log.append(b"first")
    aof2_manager.drain("remote", timeout=20)
    assert log.watermarks.remote == 1


def test_the_proxy_fixture_stands_before_the_tier_2_fixture(aof2_tier2, aof2_s3_proxy, tmp_path):
    """Goal: a test breaks what its own program asks for. Method: lose the reply to each upload."""
    rule = aof2_s3_proxy.fail(Fault.DROP_REPLY, "put", "*/seg/*", times=None)
    with aof2.open(tmp_path, tier2=aof2_tier2) as made:
        log = made.stream("orders")
        log.append(b"first")
        made.drain("remote", timeout=30)
        assert log.watermarks.remote == 1
    assert rule.applied
