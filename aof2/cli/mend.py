"""`aof2-admin repair`: mends a damaged stream: its manifest, or a copy of what is left of it."""

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
@click.option("--salvage", "into", metavar="NEW", help="Copy what can be read to the stream NEW.")
@common
def repair(
    root: str,
    stream: str,
    into: str | None,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Make STREAM's manifest again, from its segments, warm files and objects.

    Nobody may be writing to ROOT. The old manifest is kept below the stream's quarantine directory.
    A stream that has a tier 2 needs it here.

    With --salvage STREAM stays as it is, and every record of it that can still be read goes to a
    new stream; each gap is listed.
    """
    if not os.path.isdir(root):
        raise Failure("ROOT_NOT_FOUND", NOT_FOUND, f"there is no directory {root}")
    if into is not None:
        _salvage(root, stream, into, load_config(config_path, tier2), as_json)
        return
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


def _salvage(
    root: str, stream: str, into: str, config: aof2.AofManagerConfig | None, as_json: bool
) -> None:
    report = aof2.salvage(root, stream, into, config=config)
    if as_json:
        echo_json(dataclasses.asdict(report))
        return
    lost = sum(gap.next - gap.first for gap in report.gaps)
    click.echo(
        f"salvaged {stream} into {into}: {report.records} records, {len(report.gaps)} gaps of "
        f"{lost} records"
    )
    for gap in report.gaps:
        click.echo(f"  lost: offsets {gap.first} to {gap.next}: {gap.reason}")
    for old, new in report.moved[1:]:
        click.echo(f"  offset {old} is offset {new} in {into}")
    for note in report.notes:
        click.echo(f"  note: {note}")
    click.echo(f"  where {root} does not open for writing, move {report.kept} out of it")
