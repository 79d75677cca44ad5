"""The entry point of `aof2-admin`.

The commands are imported when it is called, so that a missing extra ends in a sentence instead of a
traceback.
"""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

EXTRAS = ("click", "rich")


def main() -> NoReturn:
    """Run `aof2-admin` with the arguments of this process, and exit with its code."""
    for name in EXTRAS:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            sys.exit(f"error: the command line needs {name}: pip install 'aof2[cli]'")
    from aof2.cli.group import admin

    admin(prog_name="aof2-admin")
    raise AssertionError("click ends the process")
