"""One word per idea, units last, and nothing in the tree that only holds on one machine."""

from __future__ import annotations

import io
import os
import re
import tokenize
from pathlib import Path

from tidy_tree import PACKAGE, ROOT, fail_with, files_with, project_files, shown, text_of

WORD_TO_USE = {
    "archive": "compress or upload",
    "spill": "compress",
    "promote": "hydrate",
    "demote": "evict",
    "wal": "manifest",
    "journal": "manifest",
    "topic": "stream",
    "lsn": "offset",
    "throttle": "admission",
    "persist": "flush",
}
"""Words that the project says in another way; they may not be part of an identifier."""

PUBLISHED = {"archive", "open_archive", "AofArchive"}
"""Names of the public interface that contain such a word with another meaning."""

LIMIT_IN_FRONT = re.compile(r"^_?(?:max|min)_(?!timestamp)\w*(?:bytes|records|_s|_ns|_us|_ms)$")
"""`segment_bytes_max`, not `max_segment_bytes`; the largest of some time stamps is no limit."""
# Written in two halves, so that this file is not its own first finding.
MACHINE_PATHS = re.compile("|".join(["/" + "work/", r"\.\./" + "shared", "/" + "root/"]))
SCRIPTS = ("ci/test", "ci/demo", "ci/lint", "ci/wheels", "ci/bench", "ci/torture", ".ci/run")


def parts_of(name: str) -> list[str]:
    """`openArchive_now` is open, archive, now."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def identifiers(path: Path) -> list[tuple[int, str]]:
    """`(line, name)` of each identifier. Cython is close enough to Python to be cut into words."""
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text_of(path)).readline)
        return [(t.start[0], t.string) for t in tokens if t.type == tokenize.NAME]
    lines = (re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", line) for line in text_of(path).splitlines())
    word = re.compile(r"[A-Za-z_]\w*")
    return [(n, name) for n, line in enumerate(lines, 1) for name in word.findall(line)]


def test_identifiers_use_the_projects_words():
    """Goal: one word per idea. Method: cut every identifier of the library into its words."""
    seen, problems = 0, []
    for path in files_with(".py", ".pxd", under=PACKAGE):
        for line, name in identifiers(path):
            seen += 1
            problems += [
                f"{shown(path)}:{line}: {name}: say {WORD_TO_USE[part]}"
                for part in parts_of(name)
                if part in WORD_TO_USE and name not in PUBLISHED
            ]
    fail_with("other words for the same idea", problems)
    assert seen >= 5000


def test_units_come_last():
    """Goal: `bytes_max` beside `bytes`, in every list. Method: look for a leading max."""
    problems = {
        f"{shown(path)}:{line}: {name}"
        for path in files_with(".py", ".pyx", ".pxd", under=PACKAGE)
        for line, name in identifiers(path)
        if LIMIT_IN_FRONT.search(name)
    }
    fail_with("units in front", sorted(problems))


def test_no_file_names_a_path_of_one_machine():
    """Goal: the tree works anywhere. Method: look for such paths in every text file."""
    problems = []
    for path in project_files():
        try:
            text = text_of(path)
        except UnicodeDecodeError:
            continue  # Golden files are bytes.
        problems += [
            f"{shown(path)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if MACHINE_PATHS.search(line)
        ]
    fail_with("paths of one machine", problems)
    assert len(project_files()) >= 80


def test_the_licence_is_there_and_the_one_announced():
    """Goal: users know what they may do. Method: read both texts."""
    text = text_of(ROOT / "LICENSE")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert 'license = "Apache-2.0"' in text_of(ROOT / "pyproject.toml")


def test_the_developers_commands_can_be_run():
    """Goal: `ci/test` needs no `bash` in front. Method: look at head and mode of each script."""
    for name in SCRIPTS:
        path = ROOT / name
        assert os.access(path, os.X_OK), name
        assert text_of(path).startswith("#!/usr/bin/env bash\n"), name
        assert "set -euo pipefail" in text_of(path), name
    assert "exec ci/test" in text_of(ROOT / ".ci/run")


def test_words_are_found_inside_names():
    """Goal: the cutter is not blind. Method: cut known names."""
    assert parts_of("spillToDisk") == ["spill", "to", "disk"]
    assert parts_of("_WAL_bytes") == ["wal", "bytes"]
    assert "wal" not in parts_of("walk_segments")
    assert LIMIT_IN_FRONT.search("max_segment_bytes")
    assert not LIMIT_IN_FRONT.search("segment_bytes_max")
