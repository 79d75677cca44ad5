"""What `aof2` exports is what is visible, documented, and there in all three forms."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import types
from typing import Any

import pytest
from tidy_tree import PACKAGE, fail_with, shown, tree_of

import aof2

HANDLES = ("Aof", "AofManager", "AofReader")

TRIOS = {
    "Aof": ("append", "append_many", "append_packed", "flush", "seal", "wait", "get", "trim"),
    "AofReader": ("read", "read_batch", "seek"),
    "AofManager": ("stream", "drain"),
}
"""Operations that can wait and have `x`, `x_nowait` and `x_async`."""

PAIRS = {
    "Aof": ("extend",),
    "AofManager": ("close",),
    "aof2": ("open",),
}
"""Operations for which not waiting has no meaning: `x` and `x_async`."""

ONLY_BLOCKING = frozenset({"timeout", "durable"})
"""Parameters that say how to wait; the form that never waits has none of them."""


def exported() -> dict[str, Any]:
    return {name: getattr(aof2, name) for name in aof2.__all__}


def owner(name: str) -> Any:
    return aof2 if name == "aof2" else getattr(aof2, name)


def members(cls: type) -> dict[str, Any]:
    """Public members that a class or one of our own bases of it defines."""
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "aof2"]
    return {k: v for base in reversed(ours) for k, v in vars(base).items() if k[0] != "_"}


def doc_of(value: Any) -> str:
    """The docstring that was written for this very object, or an empty string."""
    own = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    text = own or ""
    # A dataclass without a docstring gets its signature as one.
    generated = dataclasses.is_dataclass(value) and text.startswith(f"{value.__name__}(")
    return "" if generated else text


def shows_use(doc: str) -> bool:
    return any(mark in doc for mark in (">>>", "Example", "See ", "docs/"))


def test_all_is_what_is_visible():
    """Goal: nothing is exported by accident. Method: compare `__all__` with what `dir` shows."""
    visible = {
        name
        for name, value in vars(aof2).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name != "annotations"
    }
    assert set(aof2.__all__) - {"__version__"} == visible
    assert len(aof2.__all__) == len(set(aof2.__all__)) >= 40


def test_every_public_name_is_documented():
    """Goal: `help()` answers. Method: every export and public member has its own docstring."""
    problems = []
    for name, value in exported().items():
        if name.startswith("_"):
            continue
        if (inspect.isclass(value) or callable(value)) and not doc_of(value):
            problems.append(name)
        if inspect.isclass(value):
            problems += [
                f"{name}.{member}"
                for member, part in members(value).items()
                if (callable(part) or isinstance(part, property | classmethod | staticmethod))
                and not isinstance(part, enum.Enum)
                and not doc_of(part)
            ]
    fail_with("undocumented", problems)


def test_every_public_callable_shows_its_use():
    """Goal: a reader sees how to call it. Method: an example or a reference in the docstring.

    Errors, enumerations and plain values are read, not called.
    """
    problems = []
    for name, value in exported().items():
        plain = dataclasses.is_dataclass(value) or (
            inspect.isclass(value) and issubclass(value, BaseException | enum.Enum)
        )
        if callable(value) and not plain and not shows_use(doc_of(value)):
            problems.append(name)
    fail_with("no example and no reference", problems)


def test_every_field_of_the_configuration_says_its_consequence():
    """Goal: no field is only a type. Method: a text follows each field of each dataclass."""
    path, problems, fields = PACKAGE / "config.py", [], 0
    for node in tree_of(path).body:
        if not isinstance(node, ast.ClassDef) or not node.decorator_list:
            continue
        for at, statement in enumerate(node.body):
            if isinstance(statement, ast.AnnAssign):
                fields += 1
                after = node.body[at + 1] if at + 1 < len(node.body) else None
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not told:
                    problems.append(f"{shown(path)}:{statement.lineno}: {node.name}")
    fail_with("fields without a text", problems)
    assert fields >= 20, "too few fields were found: are the classes still dataclasses?"


def parameters(function: Any, without: frozenset[str] = frozenset()) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter but these."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found if p.name not in {*without, "self"}]


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in TRIOS.items() for name in names]
)
def test_a_waiting_operation_has_three_forms(place, name):
    """Goal: one signature to learn. Method: compare `x_nowait` and `x_async` with `x`."""
    blocking = getattr(owner(place), name)
    nowait = getattr(owner(place), f"{name}_nowait")
    coroutine = getattr(owner(place), f"{name}_async")
    assert inspect.iscoroutinefunction(coroutine)
    assert "timeout" in inspect.signature(blocking).parameters
    assert parameters(coroutine) == parameters(blocking)
    assert parameters(nowait) == parameters(blocking, ONLY_BLOCKING)


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in PAIRS.items() for name in names]
)
def test_an_operation_that_only_waits_has_two_forms(place, name):
    """Goal: nothing blocks an event loop for want of a twin. Method: compare `x_async` with `x`."""
    blocking, coroutine = getattr(owner(place), name), getattr(owner(place), f"{name}_async")
    assert inspect.iscoroutinefunction(coroutine)
    assert parameters(coroutine) == parameters(blocking)


def test_every_operation_that_waits_is_in_the_tables_above():
    """Goal: no waiting operation misses its twins. Method: look for `timeout` parameters."""
    listed = {(place, name) for table in (TRIOS, PAIRS) for place in table for name in table[place]}
    problems = []
    for place in HANDLES:
        for name, member in members(owner(place)).items():
            stem = name.removesuffix("_async").removesuffix("_nowait")
            if name.endswith("_nowait") and (place, stem) not in listed:
                problems.append(f"{place}.{name} has no row")
            if not callable(member) or (place, stem) in listed:
                continue
            try:
                waits = "timeout" in inspect.signature(member).parameters
            except ValueError:  # A builtin without a signature takes no keyword either.
                waits = False
            if waits:
                problems.append(f"{place}.{name} waits and has no row")
    fail_with("missing in the tables", problems)
