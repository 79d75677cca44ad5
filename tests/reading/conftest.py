"""These tests count what reads themselves ask for: no segment comes back to the hot tier here."""

from __future__ import annotations

import pytest

from aof2.tiers.visits import Visits


@pytest.fixture(autouse=True)
def nothing_comes_back(monkeypatch):
    """Visits lead to nothing; what brings segments back has tests of its own."""
    monkeypatch.setattr(Visits, "note", lambda self, segment_id, raw_bytes, **when: None)
