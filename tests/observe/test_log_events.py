"""The events of the log are those of the page, both ways."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from test_metrics import rows

import aof2

SOURCE = Path(aof2.__file__).parent


def events(tree: ast.AST) -> Iterator[str]:
    """The values of `event` in `extra=` of calls, and what `_fields` makes one of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event":
                    yield from texts(value)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "_fields"
            and len(node.args) > 1
        ):
            yield from texts(node.args[1])


def texts(node: ast.AST) -> Iterator[str]:
    """The string constants that an expression may be."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def test_the_page_lists_every_event():
    """Goal: who sets an alarm knows what for. Method: compare the page with the source."""
    coded = {
        event
        for path in SOURCE.rglob("*.py")
        if not {"testing", "torture"} & set(path.relative_to(SOURCE).parts)
        for event in events(ast.parse(path.read_text(encoding="utf-8")))
    }
    told = [name.strip(" `") for row in rows("Log events") for name in row[0].split(",")]
    assert sorted(told) == sorted(set(told))
    assert set(told) == coded
    assert all(row[1] and row[2] for row in rows("Log events"))
