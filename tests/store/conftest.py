"""The stores that the contract is tried on."""

from __future__ import annotations

import pytest

from aof2.objectstore import ObjectStore


@pytest.fixture
def store(any_store: ObjectStore) -> ObjectStore:
    """Each implementation in turn."""
    return any_store
