"""What the runtime logs: one event per outcome, with its fields in `extra`."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from aof2.coordinator.commands import Command
from aof2.coordinator.queue import Entry

LOGGER = logging.getLogger("aof2.tiered")


def _fields(command: Command, event: str, **more: Any) -> dict[str, Any]:
    """`extra` of a log record: the event's name, the command's type and its fields."""
    told = {f.name: getattr(command, f.name) for f in dataclasses.fields(command) if f.compare}
    return {"event": event, "command": type(command).__name__, **told, **more}


def _logger(command: Command) -> logging.Logger:
    return logging.getLogger(f"aof2.{command.area}")


def tell_done(entry: Entry, took_s: float) -> None:
    """A command has ended well; worth a line when it had failed before."""
    command = entry.command
    _logger(command).log(
        logging.INFO if entry.failures else logging.DEBUG,
        "%s done in %.3f s after %d failures",
        command,
        took_s,
        entry.failures,
        extra=_fields(command, "command_done", took_s=took_s, failures=entry.failures),
    )


def tell_failed(
    entry: Entry, error: Exception, pause_s: float, took_s: float, *, overdue: bool
) -> None:
    """A command has failed: a warning, or an error once it is overdue."""
    command = entry.command
    _logger(command).log(
        logging.ERROR if overdue else logging.WARNING,
        "%s failed (%d times in a row), next try in %.1f s: %s",
        command,
        entry.failures,
        pause_s,
        error,
        extra=_fields(
            command,
            "command_overdue" if overdue else "command_failed",
            failures=entry.failures,
            took_s=took_s,
            pause_s=pause_s,
            error=str(error),
            code=getattr(error, "code", type(error).__name__),
        ),
    )


def tell_death(command: Command | None, error: BaseException, *, given_up: bool) -> None:
    """A worker died."""
    LOGGER.log(
        logging.CRITICAL if given_up else logging.ERROR,
        "a worker died at %s: %r; %s",
        command,
        error,
        "background work stops: close and reopen the root"
        if given_up
        else "it is replaced, and the command runs again",
        extra={
            "event": "coordinator_died" if given_up else "worker_died",
            "command": None if command is None else type(command).__name__,
            "error": repr(error),
        },
    )
