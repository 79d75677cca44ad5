"""States that a disk can be in after a crash, chosen by a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aof2.torture.disk import PAGE, ZEROS, Disk, FileModel, Names, apply_names, assemble

SECTOR = 512
KILL = "kill"
STYLES = (
    KILL,
    "nothing unsynced",
    "everything unsynced",
    "names without data",
    "data without names",
    "a moment earlier",
    "any pages",
    "any sectors",
    "one page missing",
    "one page alone",
)
"""A process that dies, and what a power cut may leave of what no sync covered."""


@dataclass
class State:
    """What is there after a crash.

    Attributes:
        directories, files: Paths below the root.
        inodes: The model's inode of each path.
    """

    directories: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        """Make it real in a directory that is made for it."""
        root.mkdir()
        base = str(root)
        for path in self.directories:
            os.mkdir(f"{base}/{path}", 0o700)
        for path, contents in self.files.items():
            fd = os.open(f"{base}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            if contents:
                os.write(fd, contents)
            os.close(fd)

    def real(self, root: Path) -> dict[int, int]:
        """The model's inode of each file that `write` has made, by its real one."""
        return {
            os.stat(f"{root}/{path}").st_ino: inode
            for path, inode in self.inodes.items()
            if path != "LOCK"
        }

    def disk(self) -> Disk:
        """A disk that has just this, all of it safe."""
        disk = Disk(self.inodes[""])
        for path in self.directories:
            disk.add_directory(self._parent(path), path.rpartition("/")[2], self.inodes[path])
        for path, contents in self.files.items():
            disk.add_file(self._parent(path), path.rpartition("/")[2], self.inodes[path], contents)
        return disk

    def _parent(self, path: str) -> int:
        return self.inodes[path.rpartition("/")[0]]


def state_of(
    disk: Disk, names: dict[int, dict[str, int]], contents: Callable[[FileModel], bytes]
) -> State:
    """The state with these names, and these contents of each file."""
    state, nothing = State(), FileModel()
    for path, inode, is_directory in disk.tree(names):
        if is_directory:
            state.directories.append(path)
        elif path != "LOCK":
            state.files[path] = contents(disk.files.get(inode, nothing))
        state.inodes[path] = inode
    state.inodes[""] = disk.root
    return state


def crash(disk: Disk, style: str, step: int, chance: random.Random) -> State:
    """What a crash before `step` leaves."""
    if style == KILL:
        return state_of(disk, disk.names.now, FileModel.contents)
    return state_of(
        disk, _names(disk.names, style, step, chance), _contents(disk, style, step, chance)
    )


# --- names ----------------------------------------------------------------------------------------


def _names(names: Names, style: str, step: int, chance: random.Random) -> dict[int, dict[str, int]]:
    """Names after a power cut: of each directory's changes the first few."""
    if style in ("everything unsynced", "names without data", "one page missing"):
        return names.now
    if style in ("nothing unsynced", "data without names"):
        return names.safe
    kept = {at: dict(held) for at, held in names.safe.items()}
    if style == "a moment earlier":
        for change in names.pending:
            if change.step < step:
                apply_names(kept, change.changes)
        return kept
    left: dict[int, int] = {}
    for change in names.pending:
        for directory in change.directories:
            left.setdefault(directory, chance.randrange(len(names.pending) + 1))
        # A rename between two directories happens in both or in none.
        if all(left[directory] > 0 for directory in change.directories):
            apply_names(kept, change.changes)
            for directory in change.directories:
                left[directory] -= 1
        else:
            left.update(dict.fromkeys(change.directories, 0))
    return kept


# --- contents -------------------------------------------------------------------------------------


def _contents(
    disk: Disk, style: str, step: int, chance: random.Random
) -> Callable[[FileModel], bytes]:
    if style == "nothing unsynced":
        return lambda file: assemble(file.safe_size, file.safe)
    if style in ("everything unsynced", "data without names"):
        return lambda file: assemble(file.size, _newest(file))
    if style == "names without data":
        return lambda file: assemble(max(file.size, file.safe_size), file.safe)
    if style == "a moment earlier":
        return lambda file: _earlier(file, step)
    if style in ("one page missing", "one page alone"):
        dirty = [(file, page) for file in disk.files.values() for page in file.versions]
        chosen = chance.choice(dirty) if dirty else None
        return lambda file: _but_one(file, chosen, missing=style == "one page missing")
    if style == "any pages":
        return lambda file: assemble(_any_size(file, chance), _any_pages(file, chance))
    return lambda file: assemble(_any_size(file, chance), _any_sectors(file, chance))


def _newest(file: FileModel) -> dict[int, bytes]:
    """As in the page cache, but for pages that the kernel takes for clean."""
    return {**file.pages, **{page: file.safe.get(page, ZEROS) for page in file.lost}} | {
        page: file.pages[page] for page in file.versions if page in file.pages
    }


def _any_size(file: FileModel, chance: random.Random) -> int:
    return chance.choice([file.safe_size, *[size for _, size in file.sizes]])


def _candidates(file: FileModel, page: int) -> list[bytes]:
    """What a page may be: as the last sync left it, or anything it has been since."""
    held = [*file.lost.get(page, ()), *file.versions.get(page, ())]
    return [file.safe.get(page, ZEROS), *[contents for _, contents in held]]


def _touched(file: FileModel) -> set[int]:
    return {*file.versions, *file.lost}


def _any_pages(file: FileModel, chance: random.Random) -> dict[int, bytes]:
    pages = dict(file.safe)
    for page in sorted(_touched(file)):
        pages[page] = chance.choice(_candidates(file, page))
    return pages


def _any_sectors(file: FileModel, chance: random.Random) -> dict[int, bytes]:
    pages = dict(file.safe)
    for page in sorted(_touched(file)):
        few = _candidates(file, page)
        few = [few[0], few[-1], chance.choice(few)]
        pages[page] = b"".join(
            chance.choice(few)[at : at + SECTOR] for at in range(0, PAGE, SECTOR)
        )
    return pages


def _earlier(file: FileModel, step: int) -> bytes:
    """As if all writing to the device had stopped before a step."""
    pages, size = dict(file.safe), file.safe_size
    for page in _touched(file):
        held = [*file.lost.get(page, ()), *file.versions.get(page, ())]
        before = [contents for at, contents in held if at < step]
        if before:
            pages[page] = before[-1]
    before_sizes = [held for at, held in file.sizes if at < step]
    return assemble(before_sizes[-1] if before_sizes else size, pages)


def _but_one(file: FileModel, chosen: tuple[FileModel, int] | None, *, missing: bool) -> bytes:
    """All pages but one, or one alone."""
    page = chosen[1] if chosen is not None and chosen[0] is file else None
    if missing:
        pages = _newest(file)
        if page is not None:
            pages[page] = file.safe.get(page, ZEROS)
        return assemble(file.size, pages)
    pages = dict(file.safe)
    if page is not None:
        pages[page] = file.pages.get(page, ZEROS)
    return assemble(max(file.size, file.safe_size), pages)
