"""`aof2-admin cat` and `tail`: the payloads of a stream on stdout."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from typing import IO, Any

import click

import aof2
from aof2.cli.options import PlaceType, common, open_readonly
from aof2.cli.output import record_json
from aof2.cli.progress import progress
from aof2.places import Place

PIECE_BYTES = 1 << 20


def is_regular_file(out: IO[Any]) -> bool:
    """Whether the output goes to a file, so that a terminal has room for a progress bar."""
    try:
        return stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def write_payloads(reader: aof2.AofReader, limit: int | None, out: IO[bytes]) -> None:
    """Write payloads, each with a line feed, up to `limit` records."""
    left = limit
    with progress("cat", None, wanted=is_regular_file(out)) as advance:
        while left is None or left > 0:
            batch = reader.read_batch(PIECE_BYTES, timeout=None)
            if batch is None:
                break
            payloads = batch.to_pylist()[:left]
            if left is not None:
                left -= len(payloads)
            payloads.append(b"")
            text = b"\n".join(payloads)
            out.write(text)
            # A follower's records are wanted now, and a closed pipe is noticed early.
            out.flush()
            advance(len(text))


def write_json(reader: aof2.AofReader, limit: int | None, out: IO[bytes], *, flush: bool) -> None:
    """Write records as lines of JSON, up to `limit`."""
    for record in itertools.islice(reader, limit):
        out.write(record_json(record))
        if flush:
            out.flush()
    out.flush()


@click.command()
@click.argument("root")
@click.argument("stream")
@click.option(
    "--start",
    type=PlaceType(),
    default="earliest",
    show_default=True,
    help="First record: an offset (negative: from the end), earliest, latest, or a time with zone.",
)
@click.option("--stop", type=PlaceType(), help="End, left out itself; default: the end as of now.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many records.")
@common
def cat(
    root: str,
    stream: str,
    start: Place,
    stop: Place | None,
    limit: int | None,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Write the payloads of STREAM to stdout, from whichever tier holds them.

    Each payload is written as it is, with a line feed behind it.
    """
    out = sys.stdout.buffer
    with open_readonly(root, config_path, tier2) as manager:
        log = manager.stream(stream, create=False)
        with log.reader(start, stop) as reader:
            if as_json:
                write_json(reader, limit, out, flush=False)
            else:
                write_payloads(reader, limit, out)


@click.command()
@click.argument("root")
@click.argument("stream")
@click.option(
    "-n",
    "--records",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Begin with the last so many records.",
)
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until interrupted.")
@common
def tail(
    root: str,
    stream: str,
    records: int,
    follow: bool,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Write the last records of STREAM to stdout, as `cat` does."""
    out = sys.stdout.buffer
    with open_readonly(root, config_path, tier2) as manager:
        log = manager.stream(stream, create=False)
        with log.reader(-records if records else "latest", follow=follow) as reader:
            if as_json:
                write_json(reader, None, out, flush=follow)
            else:
                write_payloads(reader, None, out)
