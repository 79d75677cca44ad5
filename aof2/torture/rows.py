"""The rows of the torture table, in the order in which they run."""

from __future__ import annotations

from aof2.torture import (
    controls,
    crash_states,
    damage,
    fuzz,
    kills,
    nth_call,
    power_cuts,
    random_cuts,
    s3_faults,
    schedules,
    soak,
    stateful,
    two_writers,
)
from aof2.torture.row import Row

ROWS: tuple[Row, ...] = (
    crash_states.ROW,
    power_cuts.ROW,
    kills.ROW,
    schedules.ROW,
    two_writers.ROW,
    nth_call.ROW,
    damage.ROW,
    random_cuts.ROW,
    fuzz.ROW,
    stateful.ROW,
    s3_faults.ROW,
    soak.ROW,
    controls.ROW,
)


def row_named(name: str) -> Row:
    """A row by its name; `KeyError` where there is none."""
    return {row.name: row for row in ROWS}[name]
