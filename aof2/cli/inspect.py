"""`aof2-admin dump` and `info`: what is where, without reading records."""

from __future__ import annotations

import dataclasses
import os
import platform
from typing import Any

import click

import aof2
from aof2.cli.options import common, open_readonly
from aof2.cli.output import bytes_text, columns, echo_json, tiers_text
from aof2.streamdir import FORMAT_VERSION, stream_directory

SECRETS = ("access_key_id", "secret_access_key")
LOCAL_DIRECTORIES = (("hot", "segments"), ("warm", "warm"))


def segment_fields(stream: str, segment: aof2.SegmentInfo) -> dict[str, Any]:
    """A row of the residency map, as JSON has it."""
    return {
        "stream": stream,
        "segment_id": segment.segment_id,
        "base_offset": segment.base_offset,
        "end_offset": segment.end_offset,
        "bytes": segment.bytes,
        "sealed": segment.sealed,
        "tiers": [tier.name.lower() for tier in sorted(segment.residency)],
        "state": segment.state.value,
        "key": segment.key,
    }


def segment_cells(stream: str, segment: aof2.SegmentInfo) -> tuple[str, ...]:
    """A row of the residency map, as people read it."""
    return (
        stream,
        str(segment.segment_id),
        str(segment.base_offset),
        str(segment.end_offset),
        str(segment.bytes),
        tiers_text(segment.residency),
        segment.state.value,
        segment.key or "-",
    )


@click.command()
@click.argument("root")
@click.argument("stream", required=False)
@common
def dump(
    root: str, stream: str | None, as_json: bool, config_path: str | None, tier2: str | None
) -> None:
    """Show the residency map: every segment of STREAM, or of all streams, and where its copies are.

    Tiers are H (hot), W (warm) and C (cold). Bytes are those of the uncompressed segment.
    """
    with open_readonly(root, config_path, tier2) as manager:
        names = manager.streams() if stream is None else [stream]
        found = [
            (name, segment)
            for name in names
            for segment in manager.stream(name, create=False).segments()
        ]
    if as_json:
        echo_json([segment_fields(*row) for row in found])
        return
    head = ("STREAM", "SEGMENT", "BASE", "END", "BYTES", "TIERS", "STATE", "KEY")
    rows = [head, *(segment_cells(*row) for row in found)]
    for line in columns(rows, right=frozenset((1, 2, 3, 4))):
        click.echo(line)


def disk_bytes(root: str, stream: str) -> dict[str, int]:
    """Bytes that a stream's local copies take, by tier."""
    found = {}
    for tier, directory in LOCAL_DIRECTORIES:
        total = 0
        with os.scandir(os.path.join(root, stream_directory(stream), directory)) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    # The writing process dropped the file between the two looks.
                    continue
        found[tier] = total
    return found


def stream_facts(root: str, log: aof2.Aof) -> dict[str, Any]:
    """What there is to know about one stream."""
    segments = log.segments()
    marks = log.watermarks
    return {
        "name": log.name,
        "first_offset": log.first_offset,
        "next_offset": log.next_offset,
        "watermarks": dataclasses.asdict(marks),
        "segments": len(segments),
        "sealed": sum(segment.sealed for segment in segments),
        "bytes": sum(segment.bytes for segment in segments),
        "tiers": {
            tier.name.lower(): {
                "segments": sum(tier in segment.residency for segment in segments),
                "bytes": sum(s.bytes for s in segments if tier in s.residency),
            }
            for tier in aof2.Tier
        },
        "disk_bytes": disk_bytes(root, log.name),
    }


def config_fields(config: aof2.AofManagerConfig) -> dict[str, Any]:
    """The configuration in force, without what must stay secret."""
    fields = dataclasses.asdict(config)
    for secret in SECRETS:
        if fields["tier2"] is not None and fields["tier2"][secret] is not None:
            fields["tier2"][secret] = "***"
    return fields


def root_facts(manager: aof2.AofManager) -> dict[str, Any]:
    """What there is to know about a root."""
    return {
        "root": manager.root,
        "versions": {
            "aof2": aof2.__version__,
            "format": FORMAT_VERSION,
            "python": platform.python_version(),
        },
        "streams": [
            stream_facts(manager.root, manager.stream(name, create=False))
            for name in manager.streams()
        ],
        "config": config_fields(manager.config),
    }


def print_stream(facts: dict[str, Any]) -> None:
    """Show one stream."""
    marks, disk = facts["watermarks"], facts["disk_bytes"]
    click.echo(f"\nstream {facts['name']}")
    click.echo(
        f"  offsets     {facts['first_offset']} to {facts['next_offset']}, half-open; "
        f"{facts['next_offset'] - facts['first_offset']:,} records"
    )
    click.echo(
        f"  watermarks  appended {marks['appended']}, local {marks['local']}, "
        f"remote {marks['remote']}"
    )
    click.echo(
        f"  segments    {facts['segments']}, {facts['sealed']} of them sealed; "
        f"{bytes_text(facts['bytes'])} uncompressed"
    )
    for tier, held in facts["tiers"].items():
        on_disk = f", {bytes_text(disk[tier])} on disk" if tier in disk else ""
        click.echo(
            f"  {tier:<10}  {held['segments']} segments, {bytes_text(held['bytes'])} uncompressed"
            f"{on_disk}"
        )


def print_config(fields: dict[str, Any]) -> None:
    """Show the configuration, a line a field."""
    click.echo("\nconfiguration")
    for table, values in fields.items():
        if not isinstance(values, dict):
            click.echo(f"  {table} = {values}")
            continue
        for field, value in values.items():
            click.echo(f"  {table}.{field} = {value}")


@click.command()
@click.argument("root")
@common
def info(root: str, as_json: bool, config_path: str | None, tier2: str | None) -> None:
    """Show the streams of ROOT, their watermarks and bytes per tier, versions and configuration.

    The configuration is the one of this command, from --config or the AOF2_* variables: a root does
    not keep that of the process that writes to it.
    """
    with open_readonly(root, config_path, tier2) as manager:
        facts = root_facts(manager)
    if as_json:
        echo_json(facts)
        return
    versions = facts["versions"]
    click.echo(f"root {facts['root']}")
    click.echo(
        f"aof2 {versions['aof2']}, format {versions['format']}, Python {versions['python']}; "
        f"{len(facts['streams'])} streams"
    )
    for stream in facts["streams"]:
        print_stream(stream)
    print_config(facts["config"])
