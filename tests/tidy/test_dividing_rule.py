"""The core knows bytes and decides nothing about tiers; Python decides and knows no bytes.

Also: time, chance and the file calls of the core come through one place each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tidy_tree import (
    CORE,
    PACKAGE,
    fail_with,
    files_with,
    library_modules,
    shown,
    text_of,
    tree_of,
)

TIER_WORDS = re.compile(
    r"(?<![a-z])(s3|buckets?|tiers?|evict\w*|upload\w*|polic(?:y|ies))(?![a-z])", re.I
)
"""Also as part of an identifier (`upload_key`, `tier0`), but not inside a word (`frontier`)."""

BYTE_MODULES = {"struct", "mmap", "zlib", "ctypes"}
BYTE_CALLS = {"os.pread", "os.preadv", "os.pwrite", "os.pwritev"}

CHANCE_AND_TIME_MODULES = {"time", "random", "secrets"}
CHANCE_AND_TIME_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "os.urandom",
    "uuid.uuid1",
    "uuid.uuid4",
}
CLOCK = PACKAGE / "clock.py"
TESTING = (PACKAGE / "testing", PACKAGE / "torture")
"""Test doubles and servers wait for other processes and make temporary names: the one exception."""

SEAM_CALLS = re.compile(
    r"(?<![\w.>])(clock_gettime|gettimeofday|nanosleep|usleep|getrandom|getentropy|rand|random"
    r"|pwrite|pwritev|pread|preadv|fdatasync|fsync|msync|mmap|munmap|madvise|ftruncate"
    r"|posix_fallocate|fallocate|rename|unlink|flock)\s*\("
)
SEAM_CIMPORTS = re.compile(r"^\s*from\s+(posix\.\w+|libc\.(?:stdio|time))\s+cimport", re.M)
SEAM_FILES = ("posix", "directory", "loglock.h")
"""Names that begin the seam's files. The lock's header only turns a pause into a deadline for the
system's condition variable, which takes no other clock."""

DEFINITION = re.compile(r"^\s*(?:def|cdef|cpdef)\b")


def is_testing(path: Path) -> bool:
    """Whether a file is one of those."""
    return any(path.is_relative_to(folder) for folder in TESTING)


def names_used(path: Path) -> Iterator[tuple[int, str]]:
    """`(line, dotted name)` of every import and every attribute chain in a Python file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def uses(path: Path, modules: set[str], calls: set[str]) -> list[str]:
    """Where a file imports one of the modules or names one of the calls."""
    found = {
        (line, name)
        for line, name in names_used(path)
        if name in calls or name in modules or name.partition(".")[0] in modules
    }
    return [f"{shown(path)}:{line}: {name}" for line, name in sorted(found)]


def core_files() -> list[Path]:
    return files_with(".pyx", ".pxd", ".pyi", ".c", ".h", under=CORE)


def test_the_core_speaks_of_no_tier_and_no_policy():
    """Goal: decisions stay in Python. Method: look for their words in every file of the core.

    The manifest's tables carry the names of record types, which are such words, and are left out.
    """
    files = [path for path in core_files() if not path.stem.startswith("manifest")]
    problems = [
        f"{shown(path)}:{number}: {match[0]!r}"
        for path in files
        for number, line in enumerate(text_of(path).splitlines(), 1)
        for match in TIER_WORDS.finditer(line)
    ]
    fail_with("words of policy in the core", problems)
    assert len(files) >= 24, "too few files of the core were found"


def test_python_outside_the_core_knows_no_bytes():
    """Goal: no byte layout outside the core. Method: look for the modules and calls for one."""
    files = [path for path in library_modules() if not is_testing(path)]
    fail_with(
        "byte work outside the core",
        [problem for path in files for problem in uses(path, BYTE_MODULES, BYTE_CALLS)],
    )
    assert len(files) >= 25, "too few modules of the library were found"


def test_time_and_chance_come_from_the_clock_only():
    """Goal: a test can own time and chance. Method: look for their modules and calls elsewhere."""
    files = [path for path in library_modules() if path != CLOCK and not is_testing(path)]
    fail_with(
        "time or chance outside clock.py",
        [
            problem
            for path in files
            for problem in uses(path, CHANCE_AND_TIME_MODULES, CHANCE_AND_TIME_CALLS)
        ],
    )
    assert CLOCK.exists()


def test_the_core_reaches_the_system_through_its_seam_only():
    """Goal: one place to inject faults and to replay crashes. Method: look for calls elsewhere.

    Only `SEAM_FILES` may make file calls, read clocks and draw random numbers.
    """
    problems = []
    files = [p for p in core_files() if not p.name.startswith(SEAM_FILES) and p.suffix != ".pyi"]
    for path in files:
        text = text_of(path)
        problems += [
            f"{shown(path)}:{text.count(chr(10), 0, match.start(1)) + 1}: cimport of {match[1]}"
            for match in SEAM_CIMPORTS.finditer(text)
        ]
        for number, line in enumerate(text.splitlines(), 1):
            code = line.split("#", 1)[0]
            if not DEFINITION.match(code):
                problems += [
                    f"{shown(path)}:{number}: {match[1]}()" for match in SEAM_CALLS.finditer(code)
                ]
    assert (CORE / "posix.pyx").exists()
    fail_with("system calls past the seam", problems)


def test_the_words_are_found_where_they_are():
    """Goal: the patterns are not blind. Method: try them on known text."""
    assert [m[0] for m in TIER_WORDS.finditer("the tier0, upload_key and evictable, on S3")] == [
        "tier",
        "upload_key",
        "evictable",
        "S3",
    ]
    assert not TIER_WORDS.search("frontier of a bucketless policed loadup")
    assert SEAM_CALLS.search("n = pwrite(fd, data)")
    assert not SEAM_CALLS.search("n = self.directory.pwrite(fd) + my_pwrite(1)")
