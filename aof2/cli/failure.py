"""Errors as users of the command line see them: one line, and an exit code by remedy."""

from __future__ import annotations

from typing import IO, Any

import click

import aof2

OTHER = 1
USAGE = 2
NOT_FOUND = 3
LOCKED = 4
CORRUPT = 5
NO_ROOM = 6
TIER = 7
INTERRUPTED = 130

_CODES: tuple[tuple[type[aof2.AofError], int], ...] = (
    (aof2.ConfigError, USAGE),
    (aof2.InvalidStreamName, USAGE),
    (aof2.OffsetOutOfRange, NOT_FOUND),
    (aof2.StreamNotFound, NOT_FOUND),
    (aof2.RootLocked, LOCKED),
    (aof2.Fenced, LOCKED),
    (aof2.CorruptionError, CORRUPT),
    (aof2.StorageFull, NO_ROOM),
    (aof2.WouldBlock, NO_ROOM),
    (aof2.TierError, TIER),
)


class Failure(click.ClickException):
    """What ends a command: shown as `error: CODE: message`.

    Attributes:
        code: Stable identifier, that of the library's error where there is one.
        exit_code: Exit code of the process.
    """

    exit_code: int  # type: ignore[misc]  # Click says it belongs to the class.

    def __init__(self, code: str, exit_code: int, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        self.exit_code = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line, to stderr unless told otherwise."""
        click.echo(f"error: {self.code}: {self.message}", file=file, err=file is None)


def failure_of(error: aof2.AofError) -> Failure:
    """A library error as what ends a command."""
    exit_code = next((code for kind, code in _CODES if isinstance(error, kind)), OTHER)
    return Failure(error.code, exit_code, str(error))
