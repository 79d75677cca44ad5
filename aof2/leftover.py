"""Managers that are open: what a fork and the interpreter's exit do about them."""

from __future__ import annotations

import atexit
import functools
import os
import warnings
import weakref
from typing import Protocol


class Live(Protocol):
    """A manager, as far as it matters here."""

    def close(self) -> None:
        """Close it."""

    def _pending(self) -> list[str]:
        """What a close has to finish, or leaves to the next open."""

    def _mark_forked(self) -> None:
        """In a forked child: it is the parent's."""


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
