"""What a row of the torture table is: many numbered cases of one kind, each drawn from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Tally:
    """What one case came to.

    Attributes:
        units: So much of the row's full count it was: states, kills, schedules.
        counts: What happened in it, by name, e.g. errors by type.
        violations: What must not be; empty where all is well.
    """

    units: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As the process of a case tells it to the run."""
        return {
            "units": self.units,
            "counts": dict(self.counts),
            "violations": self.violations,
        }

    def add(self, told: dict[str, Any]) -> None:
        """Add what `as_json` of another one gave."""
        self.units += told["units"]
        self.counts.update(told["counts"])
        self.violations += told["violations"]


class CannotRun(Exception):
    """This machine lacks what a row needs; the message says what."""


@dataclass(frozen=True)
class Setting:
    """Where cases run.

    Attributes:
        seed: Together with its number it decides all that a case does.
        work: A directory for its files, in memory where there is one; each case makes its own
            below, and removes it.
    """

    seed: int
    work: Path


@dataclass(frozen=True)
class Cases:
    """A row that is ready to run.

    Attributes:
        run: Runs a case by its number.
        full: How many units a full run is, where only the row itself can tell; else None.
    """

    run: Callable[[int], Tally]
    full: int | None = None


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: As the command line knows it.
        tries: What is tried, in a few words.
        unit: What is counted, in the plural.
        full: Of these, how many are a full run.
        minutes: How long that takes on two cores, roughly; it decides the row's share of the time.
        begin: Called once in the process that forks the cases, which must not get any thread: what
            all cases share is made here (in a forked child, where it takes a manager). Raises
            `CannotRun` where the row cannot.
        batch: So many cases share one process.
        case_timeout_s: After so long a case hangs.
        alone: Cases run one at a time.
        at_a_time: So many of them per processor; more than one where they mostly wait.
    """

    name: str
    tries: str
    unit: str
    full: int
    minutes: float
    begin: Callable[[Setting], Cases]
    batch: int = 20
    case_timeout_s: float = 120.0
    alone: bool = False
    at_a_time: int = 1
