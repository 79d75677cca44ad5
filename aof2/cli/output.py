"""Forms of output: JSON, aligned columns, numbers for people."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

import aof2

WIDE = 100_000
"""Columns of a table that goes to no terminal: none is cut."""


def echo_json(value: Any) -> None:
    """Write one JSON document, indented."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def record_json(record: aof2.Record) -> bytes:
    """A record as one line of JSON: `payload` where it is UTF-8, else `payload_base64`."""
    fields: dict[str, Any] = {
        "offset": record.offset,
        "timestamp_ns": record.timestamp_ns,
        "ext_id": record.ext_id,
    }
    try:
        fields["payload"] = record.payload.decode()
    except UnicodeDecodeError:
        fields["payload_base64"] = base64.b64encode(record.payload).decode()
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as aligned lines; the columns in `right` hold numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """Write a table; long cells wrap in a terminal, and stay in one line elsewhere.

    Args:
        right: Columns that hold numbers.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="")
    for at, name in enumerate(head):
        table.add_column(name, justify="right" if at in right else "left", overflow="fold")
    for row in rows:
        # Text, because keys and messages may look like markup.
        table.add_row(*map(Text, row))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDE, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def bytes_text(count: int) -> str:
    """A number of bytes for people: `1.5 MiB`."""
    if count < 1024:
        return f"{count} B"
    value, units = float(count), ("KiB", "MiB", "GiB", "TiB")
    for unit in units:
        value /= 1024
        if value < 1024 or unit == units[-1]:
            break
    return f"{value:.1f} {unit}"


def tiers_text(residency: frozenset[aof2.Tier]) -> str:
    """The tiers of a segment in three letters, `H`ot, `W`arm and `C`old, with `-` for none."""
    return "".join(tier.name[0] if tier in residency else "-" for tier in aof2.Tier)
