"""`aof2-admin repair`: makes a damaged manifest again."""

from __future__ import annotations

import dataclasses
import os

import click

import aof2
from aof2.cli.failure import NOT_FOUND, Failure
from aof2.cli.options import common, load_config
from aof2.cli.output import echo_json


@click.command()
@click.argument("root")
@click.argument("stream")
@common
def repair(
    root: str, stream: str, as_json: bool, config_path: str | None, tier2: str | None
) -> None:
    """Make STREAM's manifest again, from its segments, warm files and objects.

    Nobody may be writing to ROOT. The old manifest is kept below the stream's quarantine directory.
    A stream that has a tier 2 needs it here.
    """
    if not os.path.isdir(root):
        raise Failure("ROOT_NOT_FOUND", NOT_FOUND, f"there is no directory {root}")
    report = aof2.repair(root, stream, config=load_config(config_path, tier2))
    if as_json:
        echo_json(dataclasses.asdict(report))
        return
    click.echo(
        f"repaired {stream}: {report.segments} segments, offsets {report.first_offset} to "
        f"{report.sealed_offset}, half-open"
    )
    for name in report.kept:
        click.echo(f"  kept in quarantine: {name}")
    for note in report.notes:
        click.echo(f"  note: {note}")
