"""What every test may use: the real S3 server, and the switch for the long campaign."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aof2.objectstore import LocalStore, MemoryStore, ObjectStore, open_store

if TYPE_CHECKING:
    from aof2.testing.seaweedfs import SeaweedFS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long` as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "long" in item.keywords and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="part of the long campaign: --long runs it"))
        if "seaweedfs" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.s3)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """The S3 server of this test run, started when the first test asks for it."""
    from aof2.testing.seaweedfs import SeaweedFS

    with SeaweedFS() as server:
        yield server


@pytest.fixture(params=["memory", "directory", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """An empty object store: each implementation in turn."""
    made: ObjectStore
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "directory":
        made = LocalStore(tmp_path / "objects")
    else:
        made = open_store(**request.getfixturevalue("tier2_s3"))
    with made:
        yield made


_prefixes = itertools.count(1)


@pytest.fixture
def tier2_s3(seaweedfs: SeaweedFS) -> dict[str, str]:
    """Arguments of a `Tier2Config` (and of `open_store`) with a prefix that nobody used before."""
    return seaweedfs.tier2(f"t{next(_prefixes)}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts empty file systems of so many KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made: list[Path] = []

    def mount(kib: int) -> Path:
        path = tmp_path / f"disk-{len(made)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(path)]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no small file system may be mounted here: {mounted.stderr.decode()}")
        made.append(path)
        return path

    yield mount
    for path in made:
        subprocess.run(["umount", "-l", str(path)], check=True)
