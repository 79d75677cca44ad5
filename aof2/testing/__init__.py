"""What users need to test code that embeds the log: see `docs/testing.md`."""

from __future__ import annotations

from aof2.testing.temporary import manager

__all__ = ["manager"]
