"""`aof2-admin torture`: has the library prove what it promises."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aof2.cli.failure import OTHER, Failure
from aof2.cli.output import echo_json, show_table

if TYPE_CHECKING:
    from aof2.torture.campaign import Campaign


@click.command()
@click.option("--minutes", type=float, metavar="N", help="End after so long.")
@click.option("--row", "names", multiple=True, metavar="NAME", help="This row only; repeatable.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides what cases do.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Go on from where the run that wrote FILE ended, and write to it.",
)
@click.option("--case", type=int, metavar="K", help="Run one case of the row again.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of text.")
def torture(
    minutes: float | None,
    names: tuple[str, ...],
    seed: int,
    resume: Path | None,
    case: int | None,
    as_json: bool,
) -> None:
    """Crash, damage and starve logs in temporary directories, and check what is left.

    Without `--minutes` it runs until every row has its full count, which takes hours.
    """
    # Rows reach for servers and tools that no other command needs.
    from aof2.torture.campaign import Campaign
    from aof2.torture.rows import ROWS, row_named

    if not __debug__:
        raise click.UsageError("Python was started with -O, which removes the checks")
    try:
        rows = [row_named(name) for name in names] if names else list(ROWS)
    except KeyError as error:
        known = ", ".join(row.name for row in ROWS)
        raise click.UsageError(f"there is no row {error.args[0]!r}; there are: {known}") from None
    campaign = Campaign(rows, seed, resume=resume, tell=lambda line: click.echo(line, err=True))
    # Servers and directories of a row go with it, also when the run is told to end.
    signal.signal(signal.SIGTERM, lambda number, frame: campaign.end(128 + number))
    if case is not None:
        if len(rows) != 1:
            raise click.UsageError("--case needs one --row")
        tally = campaign.run_case(rows[0].name, case)
        campaign.reached[rows[0].name].tally = tally
    else:
        campaign.run(minutes)
    if as_json:
        echo_json(
            {
                "seed": campaign.seed,
                "rows": {
                    row.name: {"unit": row.unit, **campaign.reached[row.name].as_json()}
                    for row in rows
                },
            }
        )
    else:
        _show(campaign)
    if campaign.violations:
        raise Failure("VIOLATED", OTHER, f"{campaign.violations} violations")


def _show(campaign: Campaign) -> None:
    """The table of counts."""
    lines = []
    for row in campaign.rows:
        reached = campaign.reached[row.name]
        lines.append(
            (
                row.name,
                row.tries if not reached.skipped else f"left out: {reached.skipped}",
                f"{reached.tally.units:,}",
                f"{reached.full:,}",
                row.unit,
                f"{len(reached.tally.violations):,}",
                f"{reached.seconds:,.0f}",
            )
        )
    show_table(
        ("row", "tries", "reached", "full", "", "violations", "seconds"), lines, right=(2, 3, 5, 6)
    )
