"""Managers that are open: what a fork and the interpreter's exit do about them."""

from __future__ import annotations

import atexit
import functools
import os
import warnings
import weakref
from collections.abc import Mapping
from typing import Protocol

from aof2.tiers.instance import StreamInstance


class Live(Protocol):
    """A manager, as far as it matters here."""

    def close(self) -> None:
        """Close it."""

    def _pending(self) -> list[str]:
        """What a close has to finish, or leaves to the next open."""

    def _mark_forked(self) -> None:
        """In a forked child: it is the parent's."""


def pending_of(streams: Mapping[str, StreamInstance]) -> list[str]:
    """What background work has still to do for some streams, for people."""
    found = []
    for name, stream in streams.items():
        counts = {
            "records not durable": stream.next_offset - stream.durable_offset,
            "segments to seal": sum(u.ended for u in stream.unsealed()),
            "to compress": len(stream.to_compress),
            "to upload": len(stream.to_upload) if stream.cold is not None else 0,
            "publication": stream.remote.is_behind(uploads=stream.has_uploads),
            "objects to delete": len(stream.remote.deletes),
            "to bring back to the hot tier": len(stream.hydration.asked),
            "damaged copies to set aside": len(stream.hydration.damaged),
            "warm copies to fetch": len(stream.hydration.to_fetch),
        }
        found += [f"{name}: {int(n)} {what}" for what, n in counts.items() if n]
    return found


LIVE: weakref.WeakSet[Live] = weakref.WeakSet()
"""Those of this process that are not closed."""


def _forked_child() -> None:
    for manager in list(LIVE):
        manager._mark_forked()
    LIVE.clear()


os.register_at_fork(after_in_child=_forked_child)


def _close_at_exit() -> None:
    """Close what a program left open, so that the next open has nothing to recover."""
    failures: list[BaseException] = []
    for manager in list(LIVE):
        told = (
            f"{manager!r} was not closed before the interpreter's exit, which closes it now; "
            f"pending: {', '.join(manager._pending()) or 'nothing'}"
        )
        for step in (functools.partial(warnings.warn, told, ResourceWarning, 2), manager.close):
            try:
                step()
            except Exception as error:
                failures.append(error)
    if failures:
        raise failures[0]


atexit.register(_close_at_exit)
