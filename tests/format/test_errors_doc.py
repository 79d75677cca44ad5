"""The page of errors and the classes of errors are the same, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import aof2.objectstore.base  # noqa: F401 (the other module that defines errors)
from aof2 import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| `(?P<code>\w+)` \|(?P<rest>.+)\|$", re.M)


SOURCE = Path(errors.__file__).parent


def tree(cls: type[errors.AofError]) -> Iterator[type[errors.AofError]]:
    """A class of errors and all below it that users can meet."""
    yield cls
    for below in cls.__subclasses__():
        package = below.__module__.split(".")[:2]
        if package[0] == "aof2" and package[1:] != ["torture"]:
            yield from tree(below)


def test_errors_are_defined_in_two_modules():
    """Goal: the tree that is compared is whole. Method: look for others in the source."""
    bases = "|".join(sorted({cls.__name__ for cls in tree(errors.AofError)}))
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "torture" not in path.parts
        and re.search(rf"^class \w+\((?:.*\b)?(?:{bases})\b", path.read_text(), re.M)
    }
    assert found == {"errors.py", "objectstore/base.py"}


def test_the_page_lists_every_class_with_code_cause_place_and_remedy():
    """Goal: an alert's code leads to a remedy. Method: compare the rows with the classes."""
    rows = {m["name"]: m for m in ROW.finditer(PAGE.read_text())}
    classes = {cls.__name__: cls for cls in tree(errors.AofError)}
    assert set(rows) == set(classes)
    for name, row in rows.items():
        assert row["code"] == classes[name].code
        cells = [cell.strip() for cell in row["rest"].split("|")]
        assert len(cells) == 3, name
        assert all(cells), name


def test_every_class_stands_below_those_of_its_kind():
    """Goal: the tree of the module's text is the tree. Method: each class is named in it, and its
    base before it."""
    text = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.AofError):
            assert name in text
            if value is not errors.AofError:
                base = value.__mro__[1].__name__
                assert text.index(base) < text.rindex(name), name
