"""The group of all commands: what ends in which exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

import aof2
from aof2.cli.append import append
from aof2.cli.explain import explain_block
from aof2.cli.failure import INTERRUPTED, OTHER, Failure, failure_of
from aof2.cli.inspect import dump, info
from aof2.cli.manifest import manifest
from aof2.cli.mend import repair
from aof2.cli.read import cat, tail
from aof2.cli.torture import torture
from aof2.cli.verify import scrub, verify


class AdminGroup(click.Group):
    """Turns what a command raises into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was chosen."""
        try:
            return super().invoke(ctx)
        except aof2.AofError as error:
            raise failure_of(error) from error
        except BrokenPipeError:
            # Who reads has seen enough (`| head`), which is no failure. What is still buffered must
            # not be written again at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            raise Failure("OS_ERROR", OTHER, str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=AdminGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(aof2.__version__, prog_name="aof2-admin")
def admin() -> None:
    """Look into and feed the logs below a root directory.

    Every command but `append` and `repair` only reads: it works beside a process that writes, and
    on a root that nobody has open. ROOT is the directory that was given to `aof2.open`.
    """
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)


READING = (cat, tail, dump, info, explain_block, manifest, scrub, verify)
OTHERS = (append, repair, torture)

for command in (*READING, *OTHERS):
    admin.add_command(command)
