"""A module imports only from rows above its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tidy_tree import PACKAGE, fail_with, files_with, module_name, shown, text_of, tree_of

ROWS: tuple[tuple[str, ...], ...] = (
    ("aof2.types", "aof2.errors"),
    ("aof2._core",),
    ("aof2.config_values", "aof2.config", "aof2.clock", "aof2.objectstore"),
    (
        "aof2.sealedjson",
        "aof2.streamdir",
        "aof2.manifest",
        "aof2.leases",
        "aof2.seals",
        "aof2.loopwaiters",
        "aof2.signals",
        "aof2.waiting",
        "aof2.pool",
        "aof2.fetching",
        "aof2.framecache",
        "aof2.admission",
        "aof2.durability",
        "aof2.meters",
        "aof2.metrics",
    ),
    ("aof2.tiers",),
    ("aof2.coordinator",),
    (
        "aof2.root",
        "aof2.creating",
        "aof2.repairs",
        "aof2.verifying",
        "aof2.batch",
        "aof2.places",
        "aof2.readahead",
        "aof2.damage",
        "aof2.walking",
        "aof2.copies",
        "aof2.recovery",
        "aof2.writer",
        "aof2.reader",
        "aof2.attach",
        "aof2.closing",
        "aof2.outside",
        "aof2.explain",
    ),
    (
        "aof2.handle",
        "aof2.flushing",
        "aof2.trimming",
        "aof2.appending",
        "aof2.stream",
        "aof2.observing",
        "aof2.draining",
        "aof2.leftover",
        "aof2.manager",
        "aof2.opening",
        "aof2.salvaging",
        "aof2.archive",
    ),
    (
        "aof2.testing",
        "aof2.torture",
        "aof2.cli",
        "aof2.arrow",
        "aof2.ray",
        "aof2.dask",
        "aof2.prometheus",
    ),
)
"""Lowest first. A name stands for itself and everything below it. Within a row, a name may import
those to its left; within a package, anything."""

TOP = "aof2"
"""The package itself: it imports everything, and only the last row may import it."""

CIMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[.\w]+)[ \t]+)?c?import[ \t]+"
    r"(?P<names>\([^)]*\)|[\w., *\t]+)",
    re.M,
)


def place_of(module: str) -> tuple[int, int]:
    """Row and column of a module; the package itself comes after all."""
    if module == TOP:
        return len(ROWS), 0
    for row, names in enumerate(ROWS):
        for column, name in enumerate(names):
            if module == name or module.startswith(name + "."):
                return row, column
    raise LookupError(f"{module} has no row")


def unit_of(module: str) -> str:
    """The entry of the table that a module belongs to."""
    row, column = place_of(module)
    return TOP if row == len(ROWS) else ROWS[row][column]


def allowed(importer: str, imported: str) -> bool:
    """Whether the table lets one module import the other."""
    if unit_of(importer) == unit_of(imported) or importer == TOP:
        return True
    if imported == TOP:
        return place_of(importer)[0] == len(ROWS) - 1
    return place_of(imported) < place_of(importer)


def known_modules() -> set[str]:
    names = {module_name(path) for path in files_with(".py", ".pyx", ".pxd", under=PACKAGE)}
    return names | {".".join(n.split(".")[:k]) for n in names for k in range(1, n.count(".") + 1)}


def resolve(base: str, names: list[str], known: set[str]) -> list[str]:
    """The modules that `from base import names` reads: a name may itself be a module."""
    joined = [f"{base}.{name}" for name in names]
    found = [name for name in joined if name in known]
    return found if len(found) == len(names) else [*found, base]


def python_imports(path: Path, known: set[str]) -> list[tuple[int, str]]:
    """`(line, module)` of each of our modules that a Python file imports, wherever it does."""
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            names = [alias.name for alias in node.names]
            found += [(node.lineno, name) for name in resolve(base, names, known)]
    return [(line, name) for line, name in found if name.split(".")[0] == TOP]


def cython_imports(path: Path, known: set[str]) -> list[tuple[int, str]]:
    """The same for a `.pyx` or `.pxd`, read line by line."""
    text, found = text_of(path), []
    for match in CIMPORT.finditer(text):
        line = text.count("\n", 0, match.start("names")) + 1
        names = re.findall(r"[\w.]+", match["names"])
        base = match["base"]
        if base and base.startswith("."):
            base = f"aof2._core.{base.lstrip('.')}".rstrip(".")
        modules = resolve(base, names, known) if base else names
        found += [(line, name) for name in modules if name.split(".")[0] == TOP]
    return found


def test_every_module_has_a_row_and_imports_only_from_rows_above():
    """Goal: the layers hold. Method: compare every import and cimport with the table of rows."""
    known, problems, seen = known_modules(), [], 0
    for path in files_with(".py", ".pyx", ".pxd", under=PACKAGE):
        read = python_imports if path.suffix == ".py" else cython_imports
        importer = module_name(path)
        for line, imported in read(path, known):
            seen += 1
            try:
                fine = allowed(importer, imported)
            except LookupError as error:
                problems.append(f"{shown(path)}:{line}: {error}")
                continue
            if not fine:
                problems.append(f"{shown(path)}:{line}: {importer} may not import {imported}")
    fail_with("imports against the layers", problems)
    assert seen >= 60, "too few imports were found: are they still read?"


def test_the_rule_refuses_what_it_should():
    """Goal: the table is not blind. Method: ask it about known right and wrong imports."""
    assert allowed("aof2.tiers.hot", "aof2.manifest.index")
    assert allowed("aof2.manager", "aof2.stream")
    assert allowed("aof2.cli.main", "aof2")
    assert not allowed("aof2.stream", "aof2.manager")
    assert not allowed("aof2._core.frame", "aof2.config")
    assert not allowed("aof2.manifest.log", "aof2.tiers.hot")
    assert not allowed("aof2.reader", "aof2")
