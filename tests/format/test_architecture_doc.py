"""`docs/architecture.md` lists every module of the package, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aof2"
AS_ONE = ("cli", "testing", "torture")


def modules() -> set[str]:
    """Modules as the page names them: `_core/seal`, `reader`; a package of row 8 as `cli/`."""
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]:
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if name.split("/")[0] in AS_ONE:
            found.add(f"{name.split('/')[0]}/")
        elif not name.endswith("__init__"):
            found.add(name)
    return found


def test_every_module_has_its_line_in_the_page():
    """Goal: the page is the map of `ls`. Method: compare its table with the files."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \d \| `([\w/]+)` \| \S", page, re.M)
    assert len(listed) == len(set(listed))
    missing, stale = modules() - set(listed) - {"cli/"}, set(listed) - modules() - {"cli/"}
    assert (sorted(missing), sorted(stale)) == ([], [])
