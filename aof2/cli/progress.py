"""A progress bar on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    label: str, total_bytes: int | None, *, wanted: bool = True
) -> Iterator[Callable[[int], object]]:
    """Show a bar while the block runs, and give it a function that takes the bytes just done.

    Args:
        label: What is being done.
        total_bytes: Where the bar ends; None where that is unknown.
        wanted: False shows nothing, as does an stderr that is no terminal.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda done_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda done_bytes: bar.advance(task, done_bytes)
