"""The main job on real input, shown as it happens: `python -m aof2.testing.demo [FILES...]`.

Lines of log files go in, segments roll over, are compressed, uploaded and evicted by themselves;
then the root is lost, a fresh one takes the stream over, and all comes back from tier 2 and is
compared with the input. The exit code is 0 only when it is equal.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aof2
from aof2.testing.demo_input import Input, find_input
from aof2.testing.demo_show import Figures, Show, mb

MIB = 1 << 20
STREAM = "demo"
CHUNK_RECORDS = 500
SEGMENTS_HOT = 4
SEGMENTS_WARM = 4
"""Budgets in segments: so small that nearly everything has to leave."""
SETTLE_TIMEOUT_S = 120.0


@dataclass
class Place:
    """Where the demo works: its root, its tier 2, and how many bytes the objects there take."""

    root: Path
    tier2: aof2.Tier2Config
    shown: str
    client: Any = None
    bucket: str = ""

    def cold_bytes(self) -> int:
        """Bytes of all segment objects in tier 2."""
        if self.client is None:
            files = Path(self.tier2.url).rglob("*.seg.zst")
            return sum(path.stat().st_size for path in files)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = (item for page in pages for item in page.get("Contents", ()))
        return sum(item["Size"] for item in found if item["Key"].endswith(".seg.zst"))


@contextmanager
def make_place(parent: str | None, *, s3: bool, keep: bool) -> Iterator[Place]:
    """A fresh directory, and an S3 server where one is asked for; gone at the end unless kept."""
    directory = Path(tempfile.mkdtemp(prefix="aof2-demo-", dir=parent))
    try:
        with ExitStack() as stack:
            if not s3:
                cold = directory / "tier2"
                cold.mkdir()
                config = aof2.Tier2Config(url=str(cold))
                yield Place(directory / "root", config, f"directory {cold}")
                return
            yield _start_s3(directory, stack)
    finally:
        if keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory)


def _start_s3(directory: Path, stack: ExitStack) -> Place:
    import boto3

    from aof2.testing.seaweedfs import SeaweedFS

    print("starting SeaweedFS ...", flush=True)
    server = stack.enter_context(SeaweedFS(bucket="aof2-demo"))
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    )
    stack.callback(client.close)
    config = aof2.Tier2Config(**server.tier2("logs"))  # type: ignore[arg-type]
    shown = f"SeaweedFS at {server.endpoint_url}, bucket {server.bucket}"
    return Place(directory / "root", config, shown, client, server.bucket)


def make_config(tier2: aof2.Tier2Config, line_bytes_max: int) -> aof2.AofManagerConfig:
    """Segments of 1 MiB, or larger where the longest line asks for it, and budgets of a few."""
    segment_bytes = MIB
    while segment_bytes < 2 * line_bytes_max + 65536:
        segment_bytes *= 2
    return aof2.AofManagerConfig(
        segment=aof2.SegmentConfig(segment_bytes_max=segment_bytes),
        tier0=aof2.Tier0Config(bytes_max=SEGMENTS_HOT * segment_bytes),
        tier1=aof2.Tier1Config(bytes_max=SEGMENTS_WARM * segment_bytes),
        tier2=tier2,
    )


def look(manager: aof2.AofManager, log: aof2.Aof, place: Place) -> Figures:
    """The figures of this moment."""
    segments = log.segments()
    hot, warm = manager.bytes_used
    marks = log.watermarks
    return Figures(
        hot_bytes=hot,
        warm_bytes=warm,
        cold_bytes=place.cold_bytes(),
        cold_raw_bytes=sum(s.bytes for s in segments if aof2.Tier.COLD in s.residency),
        segments=len(segments),
        tiers=tuple(sum(tier in s.residency for s in segments) for tier in aof2.Tier),
        appended=marks.appended,
        local=marks.local,
        remote=marks.remote,
    )


def ingest(place: Place, config: aof2.AofManagerConfig, source: Input) -> None:
    """Append everything, and wait until it is in tier 2."""
    with aof2.open(place.root, config=config) as manager:
        log = manager.stream(STREAM)
        records = source.records()
        peaks = [0, 0]
        with Show("append", source.count, lambda: look(manager, log, place)) as show:
            while chunk := list(itertools.islice(records, CHUNK_RECORDS)):
                log.extend(chunk)
                show.advance(len(chunk), sum(map(len, chunk)))
                peaks = [max(pair) for pair in zip(peaks, manager.bytes_used, strict=True)]
        show.finish(f"{mb(source.payload_bytes / show.seconds)}/s, segments rolled over meanwhile")
        with Show("drain", 0, lambda: look(manager, log, place)) as show:
            manager.drain("remote", timeout=SETTLE_TIMEOUT_S)
        figures = show.figures
        show.finish(
            f"{figures.tiers[2]} segments in tier 2: {mb(figures.cold_raw_bytes)} as "
            f"{mb(figures.cold_bytes)}, ratio {figures.ratio:.2f}"
        )
        print(
            f"at most {mb(peaks[0])} hot on disk, budget {mb(config.tier0.bytes_max)}; "
            f"{mb(peaks[1])} warm, budget {mb(config.tier1.bytes_max)}"
        )


def lose_root(root: Path) -> tuple[int, int]:
    """Take the whole root away, as if its machine were lost; `(files, bytes)` of it."""
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    root.rename(root.with_name("lost"))
    return len(sizes), sum(sizes)


def read_back(place: Place, config: aof2.AofManagerConfig, source: Input) -> bool:
    """Open a fresh root, read everything, and compare it with the input."""
    begin_s = time.monotonic()
    with aof2.open(place.root, config=config) as manager:
        log = manager.stream(STREAM)
        opened_s = time.monotonic() - begin_s
        residency = [s.residency for s in log.segments() if s.end_offset > s.base_offset]
        local = sum(held != {aof2.Tier.COLD} for held in residency)
        print(
            f"taken over in {opened_s:.2f} s: {log.recovery.records:,} records, "
            f"{len(residency) - local} segments only in tier 2, {local} with a local copy"
        )
        expected = source.records()
        done = done_bytes = 0
        with Show("read", source.count, lambda: look(manager, log, place)) as show:
            for batch in log.reader().batches():
                payloads = batch.to_pylist()
                if payloads != list(itertools.islice(expected, len(payloads))):
                    print(f"DIFFERENT somewhere in records {done:,} to {done + len(payloads):,}")
                    return False
                done += len(payloads)
                size = sum(map(len, payloads))
                done_bytes += size
                show.advance(len(payloads), size)
        show.finish(f"{mb(done_bytes / show.seconds)}/s from cold")
        if done != source.count or local:
            print(f"DIFFERENT: {done:,} records of {source.count:,}, {local} segments not cold")
            return False
        print(
            f"EQUAL: {done:,} records, {mb(done_bytes)} of payload, read back from tier 2 at "
            f"{mb(done_bytes / show.seconds)}/s, byte for byte what was appended"
        )
        return True


def run(arguments: argparse.Namespace) -> int:
    """The whole demo; the exit code."""
    begin_s = time.monotonic()
    # What the library has to say belongs to what is shown.
    logging.basicConfig(stream=sys.stdout, format="log: %(message)s", level=logging.WARNING)
    source = find_input(arguments.files, arguments.bytes)
    print(f"input: {source.description}")
    with make_place(arguments.dir, s3=arguments.s3, keep=arguments.keep) as place:
        config = make_config(place.tier2, source.line_bytes_max)
        print(
            f"root {place.root}; tier 2: {place.shown}; segments of "
            f"{mb(config.segment.segment_bytes_max)}, hot {mb(config.tier0.bytes_max)}, "
            f"warm {mb(config.tier1.bytes_max)}"
        )
        ingest(place, config, source)
        files, lost_bytes = lose_root(place.root)
        print(f"closed; the root is lost, all {files} files of it ({mb(lost_bytes)})")
        equal = read_back(place, config, source)
    print(f"done in {time.monotonic() - begin_s:.1f} s")
    return 0 if equal else 1


def size(text: str) -> int:
    """`64M`, `500K` or a plain number of bytes."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper())
    number = int(text[:-1]) * factor if factor else int(text)
    if number < 1:
        raise ValueError("a size is above 0")
    return number


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run the demo."""
    parser = argparse.ArgumentParser(prog="python -m aof2.testing.demo", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="text files, a record a line")
    parser.add_argument("--s3", action="store_true", help="a real S3 server, from its wheel")
    parser.add_argument("--dir", metavar="DIR", help="work below this directory")
    parser.add_argument("--keep", action="store_true", help="leave root and objects there")
    parser.add_argument(
        "--bytes", type=size, default="64M", help="repeat the input to this size (default: 64M)"
    )
    arguments = parser.parse_args(argv)
    try:
        return run(arguments)
    except (aof2.AofError, OSError, RuntimeError) as error:
        code = error.code if isinstance(error, aof2.AofError) else type(error).__name__
        print(f"error: {code}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
