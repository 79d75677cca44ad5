"""Runs rows: for a time or in full, on from where an earlier run ended."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aof2.clock import Clock
from aof2.torture.pool import PROCESSES, run_forked
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

SHARE_MIN = 0.25
"""Each row gets at least so much of an equal share of the time."""
SLICE_S = 5.0
"""What was reached is written down about so often."""
VIOLATIONS_MAX = 100
"""A row that has found so many ends."""


@dataclass
class Reached:
    """How far a row has come.

    Attributes:
        next_case: Every case below it has run.
        tally: What these came to.
        seconds: How long they took.
        full: What would be a full run.
        skipped: Why the row cannot run here; empty where it can.
    """

    full: int
    next_case: int = 0
    tally: Tally = field(default_factory=lambda: Tally(units=0))
    seconds: float = 0.0
    skipped: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the file of a run holds it."""
        return {
            "full": self.full,
            "next_case": self.next_case,
            "seconds": round(self.seconds, 1),
            "skipped": self.skipped,
            **self.tally.as_json(),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Reached:
        """The other way round."""
        reached = cls(told["full"], told["next_case"], Tally(units=0), told["seconds"])
        reached.tally.add(told)
        return reached


class Campaign:
    """A run over some rows.

    Args:
        rows: In this order.
        seed: Decides what every case does.
        resume: File that what was reached is written to, and read from if it is there.
        tell: Called with a line for people now and then.

    Attributes:
        reached: By the rows' names.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        seed: int,
        *,
        resume: Path | None = None,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.rows = tuple(rows)
        self.seed = seed
        self.reached = {row.name: Reached(row.full) for row in rows}
        self._resume = resume
        self._tell = tell
        self._exit_code: int | None = None
        self._clock = Clock()
        if resume is not None and resume.exists():
            self._load(json.loads(resume.read_text()))

    def _load(self, told: dict[str, Any]) -> None:
        # Cases of another seed would not be those that are missing.
        self.seed = told["seed"]
        for name, reached in told["rows"].items():
            if name in self.reached:
                self.reached[name] = Reached.from_json(reached)

    def _save(self) -> None:
        if self._resume is None:
            return
        rows = {name: reached.as_json() for name, reached in self.reached.items()}
        if self._resume.exists():
            rows = {**json.loads(self._resume.read_text())["rows"], **rows}
        aside = self._resume.with_name(f"{self._resume.name}.new")
        aside.write_text(json.dumps({"seed": self.seed, "rows": rows}, indent=1))
        aside.replace(self._resume)

    @property
    def violations(self) -> int:
        """How many were found."""
        return sum(len(reached.tally.violations) for reached in self.reached.values())

    def run(self, minutes: float | None = None) -> None:
        """Run every row until its full count, or for its share of so many minutes."""
        began_s = self._clock.monotonic_s()
        for at, row in enumerate(self.rows):
            deadline_s = None
            if minutes is not None:
                # What a row leaves of its share is for those that come after it.
                now_s = self._clock.monotonic_s()
                left_s = began_s + 60 * minutes - now_s
                deadline_s = now_s + left_s * share(self.rows, at)
            self._run_row(row, deadline_s)
            self._save()

    def end(self, exit_code: int) -> None:
        """Have the run raise `SystemExit` soon; for a signal's handler.

        What a handler itself raises is lost where it comes in the middle of a fork.
        """
        self._exit_code = exit_code

    def run_case(self, name: str, case: int) -> Tally:
        """Run one case again."""
        row = next(row for row in self.rows if row.name == name)
        with workplace() as work:
            cases = row.begin(Setting(self.seed, work))
            return self._cases(row, cases, range(case, case + 1))[0]

    def _run_row(self, row: Row, deadline_s: float | None) -> None:
        reached = self.reached[row.name]
        self._tell(f"{row.name}: {row.tries}")
        with workplace() as work:
            began_s = self._clock.monotonic_s()
            try:
                cases = row.begin(Setting(self.seed, work))
            except CannotRun as why:
                reached.skipped = str(why)
                self._tell(f"{row.name}: left out: {why}")
                return
            reached.full = cases.full or row.full
            count = row.batch * row.at_a_time
            while (
                reached.tally.units < reached.full
                and len(reached.tally.violations) < VIOLATIONS_MAX
            ):
                began_slice_s = self._clock.monotonic_s()
                tally, ran = self._cases(
                    row, cases, range(reached.next_case, reached.next_case + count), deadline_s
                )
                reached.next_case += ran
                reached.tally.add(tally.as_json())
                now_s = self._clock.monotonic_s()
                reached.seconds += now_s - began_s
                began_s = now_s
                self._save()
                if deadline_s is not None and now_s >= deadline_s:
                    break
                # Where many wait at a time, the last ones of a slice keep the others.
                took_s = (now_s - began_slice_s) / row.at_a_time
                count = next_slice(reached, ran, took_s)
        self._tell(
            f"{row.name}: {reached.tally.units:,} of {reached.full:,} {row.unit}, "
            f"{len(reached.tally.violations)} violations, {reached.seconds:,.0f} s"
        )

    def _cases(
        self,
        row: Row,
        cases: Cases,
        numbers: range,
        deadline_s: float | None = None,
    ) -> tuple[Tally, int]:
        """Run cases in forked children; what they came to, and how many ran without a gap."""

        def run(number: int) -> dict[str, Any]:
            # A fault is what a case is about; its warnings would fill the terminal.
            logging.disable(logging.CRITICAL)
            return cases.run(number).as_json()

        def is_late() -> bool:
            if self._exit_code is not None:
                raise SystemExit(self._exit_code)
            return deadline_s is not None and self._clock.monotonic_s() >= deadline_s

        results: dict[int, dict[str, Any]] = {}
        processes = 1 if row.alone else PROCESSES * row.at_a_time
        for ended in run_forked(
            run,
            numbers,
            processes=processes,
            case_timeout_s=row.case_timeout_s,
            batch=max(1, min(row.batch, len(numbers) // processes)),
            stop=is_late,
        ):
            told = ended.result or Tally(violations=[ended.problem]).as_json()
            for n, text in enumerate(told["violations"]):
                told["violations"][n] = f"case {ended.case}: {text}"
                self._tell(f"VIOLATION in {row.name}: {text}")
                self._tell(f"  replay: {self.replay(row.name, ended.case)}")
            results[ended.case] = told
        tally, ran = Tally(units=0), 0
        for number in numbers:
            # What came behind a gap runs again with the next slice, unless it found something.
            if ran == number - numbers.start and number in results:
                tally.add(results[number])
                ran += 1
            elif number in results:
                tally.violations += results[number]["violations"]
        return tally, ran

    def replay(self, name: str, case: int) -> str:
        """The command that runs a case again."""
        return f"aof2-admin torture --row {name} --seed {self.seed} --case {case}"


def share(rows: Sequence[Row], at: int) -> float:
    """Row `at`'s share of the time that it and the rows after it have: as much as it needs for a
    full run, but never too little to show anything."""
    total, least = sum(row.minutes for row in rows), SHARE_MIN / len(rows)
    weights = [max(row.minutes / total, least) for row in rows]
    return weights[at] / sum(weights[at:])


def next_slice(reached: Reached, ran: int, took_s: float) -> int:
    """How many cases to run before what was reached is written down again."""
    count = int(ran * SLICE_S / max(took_s, 0.05))
    # Rounded up, so that the last slice reaches the full count, and no case too many is run.
    missing = reached.full - reached.tally.units
    left = -(-missing * reached.next_case // max(1, reached.tally.units))
    return max(1, min(count, 10 * ran, left))


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory for the files of a run; in memory where there is one."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="aof2-torture-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
