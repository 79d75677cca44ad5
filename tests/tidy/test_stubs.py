"""The core's modules have contents pages and stubs, and the checkers are content."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tidy_tree import CORE, ROOT, fail_with, files_with, shown, text_of

PYX = files_with(".pyx", under=CORE)
MODULES = [f"aof2._core.{path.stem}" for path in PYX]
STUBTEST_FLAGS = (
    "--mypy-config-file",
    "pyproject.toml",
    "--allowlist",
    "ci/stubtest.allow",
    "--ignore-unused-allowlist",
    "--ignore-disjoint-bases",
)
"""As in `ci/lint`."""

STATUS = re.compile(r"\b(noexcept|except)\b")
FUNCTION = re.compile(
    r"^\s*(?:cdef|cpdef)\s+(?!class\b|extern\b|enum\b|struct\b|packed\b|union\b)[^=(]*\("
)


def test_every_core_module_has_a_contents_page_and_a_stub():
    """Goal: readers and type checkers see each module. Method: look for the files of each."""
    assert len(PYX) >= 8
    fail_with(
        "missing",
        [
            shown(path.with_suffix(suffix))
            for path in PYX
            for suffix in (".pxd", ".pyi")
            if not path.with_suffix(suffix).exists()
        ],
    )


def test_every_core_module_was_built():
    """Goal: no test below runs against nothing. Method: look for each module's binary."""
    missing = [shown(p) for p in PYX if not list(p.parent.glob(f"{p.stem}.*.so"))]
    fail_with("not built", missing)


def test_every_cdef_function_says_how_it_fails():
    """Goal: no error is lost in C. Method: read the header of each function.

    It says `noexcept` or `except`. One that returns a Python object fails by returning none, and
    needs no word.
    """
    problems = []
    for path in files_with(".pyx", ".pxd", under=CORE):
        lines = text_of(path).splitlines()
        for at, line in enumerate(lines):
            if not FUNCTION.match(line) or line.rstrip().endswith("extern"):
                continue
            header, depth = "", 0
            for part in lines[at:]:
                code = part.split("#", 1)[0]
                header += code + " "
                depth += code.count("(") - code.count(")")
                if depth <= 0:
                    break
            returned = line[: line.index("(")].split()[1:]
            objects = {"object", "bytes", "str", "tuple", "list", "dict", "inline"}
            is_object = len(returned) < 2 or returned[-2] in objects or returned[-2][:1].isupper()
            if not STATUS.search(header) and not is_object:
                problems.append(f"{shown(path)}:{at + 1}: {line.strip()}")
    fail_with("neither noexcept nor except", problems)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("ruff", "check", "."), id="ruff"),
        pytest.param(("mypy",), id="mypy"),
        pytest.param(("mypy.stubtest", *STUBTEST_FLAGS, *MODULES), id="stubtest"),
    ],
)
def test_the_checkers_are_content(arguments):
    """Goal: style, types and stubs hold. Method: run the checker as `ci/lint` does."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
