"""Lines, functions and files stay short enough to be read on one screen."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tidy_tree import (
    CODE_SUFFIXES,
    ROOT,
    fail_with,
    files_with,
    project_files,
    shown,
    text_of,
    tree_of,
)

CODE_COLUMNS_MAX = 100
PROSE_COLUMNS_MAX = 120
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
LONG_FUNCTIONS_MAX = 6
"""So many scanning loops in the core may be longer, each with its reason."""

LONG_MARK = re.compile(r"# tidy: long\s+(?P<reason>\S.*)")
CYTHON_FUNCTION = re.compile(
    r"^(?P<indent>\s*)(?:async\s+def|def|cpdef|cdef)\s+[^=#]*?(?P<name>\w+)\("
)
CYTHON_OTHER = re.compile(r"^\s*cdef\s+(?:class|extern|enum|struct|packed|union|public|readonly)\b")


def code_files() -> list[Path]:
    places = (ROOT / "ci", ROOT / ".ci")
    scripts = [p for p in project_files() if p.parent in places and not p.suffix]
    return files_with(*CODE_SUFFIXES) + scripts


def test_no_line_is_longer_than_its_limit():
    """Goal: nothing is cut off or wrapped in a review.

    Method: count the characters of every line of code and prose. In prose, tables, links and badges
    are left out, because they cannot be wrapped.
    """
    problems = []
    for path, limit in [(p, CODE_COLUMNS_MAX) for p in code_files()] + [
        (p, PROSE_COLUMNS_MAX) for p in files_with(".md")
    ]:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if path.suffix == ".md" and (line.lstrip().startswith("|") or "](http" in line):
                continue
            if len(line) > limit:
                problems.append(f"{shown(path)}:{number}: {len(line)} columns, {limit} allowed")
    fail_with("lines too long", problems)


def test_no_file_is_longer_than_its_limit():
    """Goal: a file is one idea. Method: count the lines of every source file."""
    lengths = {path: len(text_of(path).splitlines()) for path in code_files()}
    problems = [
        f"{shown(path)}: {lines} lines, {FILE_LINES_MAX} allowed"
        for path, lines in lengths.items()
        if lines > FILE_LINES_MAX
    ]
    fail_with("files too long", problems)
    assert len(lengths) >= 60, "too few source files were found: is the list of files right?"


def test_no_python_function_is_longer_than_its_limit():
    """Goal: a function fits a screen. Method: take first and last line from the syntax tree."""
    problems = []
    for path in files_with(".py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    problems.append(f"{shown(path)}:{node.lineno}: {node.name}, {lines} lines")
    fail_with("functions too long", problems)


def cython_functions(text: str) -> list[tuple[str, int, int, str]]:
    """`(name, first line, lines, reason to be long)` of each function, judged by indentation."""
    lines = text.splitlines()
    found = []
    for at, line in enumerate(lines):
        match = CYTHON_FUNCTION.match(line)
        if not match or CYTHON_OTHER.match(line):
            continue
        header_end, depth = at, 0
        for header_end in range(at, len(lines)):
            code = lines[header_end].split("#", 1)[0]
            depth += code.count("(") - code.count(")")
            if depth <= 0:
                break
        if not lines[header_end].split("#", 1)[0].rstrip().endswith(":"):
            continue
        last = header_end
        for below in range(header_end + 1, len(lines)):
            body = lines[below]
            if not body.strip():
                continue
            if len(body) - len(body.lstrip()) <= len(match["indent"]):
                break
            last = below
        marks = (LONG_MARK.search(text) for text in lines[max(at - 1, 0) : header_end + 1])
        reason = next((mark["reason"] for mark in marks if mark), "")
        found.append((match["name"], at + 1, last - at + 1, reason))
    return found


def test_no_core_function_is_longer_than_its_limit():
    """Goal: as for Python; a loop that must stay in one piece says so and is counted.

    Method: measure by indentation; `# tidy: long <reason>` at the head excuses a function.
    """
    problems, excused, seen = [], [], 0
    for path in files_with(".pyx", ".pxd"):
        for name, line, lines, reason in cython_functions(text_of(path)):
            seen += 1
            if lines > FUNCTION_LINES_MAX and reason:
                excused.append(f"{shown(path)}:{line}: {name}, {lines} lines: {reason}")
            elif lines > FUNCTION_LINES_MAX:
                problems.append(f"{shown(path)}:{line}: {name}, {lines} lines")
            elif reason:
                problems.append(f"{shown(path)}:{line}: {name} is short, its mark can go")
    print(f"excused long functions: {len(excused)}", *excused, sep="\n  ")
    assert len(excused) <= LONG_FUNCTIONS_MAX, excused
    fail_with("functions too long", problems)
    assert seen >= 40, "too few functions were found: does the pattern still match?"


def test_no_c_function_is_longer_than_its_limit():
    """Goal: as for Python. Method: from a header at the margin that ends in `{`, to its `}`."""
    problems = []
    for path in files_with(".c", ".h"):
        opened = None
        for number, line in enumerate(text_of(path).splitlines(), 1):
            at_margin = re.match(r"[A-Za-z_{]", line)
            if opened is None and at_margin and line.rstrip().endswith("{") and "=" not in line:
                opened = number
            elif opened is not None and line.startswith("}"):
                if number - opened + 1 > FUNCTION_LINES_MAX and not line.startswith("};"):
                    problems.append(f"{shown(path)}:{opened}: {number - opened + 1} lines")
                opened = None
    fail_with("functions too long", problems)


def test_the_measure_of_core_functions_finds_a_long_one():
    """Goal: the heuristic above is not blind. Method: measure made-up functions of known length."""
    body = "".join(f"        x = {n}\n" for n in range(FUNCTION_LINES_MAX))
    text = (
        "cdef class A:\n"
        "    cdef int f(self, int a,\n           int b) noexcept nogil:\n" + body + "\n"
        "    # tidy: long one scanning loop\n"
        "    def g(self):\n" + body + "\n"
        "cdef inline void h() noexcept:\n    pass\n"
    )
    assert cython_functions(text) == [
        ("f", 2, FUNCTION_LINES_MAX + 2, ""),
        ("g", 6 + FUNCTION_LINES_MAX, FUNCTION_LINES_MAX + 1, "one scanning loop"),
        ("h", 8 + 2 * FUNCTION_LINES_MAX, 2, ""),
    ]
