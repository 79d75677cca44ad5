"""A manager for a test: a root that goes away, and a tier 2 in memory."""

from __future__ import annotations

import dataclasses
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import aof2
from aof2.config import AofManagerConfig, Tier2Config
from aof2.objectstore import MemoryStore


@contextmanager
def manager(
    config: AofManagerConfig | None = None, *, tier2: bool = True
) -> Iterator[aof2.AofManager]:
    """A manager over a temporary root; root, tier 2 and threads are gone when the block is left.

    Args:
        config: Everything but tier 2; None takes the defaults.
        tier2: Whether there is a tier 2, in memory and empty. With one in `config`, that one
            counts, and is not emptied.

    Raises:
        AofError: As `aof2.open`; on leaving, as `AofManager.close`.

    Example:
        >>> with manager() as made:
        ...     made.stream("orders").append(b"first")
        0
    """
    chosen = AofManagerConfig() if config is None else config
    name = uuid.uuid4().hex
    if tier2 and chosen.tier2 is None:
        chosen = dataclasses.replace(chosen, tier2=Tier2Config(url=f"memory://{name}"))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="aof2-testing-") as root,
            aof2.open(root, config=chosen) as made,
        ):
            yield made
    finally:
        MemoryStore.forget(name)
