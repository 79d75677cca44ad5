"""What a row of the torture table reports."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Outcome:
    """The counts of one run of a row.

    Attributes:
        cases: How many cases ran.
        possible: How many there are.
        counts: What else the row counts, e.g. errors by type.
        violations: What must not be, each with its case; empty where all is well.
    """

    cases: int = 0
    possible: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, case: object, violations: list[str]) -> None:
        """Count a case, and what was wrong with it."""
        self.cases += 1
        self.violations += [f"{case}: {text}" for text in violations]


def chosen(every: list[T], seed: int, cases: int) -> list[T]:
    """So many of all cases, drawn by a seed; all of them, in their order, from their number on."""
    if cases >= len(every):
        return every
    return random.Random(seed).sample(every, cases)
