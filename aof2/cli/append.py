"""`aof2-admin append`: the lines of files or of stdin become records."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, cast

import click

import aof2
from aof2.cli.options import common, load_config
from aof2.cli.output import bytes_text, echo_json
from aof2.cli.progress import progress
from aof2.clock import Clock

PIECE_BYTES = 256 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024
"""Where the configuration does not say otherwise: no record may be larger."""


@dataclass
class Tally:
    """What was appended so far."""

    records: int = 0
    payload_bytes: int = 0
    first_offset: int | None = None
    last_offset: int | None = None

    def add(self, lines: list[bytes], span: range) -> None:
        """Count lines that have become records."""
        self.records += len(lines)
        self.payload_bytes += sum(map(len, lines))
        if self.first_offset is None:
            self.first_offset = span[0]
        self.last_offset = span[-1]


def pieces(file: BinaryIO, line_bytes_max: int) -> Iterator[tuple[int, list[bytes]]]:
    """Cut a file into lines: `(bytes read, lines that ended in them)`, as soon as they are there.

    A line that grows beyond `line_bytes_max` is given out as it is, so that the log refuses it
    instead of this process collecting it for ever.
    """
    begun: list[bytes] = []
    begun_bytes = 0
    # A pipe gives what it has, so that records of a slow one are appended at once.
    read = file.read1 if hasattr(file, "read1") else file.read
    while data := read(PIECE_BYTES):
        lines = data.split(b"\n")
        begun.append(lines[0])
        begun_bytes += len(lines[0])
        if len(lines) > 1 or begun_bytes > line_bytes_max:
            lines[0] = b"".join(begun)
            begun = [lines.pop()] if len(lines) > 1 else []
            begun_bytes = sum(map(len, begun))
        else:
            lines = []
        yield len(data), lines
    if begun_bytes:
        yield 0, [b"".join(begun)]


def size_of(files: tuple[str, ...]) -> int | None:
    """Bytes in all files together; None where one is a pipe or the like."""
    if not files or any(not os.path.isfile(name) for name in files):
        return None
    return sum(os.path.getsize(name) for name in files)


def append_files(
    log: aof2.Aof, files: tuple[str, ...], line_bytes_max: int, durable: bool, tally: Tally
) -> None:
    """Append every line of the files, or of stdin where there are none."""
    with progress("append", size_of(files)) as advance:
        for name in files or ("-",):
            with ExitStack() as stack:
                file = cast(
                    BinaryIO,
                    sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb")),
                )
                for done_bytes, lines in pieces(file, line_bytes_max):
                    if lines:
                        tally.add(lines, log.extend(lines))
                        if durable:
                            log.flush()
                    advance(done_bytes)


def report(stream: str, tally: Tally, seconds: float, as_json: bool) -> None:
    """Say what was appended."""
    rate = tally.records / seconds if seconds > 0 else 0.0
    if as_json:
        echo_json(
            {
                "stream": stream,
                "records": tally.records,
                "bytes": tally.payload_bytes,
                "first_offset": tally.first_offset,
                "last_offset": tally.last_offset,
                "seconds": round(seconds, 6),
                "records_per_s": round(rate, 1),
            }
        )
    elif not tally.records:
        click.echo("appended 0 records")
    else:
        click.echo(
            f"appended {tally.records:,} records, {tally.payload_bytes:,} bytes, offsets "
            f"{tally.first_offset} to {tally.last_offset}, {rate:,.0f} records/s, "
            f"{bytes_text(round(tally.payload_bytes / seconds) if seconds > 0 else 0)}/s"
        )


@click.command()
@click.argument("root")
@click.argument("stream")
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)
)
@click.option(
    "--durable", is_flag=True, help="Have each piece of input on the disk before reading the next."
)
@common
def append(
    root: str,
    stream: str,
    files: tuple[str, ...],
    durable: bool,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Append the lines of FILES, or of stdin, to STREAM: a record a line.

    The line feed at the end of a line is cut, every other byte is kept. The stream is made when it
    does not exist. No other process may be writing to ROOT.
    """
    config = load_config(config_path, tier2)
    clock, tally = Clock(), Tally()
    begin_s = clock.monotonic_s()
    try:
        with aof2.open(root, config=config) as manager:
            begin_s = clock.monotonic_s()
            line_bytes_max = config.segment.record_bytes_max or LINE_BYTES_MAX
            append_files(manager.stream(stream), files, line_bytes_max, durable, tally)
            seconds = clock.monotonic_s() - begin_s
    except BaseException:
        if tally.records:
            print(
                f"note: {tally.records} records were appended before this, offsets "
                f"{tally.first_offset} to {tally.last_offset}",
                file=sys.stderr,
            )
        raise
    report(stream, tally, seconds, as_json)
