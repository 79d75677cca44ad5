"""What every tidy test reads: the project's own files, and its modules by their dotted names."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aof2"
CORE = PACKAGE / "_core"
CODE_SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h"}
NOT_OURS = re.compile(
    r"(^|/)(\.(?!ci/|gitignore$)[^/]*|build|dist|wheelhouse|__pycache__|[^/]*\.egg-info)(/|$)"
)


@functools.cache
def project_files() -> tuple[Path, ...]:
    """Every file that is or will be tracked; without git (an sdist), all but known output."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in ROOT.rglob("*") if not NOT_OURS.search(shown(p))]
        paths = [p for p in paths if p.suffix != ".c" or not p.with_suffix(".pyx").exists()]
    return tuple(sorted(path for path in paths if path.is_file() and not path.is_symlink()))


def files_with(*suffixes: str, under: Path = ROOT) -> list[Path]:
    """Project files of these suffixes below a directory."""
    return [p for p in project_files() if p.suffix in suffixes and p.is_relative_to(under)]


def library_modules() -> list[Path]:
    """The library's own Python: everything below `aof2/` but the core."""
    return [p for p in files_with(".py", under=PACKAGE) if not p.is_relative_to(CORE)]


def shown(path: Path) -> str:
    """A path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="utf-8")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A Python file's syntax tree."""
    return ast.parse(text_of(path), filename=str(path))


def module_name(path: Path) -> str:
    """`aof2/tiers/hot.py` is `aof2.tiers.hot`; a package's `__init__.py` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def fail_with(title: str, problems: list[str]) -> None:
    """Fail with one problem a line; do nothing when there is none."""
    assert not problems, f"{title}: {len(problems)}\n  " + "\n  ".join(problems)
