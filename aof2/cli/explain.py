"""`aof2-admin explain-block`: what an append would wait for."""

from __future__ import annotations

import dataclasses

import click

from aof2.cli.options import common, open_readonly
from aof2.cli.output import echo_json


@click.command("explain-block")
@click.argument("root")
@click.argument("stream")
@click.option("--bytes", "record_bytes", default=0, help="Size of the payload to append.")
@common
def explain_block(
    root: str,
    stream: str,
    record_bytes: int,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Say what an append to STREAM would wait for now, and what would free it.

    It is told from the files and from the budgets of this command's configuration, which should be
    that of the process that writes. What only that process knows is said to be unknown.
    """
    with open_readonly(root, config_path, tier2) as manager:
        # Every stream takes its share of the budgets.
        for name in manager.streams():
            manager.stream(name, create=False)
        found = manager.stream(stream, create=False).explain_block(record_bytes)
    if as_json:
        kind = None if found.kind is None else found.kind.value
        echo_json({"stream": stream, **dataclasses.asdict(found), "kind": kind})
        return
    click.echo(f"{stream}: {found.text}")
    if found.freed_by:
        click.echo(f"  freed by  {found.freed_by}")
    if not found.live:
        click.echo("  unknown   the queue and the landing ring of the writer")
    for name, value in found.facts.items():
        click.echo(f"  {name:<20}  {value}")
