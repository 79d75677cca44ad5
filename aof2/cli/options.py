"""What commands share: their options, places in a stream, and how they open a root."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

import aof2
from aof2.cli.failure import NOT_FOUND, Failure
from aof2.places import Place

F = TypeVar("F", bound=Callable[..., Any])


# Only the newer releases of click can say at run time of what type a parameter is.
if TYPE_CHECKING:
    PlaceParameter = click.ParamType[Place]
else:
    PlaceParameter = click.ParamType


class PlaceType(PlaceParameter):
    """An offset, `earliest`, `latest` or an ISO 8601 date and time with its zone."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Read a place; anything else is a usage error."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        if value == "earliest" or value == "latest":
            return cast(Literal["earliest", "latest"], value)
        try:
            return int(value)
        except ValueError:
            pass  # Then it has to be a time.
        try:
            # Python 3.10 does not know the Z.
            when = datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in "Zz" else value)
        except ValueError:
            self.fail(
                f"{value!r} is no place: an offset (negative: from the end), earliest, latest, or "
                "a time such as 2025-01-31T12:00:00+01:00",
                param,
                ctx,
            )
        if when.tzinfo is None:
            self.fail(f"{value!r} has no time zone: add Z or one such as +01:00", param, ctx)
        return when


def common(function: F) -> F:
    """The options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write JSON instead of text."),
        click.option(
            "--config",
            "config_path",
            metavar="FILE",
            type=click.Path(dir_okay=False),
            help="Configuration, a TOML file. Without it the AOF2_* variables count.",
        ),
        click.option(
            "--tier2",
            metavar="URL",
            help="s3://bucket/prefix or a directory; goes before the configuration's tier2.url.",
        ),
    ):
        function = option(function)
    return function


def load_config(config_path: str | None, tier2: str | None) -> aof2.AofManagerConfig:
    """The configuration that the options and the environment ask for."""
    if config_path is None:
        url = {} if tier2 is None else {"AOF2_TIER2_URL": tier2}
        return aof2.AofManagerConfig.from_env({**os.environ, **url})
    config = aof2.AofManagerConfig.from_toml(config_path)
    if tier2 is None:
        return config
    if config.tier2 is None:
        return dataclasses.replace(config, tier2=aof2.Tier2Config(url=tier2))
    return dataclasses.replace(config, tier2=dataclasses.replace(config.tier2, url=tier2))


def open_readonly(root: str, config_path: str | None, tier2: str | None) -> aof2.AofManager:
    """Open a root for reading, beside whoever writes to it."""
    if not os.path.isdir(root):
        raise Failure("ROOT_NOT_FOUND", NOT_FOUND, f"there is no directory {root}")
    return aof2.open(root, config=load_config(config_path, tier2), readonly=True)
