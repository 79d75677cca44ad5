"""The README and `docs/` are true: their examples run, and their sizes are the code's."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tidy_tree import PACKAGE, ROOT, fail_with, files_with, shown, text_of, tree_of

from aof2._core import layout

README = ROOT / "README.md"
FORMAT = ROOT / "docs" / "format.md"
PAGES = [path for path in files_with(".md") if path == README or path.parent == ROOT / "docs"]
NOT_RUN = re.compile(r"<!--\s*not-run:\s*(?P<reason>\S.*?)\s*-->")
NOT_RUN_MAX = 6
SIZE_ROW = re.compile(r"^\|\s*`?(?P<name>\w+)`?\s*\|\s*(?P<bytes>[\d,]+)\s*\|", re.M)


@dataclass(frozen=True)
class Fence:
    """One ```python block: where it begins, its text, and why it is not run, if so."""

    line: int
    code: str
    not_run: str = ""


def fences(text: str) -> list[Fence]:
    """The Python blocks of a page, in order."""
    found: list[Fence] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if re.match(r"^```python\b", lines[at]):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].startswith("```"))
            before = next((line for line in reversed(lines[:at]) if line.strip()), "")
            reason = NOT_RUN.search(before)
            code = "\n".join(lines[at + 1 : end])
            found.append(Fence(at + 1, code, reason["reason"] if reason else ""))
            at = end
        at += 1
    return found


def run_page(path: Path) -> int:
    """Run a page's blocks one after the other in one namespace, as a reader would paste them."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    count = 0
    for fence in fences(text_of(path)):
        if fence.not_run:
            print(f"{shown(path)}:{fence.line}: not run: {fence.not_run}")
            continue
        # Empty lines in front make a traceback name the line of the page.
        source = "\n" * fence.line + fence.code
        code = compile(source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, namespace))
        else:
            exec(code, namespace)
        count += 1
    return count


@pytest.mark.parametrize("path", [pytest.param(path, id=shown(path)) for path in PAGES])
def test_the_examples_of_a_page_run(path, tmp_path, monkeypatch):
    """Goal: what a newcomer pastes works. Method: run each block in an empty directory."""
    monkeypatch.chdir(tmp_path)
    run_page(path)


def test_there_are_pages_and_examples_to_run():
    """Goal: the test above is not vacuous. Method: count pages, blocks and excuses."""
    blocks = {shown(path): fences(text_of(path)) for path in PAGES}
    names = {"README.md", "docs/architecture.md", "docs/format.md", "docs/reading.md"}
    assert names <= set(blocks)
    total = sum(len(found) for found in blocks.values())
    excused = [f"{name}:{f.line}" for name, found in blocks.items() for f in found if f.not_run]
    print(f"{total} blocks, {len(excused)} of them not run", *excused)
    assert total >= 8
    assert len(excused) <= NOT_RUN_MAX


def test_the_readme_shows_a_running_example_early():
    """Goal: a newcomer sees it without scrolling. Method: the first block ends before line 25."""
    first = fences(text_of(README))[0]
    assert not first.not_run
    assert first.line + len(first.code.splitlines()) + 1 < 25
    assert "ci/demo" in text_of(README)
    assert "ci/test" in text_of(README)


def test_the_sizes_of_the_format_page_are_those_of_the_code():
    """Goal: the normative text cannot drift. Method: compare its table with the structs."""
    told = {m["name"]: int(m["bytes"].replace(",", "")) for m in SIZE_ROW.finditer(text_of(FORMAT))}
    sizes = layout.sizes()
    assert len(sizes) >= 8
    assert {name: told.get(name) for name in sizes} == sizes


def test_links_between_pages_lead_somewhere():
    """Goal: no dead end. Method: resolve every relative link of every page."""
    problems = []
    for path in files_with(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path)):
            if "://" not in target and not (path.parent / target).exists():
                problems.append(f"{shown(path)}: {target}")
    fail_with("links that lead nowhere", problems)


def test_an_excuse_and_a_block_are_told_apart():
    """Goal: the reader of pages is not blind. Method: read a made-up page."""
    page = "# T\n\n```python\na = 1\n```\n\n<!-- not-run: needs a bucket -->\n```python\nb\n```\n"
    assert fences(page) == [Fence(3, "a = 1"), Fence(8, "b", "needs a bucket")]


def test_the_examples_in_docstrings_are_python():
    """Goal: no example that cannot be typed. Method: parse the `>>>` lines of each docstring."""
    problems, seen = [], 0
    for path in files_with(".py", under=PACKAGE):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node) or ""
                block = re.findall(r"^\s*(?:>>>|\.\.\.) ?(.*)$", doc, re.M)
                seen += len(block)
                try:
                    compile("\n".join(block), "doc", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                except SyntaxError as error:
                    problems.append(f"{shown(path)}: {getattr(node, 'name', 'module')}: {error}")
    print(f"{seen} lines of examples in docstrings")
    fail_with("examples that are no Python", problems)
