"""The entry point of `aof2-admin`.

The commands are imported when it is called, so that a missing extra ends in a sentence instead of a
traceback.
"""

from __future__ import annotations

import sys
from typing import NoReturn

EXTRAS = ("click", "rich")


def main() -> NoReturn:
    """Run `aof2-admin` with the arguments of this process, and exit with its code."""
    try:
        from aof2.cli.group import admin
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        sys.exit(f"error: the command line needs {error.name}: pip install 'aof2[cli]'")
    admin(prog_name="aof2-admin")
    raise AssertionError("click ends the process")
