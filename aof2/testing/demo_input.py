"""The demo's input: files given, or the machine's logs, or the text of Python's own library."""

from __future__ import annotations

import itertools
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LOGS = Path("/var/log")
SOURCE_BYTES_MAX = 64 << 20
"""More than this of the machine's own files is not needed."""
FILE_BYTES_MAX = 16 << 20
PROBE_BYTES = 65536


@dataclass(frozen=True)
class Input:
    """Lines, and how many records they become when they are repeated.

    Attributes:
        lines: The lines of the files, without their line feeds.
        count: Records in all, the lines being taken over and over.
        payload_bytes: Bytes of all records.
        line_bytes_max: Size of the longest line.
        description: What it is, for people.
    """

    lines: list[bytes]
    count: int
    payload_bytes: int
    line_bytes_max: int
    description: str

    def records(self) -> Iterator[bytes]:
        """All records, in order."""
        return itertools.islice(itertools.cycle(self.lines), self.count)


def find_input(files: list[str], total_bytes: int) -> Input:
    """The files given, else the machine's logs, else Python's library, repeated to a size.

    Raises:
        OSError: a given file cannot be read.
        RuntimeError: there is no text in any of them.
    """
    if files:
        chosen = [Path(name).read_bytes() for name in files]
        return repeat(chosen, total_bytes, f"{len(files)} given files")
    chosen = take_readable(sorted(LOGS.rglob("*")))
    if chosen:
        return repeat(chosen, total_bytes, f"{len(chosen)} files of {LOGS}")
    library = Path(sysconfig.get_path("stdlib"))
    chosen = take_readable(sorted(library.glob("*.py")))
    return repeat(chosen, total_bytes, f"{len(chosen)} files of {library}")


def take_readable(paths: Iterable[Path]) -> list[bytes]:
    """Contents of those files that can be read and are text, up to a limit."""
    chosen: list[bytes] = []
    left_bytes = SOURCE_BYTES_MAX
    for path in paths:
        if left_bytes <= 0:
            break
        text = read_text(path, min(left_bytes, FILE_BYTES_MAX))
        if text:
            chosen.append(text)
            left_bytes -= len(text)
    return chosen


def read_text(path: Path, limit_bytes: int) -> bytes:
    """A text file's beginning, in whole lines; nothing where it is no such file."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return b""
    try:
        with open(path, "rb") as file:
            text = file.read(limit_bytes)
    except FileNotFoundError:
        return b""  # The machine has just rotated it away.
    # Logs hold no zero bytes; what does is a database or compressed.
    if b"\0" in text[:PROBE_BYTES] or text.startswith(b"\x1f\x8b"):
        return b""
    return text if len(text) < limit_bytes else text[: text.rfind(b"\n") + 1]


def repeat(texts: list[bytes], total_bytes: int, what: str) -> Input:
    """Cut texts into lines and repeat them to a size, line feeds counted."""
    lines: list[bytes] = []
    for text in texts:
        lines += text.split(b"\n")
        if text.endswith(b"\n") or not text:
            lines.pop()
    round_bytes = sum(map(len, lines)) + len(lines)
    if round_bytes == len(lines):
        raise RuntimeError(f"there is no text in the {what}")
    rounds, left_bytes = divmod(total_bytes, round_bytes)
    count, payload_bytes = rounds * len(lines), rounds * (round_bytes - len(lines))
    for line in lines:
        if left_bytes <= 0:
            break
        left_bytes -= len(line) + 1
        payload_bytes += len(line)
        count += 1
    longest = max(map(len, lines))
    description = (
        f"{what}, {len(lines):,} lines, {round_bytes / 1e6:.1f} MB, the longest line {longest:,} "
        f"bytes; repeated to {count:,} records, {payload_bytes / 1e6:.1f} MB of payload"
    )
    return Input(lines, count, payload_bytes, longest, description)
