"""The row of the stateful model: batches of examples, each with a seed of its own."""

from __future__ import annotations

from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

EXAMPLES = 10
"""Of one case."""


def begin(setting: Setting) -> Cases:
    """Nothing is shared. hypothesis is looked for here, as a program without it has other rows."""
    try:
        from aof2.torture.model import run_examples
    except ImportError as error:
        raise CannotRun(f"{error}: pip install 'aof2[torture]'") from error

    def run(number: int) -> Tally:
        run_examples(setting.seed * 100_000 + number, EXAMPLES)
        return Tally(units=EXAMPLES)

    return Cases(run)


ROW = Row(
    name="model",
    tries="a stream against a plain list: 60 steps of appends, kills, evictions and readers",
    unit="examples",
    full=2000,
    minutes=2,
    begin=begin,
    batch=1,
    case_timeout_s=600,
)
