"""`aof2-admin verify` and `scrub`: reads the copies of segments, and says which are damaged."""

from __future__ import annotations

import dataclasses
import os

import click

import aof2
from aof2.cli.failure import CORRUPT, NOT_FOUND, Failure
from aof2.cli.options import common, load_config
from aof2.cli.output import bytes_text, echo_json


def damage_line(damage: aof2.Damage) -> str:
    """A damaged copy, as people read it."""
    others = ", ".join(tier.name.lower() for tier in damage.good_on) or "none that was read"
    return (
        f"damaged: {damage.stream} segment {damage.segment_id}, {damage.tier.name.lower()} copy "
        f"{damage.place}: {damage.text}; good copies: {others}"
    )


def report(ctx: click.Context, found: aof2.VerifyReport, as_json: bool) -> None:
    """Say what was found; damage is the exit code of a corruption."""
    if as_json:
        fields = dataclasses.asdict(found)
        for damage in fields["damage"]:
            damage["tier"] = damage["tier"].name.lower()
            damage["good_on"] = [tier.name.lower() for tier in damage["good_on"]]
        echo_json({"is_good": found.is_good, **fields})
    else:
        for damage in found.damage:
            click.echo(damage_line(damage))
        for finding in found.findings:
            click.echo(f"{finding.severity}: {finding.place}: {finding.text}")
        click.echo(
            f"{found.copies} copies, {bytes_text(found.bytes)}, of {found.streams} streams in "
            f"{found.seconds:.1f} s: {len(found.damage)} damaged, {len(found.findings)} findings"
        )
    if not found.is_good:
        ctx.exit(CORRUPT)


def check_root(root: str) -> None:
    """Fail where there is no such directory."""
    if not os.path.isdir(root):
        raise Failure("ROOT_NOT_FOUND", NOT_FOUND, f"there is no directory {root}")


@click.command()
@click.argument("root")
@click.argument("stream", required=False)
@common
@click.pass_context
def verify(
    ctx: click.Context,
    root: str,
    stream: str | None,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Read all local copies of STREAM, or of all streams, and the manifest; repairs nothing."""
    del config_path, tier2  # Local copies only, and their files say all that is needed.
    check_root(root)
    report(ctx, aof2.verify(root, stream), as_json)


@click.command()
@click.argument("root")
@click.argument("stream", required=False)
@click.option(
    "--bytes-per-s", type=click.IntRange(min=1), help="Read no faster than that on average."
)
@common
@click.pass_context
def scrub(
    ctx: click.Context,
    root: str,
    stream: str | None,
    bytes_per_s: int | None,
    as_json: bool,
    config_path: str | None,
    tier2: str | None,
) -> None:
    """Read all copies of STREAM, or of all streams, in all tiers, from the device instead of the
    page cache; repairs nothing.

    Objects are read with --tier2 or the configuration's tier 2, at the price of their transfer.
    """
    check_root(root)
    config = load_config(config_path, tier2)
    found = aof2.verify(root, stream, tier2=config.tier2, medium=True, bytes_per_s=bytes_per_s)
    report(ctx, found, as_json)
