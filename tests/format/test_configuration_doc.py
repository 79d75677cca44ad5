"""`docs/configuration.md` says of every field what the dataclasses do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import aof2

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1}
SECTIONS: dict[str, Any] = {
    name: getattr(aof2, name) for name in aof2.__all__ if name.endswith("Config")
}
REQUIRED = {"Tier2Config": {"url": "directory"}}


def number(text: str) -> float | None:
    """`64 KiB` is 65536, `0.05 s` is 0.05; None for what is no number."""
    match = re.fullmatch(r"([\d.]+)(?: (\w+))?", text)
    if not match or (match[2] and match[2] not in UNITS):
        return None
    return float(match[1]) * UNITS.get(match[2] or "s", 1)


def rows_of(name: str) -> list[list[str]]:
    """The cells of each row of a section's table: field, default, range, consequence."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\|.*\|$", text, re.M)
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert rows[0] == ["Field", "Default", "Range", "Consequence"]
    assert all(len(row) == 4 and all(row) for row in rows)
    return rows[2:]


def test_the_page_has_a_section_for_each_class():
    """Goal: no class is forgotten, none is left over. Method: compare headings and exports."""
    headings = re.findall(r"^## (\w+Config)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(headings) == sorted(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_fields_and_defaults_are_those_of_the_class(name):
    """Goal: no field is forgotten, no default is wrong. Method: compare with the dataclass."""
    fields = {f.name: f for f in dataclasses.fields(SECTIONS[name])}
    told = {row[0].strip("`"): row[1] for row in rows_of(name)}
    assert list(told) == list(fields)
    for field, text in told.items():
        default = fields[field].default
        if text == "see below":
            assert fields[field].default_factory is not dataclasses.MISSING
        elif text == "required":
            assert default is dataclasses.MISSING
        elif text in ("None", "True", "False"):
            assert repr(default) == text
        else:
            assert (text if number(text) is None else number(text)) == default


def bounds() -> list[tuple[str, str, list[float], list[float]]]:
    """`(class, field, values that are taken, values that are refused)` of each range in numbers."""
    found: list[tuple[str, str, list[float], list[float]]] = []
    for name in SECTIONS:
        for cells in rows_of(name):
            field, text = cells[0].strip("`"), cells[2]
            step = re.fullmatch(r"(.+) in steps of (.+)", text)
            low, _, high = (step[1] if step else text).partition(" to ")
            first, last = number(low), number(high)
            if first is not None and last is not None:
                by = (number(step[2]) if step else None) or 0
                refused = [first - max(first / 2, by), last + max(last / 2, by)]
                if by:
                    refused.append(first + by / 2)
                found.append((name, field, [first, last], refused))
            elif text.startswith("above "):
                found.append((name, field, [0.001], [float(text.removeprefix("above ")), -1]))
    return found


@pytest.mark.parametrize(("name", "field", "taken", "refused"), bounds())
def test_the_range_of_a_field_is_what_is_enforced(name, field, taken, refused):
    """Goal: who believes the page is right. Method: try both ends of the range, and beyond them."""
    others = REQUIRED.get(name, {})
    wanted = next(f for f in dataclasses.fields(SECTIONS[name]) if f.name == field)
    kind = int if str(wanted.type).startswith("int") else float
    for value in taken:
        SECTIONS[name](**others, **{field: kind(value)})
    for value in refused:
        with pytest.raises(aof2.ConfigError):
            SECTIONS[name](**others, **{field: kind(value)})


def test_the_budgets_are_checked_against_the_segments():
    """Goal: the two ranges that depend on another field hold. Method: one segment too few."""
    segment = aof2.SegmentConfig(segment_bytes_max=2**20)
    for tier0, tier1 in ((4 * 2**20 - 1, 2**30), (2**30, 2 * 2**20 - 1)):
        with pytest.raises(aof2.ConfigError):
            aof2.AofManagerConfig(
                segment=segment,
                tier0=aof2.Tier0Config(bytes_max=tier0),
                tier1=aof2.Tier1Config(bytes_max=tier1),
            )


def test_ranges_in_numbers_were_found():
    """Goal: the test of ranges is not vacuous. Method: count."""
    assert len(bounds()) >= 9


@pytest.mark.parametrize("text", ["soon", "-1"])
def test_a_wrong_wait_timeout_is_a_configuration_error(text):
    """Goal: one kind of error, wherever a value comes from. Method: a word, a negative number."""
    with pytest.raises(aof2.ConfigError):
        aof2.AofManagerConfig.from_env({"AOF2_WAIT_TIMEOUT_S": text})
    with pytest.raises(aof2.ConfigError):
        aof2.AofManagerConfig.from_mapping({"wait_timeout_s": text})
