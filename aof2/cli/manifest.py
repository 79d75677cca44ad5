"""`aof2-admin manifest`: looks into the log of tier moves of one stream."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import click

import aof2
from aof2.cli.failure import NOT_FOUND, Failure
from aof2.cli.options import common, load_config
from aof2.cli.output import echo_json, show_table

FAILED = 1


def open_inspector(
    root: str, stream: str, config_path: str | None, tier2: str | None
) -> aof2.ManifestInspector:
    """Open what a command looks into."""
    if not os.path.isdir(root):
        raise Failure("ROOT_NOT_FOUND", NOT_FOUND, f"there is no directory {root}")
    config = load_config(config_path, tier2)
    return aof2.ManifestInspector(root, stream, tier2=config.tier2)


def plain(name: str, value: Any) -> Any:
    """A value as JSON has it: checksums as 16 hex digits, tiers by name."""
    if isinstance(value, aof2.Tier):
        return value.name.lower()
    if isinstance(value, int) and name.endswith(("crc64", "salt")):
        return f"{value:016x}"
    return value


def chunk_fields(chunk: aof2.ChunkInfo) -> dict[str, Any]:
    """A chunk, as JSON has it."""
    fields = {name: plain(name, value) for name, value in dataclasses.asdict(chunk).items()}
    for name in ("previous", "end"):
        if fields[name] is not None:
            chunk_id, position, number, crc = fields[name]
            fields[name] = {
                "chunk_id": chunk_id,
                "position": position,
                "number": number,
                "chain_crc64": f"{crc:016x}",
            }
    return fields


def record_fields(record: aof2.InspectedRecord) -> dict[str, Any]:
    """A manifest record, as JSON has it."""
    fields = dataclasses.asdict(record)
    fields["fields"] = {name: plain(name, value) for name, value in record.fields.items()}
    return fields


def time_text(timestamp_ns: int | None) -> str:
    """A time stamp for people, in UTC."""
    if timestamp_ns is None:
        return "-"
    when = datetime.fromtimestamp(timestamp_ns // 1_000_000_000, timezone.utc)
    return f"{when:%Y-%m-%d %H:%M:%S}.{timestamp_ns % 1_000_000_000 // 1000:06d}"


def chunk_cells(chunk: aof2.ChunkInfo) -> tuple[str, ...]:
    """A chunk, as people read it."""
    return (
        str(chunk.chunk_id),
        chunk.state,
        "good" if chunk.crc_good else "bad",
        "-" if chunk.epoch is None else str(chunk.epoch),
        "-" if chunk.first_record is None else str(chunk.first_record),
        str(chunk.records),
        str(chunk.bytes),
        "-" if not chunk.previous or not chunk.previous[0] else str(chunk.previous[0]),
        time_text(chunk.first_timestamp_ns),
        time_text(chunk.last_timestamp_ns),
    )


CHUNK_HEAD = (
    *("CHUNK", "STATE", "CRC", "EPOCH", "FIRST"),
    *("RECORDS", "BYTES", "AFTER", "BEGAN", "LAST"),
)
RECORD_HEAD = ["RECORD", "CHUNK", "POSITION", "TIME", "TYPE", "SEGMENT", "OFFSET", "FIELDS"]


def record_cells(record: aof2.InspectedRecord) -> tuple[str, ...]:
    """A manifest record, as people read it."""
    fields = ((name, plain(name, value)) for name, value in record.fields.items())
    return (
        str(record.number),
        str(record.chunk_id),
        str(record.position),
        time_text(record.timestamp_ns),
        record.type,
        str(record.segment_id),
        str(record.offset),
        record.problem or ", ".join(f"{name} {value}" for name, value in fields),
    )


@click.group()
def manifest() -> None:
    """Look into the manifest of a stream: the log of every tier move.

    These commands work beside a process that writes, take no lock and change nothing. Damage is
    shown, and what is readable behind it, too.
    """


@manifest.command()
@click.argument("root")
@click.argument("stream")
@click.option("--segment", type=click.IntRange(min=0), help="Show the records of this segment.")
@common
def inspect(
    root: str,
    stream: str,
    segment: int | None,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Show the chunks of STREAM's manifest and how many records of each type they hold.

    With --segment: the life of one segment, record by record.
    """
    with open_inspector(root, stream, config_path, tier2) as inspector:
        if segment is None:
            chunks, snapshots = inspector.chunks(), inspector.snapshots()
            types = Counter(record.type for record in inspector.records())
            keys = inspector.keys()
        else:
            records = list(inspector.records(segment=segment))
    if segment is not None:
        if as_json:
            echo_json([record_fields(record) for record in records])
        else:
            show_table(RECORD_HEAD, map(record_cells, records), right=(0, 1, 2, 5, 6))
    elif as_json:
        echo_json(
            {
                "stream": stream,
                "chunks": [chunk_fields(chunk) for chunk in chunks],
                "snapshots": [dataclasses.asdict(snapshot) for snapshot in snapshots],
                "types": dict(sorted(types.items())),
                "keys": keys,
            }
        )
    else:
        show_table(CHUNK_HEAD, map(chunk_cells, chunks), right=(0, 3, 4, 5, 6, 7))
        _show_snapshots(snapshots)
        click.echo(f"\n{sum(types.values())} records, {len(keys)} object keys")
        for name, count in sorted(types.items()):
            click.echo(f"  {count:>9}  {name}")


def _show_snapshots(snapshots: Sequence[aof2.SnapshotInfo]) -> None:
    if snapshots:
        click.echo()
        rows = (
            (
                str(s.number),
                "good" if s.problem is None else "bad",
                "-" if s.covers_chunk is None else str(s.covers_chunk),
                "-" if s.records is None else str(s.records),
                str(s.bytes),
                time_text(s.created_ns),
            )
            for s in snapshots
        )
        head = ["SNAPSHOT", "STATE", "COVERS", "RECORDS", "BYTES", "CREATED"]
        show_table(head, rows, right=(0, 2, 3, 4))


@manifest.command()
@click.argument("root")
@click.argument("stream")
@click.option("--parity", is_flag=True, help="Compare the JSON copy of the index with the log.")
@common
def check(
    root: str,
    stream: str,
    parity: bool,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Check STREAM's manifest against itself, the files beside it and, with a tier 2, the bucket.

    Exit code 1 when there is an error; warnings alone are none.
    """
    with open_inspector(root, stream, config_path, tier2) as inspector:
        findings = inspector.check(parity=parity)
    errors = sum(finding.severity == "error" for finding in findings)
    counts = {"errors": errors, "warnings": len(findings) - errors}
    if as_json:
        echo_json({**counts, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        if findings:
            rows = ((f.severity, f.place, f.text) for f in findings)
            show_table(("SEVERITY", "PLACE", "FINDING"), rows)
        click.echo(f"{counts['errors']} errors, {counts['warnings']} warnings")
    if errors:
        sys.exit(FAILED)


@manifest.command()
@click.argument("root")
@click.argument("stream")
@common
def export(
    root: str, stream: str, as_json: bool, config_path: str | None, tier2: str | None
) -> None:
    """Write every record of STREAM's manifest to stdout, a line of JSON each, with or without
    --json."""
    with open_inspector(root, stream, config_path, tier2) as inspector:
        for line in _lines(inspector.records()):
            click.echo(line)


def _lines(records: Iterable[aof2.InspectedRecord]) -> Iterable[str]:
    for record in records:
        yield json.dumps(record_fields(record), ensure_ascii=False)
