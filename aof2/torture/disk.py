"""A model of a disk with its page cache: what steps of the seam did, and what of it is safe.

Files are pages of 4 KiB. A page has the contents that the page cache holds, those that a sync
covered, and those it had in between: the kernel may have written it out at any time. Names are
changed in order, directory by directory; a sync of a directory covers its changes so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Logged = tuple[str, int, int, int, int, int, bytes, bytes]
"""A step as `aof2._core.seamlog.stop` tells it."""

PAGE = 4096
ZEROS = bytes(PAGE)
VERSIONS_MAX = 32
"""Contents of a page that are remembered between two syncs; of more, some in the middle go."""

Version = tuple[int, bytes]


class FileModel:
    """One file.

    Attributes:
        size, pages: As the page cache has them; a page that is missing is all zeros.
        safe_size, safe: As a sync left them.
        versions: Of pages that were written since: each `(step, contents)`.
        lost: The same, of pages whose sync failed: the kernel takes them for clean.
        sizes: Each `(step, size)` since the last sync.
    """

    def __init__(self) -> None:
        self.size = self.safe_size = 0
        self.pages: dict[int, bytes] = {}
        self.safe: dict[int, bytes] = {}
        self.versions: dict[int, list[Version]] = {}
        self.lost: dict[int, list[Version]] = {}
        self.sizes: list[tuple[int, int]] = []

    def write(self, step: int, position: int, data: bytes) -> None:
        """Bytes come into the page cache."""
        at, end = 0, len(data)
        while at < end:
            page, start = divmod(position + at, PAGE)
            n = min(PAGE - start, end - at)
            if n == PAGE:
                self._put(step, page, data[at : at + n])
            else:
                old = self.pages.get(page, ZEROS)
                self._put(step, page, old[:start] + data[at : at + n] + old[start + n :])
            at += n
        if position + end > self.size and end:
            self.resize(step, position + end)

    def _put(self, step: int, page: int, contents: bytes) -> None:
        self.pages[page] = contents
        versions = self.versions.setdefault(page, [])
        versions.append((step, contents))
        if len(versions) > VERSIONS_MAX:
            del versions[step % (VERSIONS_MAX - 1)]

    def resize(self, step: int, size: int) -> None:
        """The file is made longer or shorter."""
        if size < self.size:
            kept, part = divmod(size, PAGE)
            for page in [page for page in self.pages if page > kept or (page == kept and not part)]:
                del self.pages[page]
                self.versions.pop(page, None)
            if part and kept in self.pages:
                self._put(step, kept, self.pages[kept][:part] + ZEROS[part:])
        if size != self.size:
            self.size = size
            self.sizes.append((step, size))

    def sync(self) -> None:
        """All of it is safe, but for what the kernel takes for clean."""
        for page in self.versions:
            self.safe[page] = self.pages.get(page, ZEROS)
            self.lost.pop(page, None)
        if self.size < self.safe_size:
            last = (self.size + PAGE - 1) // PAGE
            self.safe = {page: held for page, held in self.safe.items() if page < last}
        self.safe_size = self.size
        self.versions.clear()
        self.sizes.clear()

    def fail_sync(self) -> None:
        """A sync failed: what it was to cover may be safe or not, and is not tried again."""
        for page, versions in self.versions.items():
            self.lost.setdefault(page, []).extend(versions)
        self.versions.clear()

    def contents(self) -> bytes:
        """What a reader gets."""
        return assemble(self.size, self.pages)

    def copy(self) -> FileModel:
        """A model that goes its own way from here."""
        other = FileModel()
        other.size, other.safe_size = self.size, self.safe_size
        other.pages, other.safe = dict(self.pages), dict(self.safe)
        other.versions = {page: list(held) for page, held in self.versions.items()}
        other.lost = {page: list(held) for page, held in self.lost.items()}
        other.sizes = list(self.sizes)
        return other


def assemble(size: int, pages: dict[int, bytes]) -> bytes:
    """Pages as one piece."""
    whole, part = divmod(size, PAGE)
    parts = [pages.get(page, ZEROS) for page in range(whole)]
    if part:
        parts.append(pages.get(whole, ZEROS)[:part])
    return b"".join(parts)


@dataclass
class NameChange:
    """A change of names that no sync has covered: `(directory, name, inode or None)` each."""

    step: int
    changes: tuple[tuple[int, str, int | None], ...]

    @property
    def directories(self) -> set[int]:
        """Those that it changes; one, or two."""
        return {directory for directory, _, _ in self.changes}


@dataclass
class Names:
    """All directories: what they have, what is safe of it, and the changes since, in order."""

    now: dict[int, dict[str, int]] = field(default_factory=dict)
    safe: dict[int, dict[str, int]] = field(default_factory=dict)
    pending: list[NameChange] = field(default_factory=list)

    def change(self, step: int, *changes: tuple[int, str, int | None]) -> None:
        """Names come, go, or change."""
        apply_names(self.now, changes)
        self.pending.append(NameChange(step, changes))

    def sync(self, directory: int) -> None:
        """A directory's changes are safe, with what had to come before them."""
        touched, kept = {directory}, []
        for change in reversed(self.pending):
            if change.directories & touched:
                touched |= change.directories
            else:
                kept.append(change)
        kept.reverse()
        for change in self.pending:
            if change not in kept:
                apply_names(self.safe, change.changes)
        self.pending = kept

    def copy(self) -> Names:
        """A model that goes its own way from here."""
        return Names(
            {at: dict(held) for at, held in self.now.items()},
            {at: dict(held) for at, held in self.safe.items()},
            list(self.pending),
        )


def apply_names(
    names: dict[int, dict[str, int]], changes: tuple[tuple[int, str, int | None], ...]
) -> None:
    """Carry changes out."""
    for directory, name, inode in changes:
        held = names.setdefault(directory, {})
        if inode is None:
            held.pop(name, None)
        else:
            held[name] = inode


class Disk:
    """A root directory's files.

    Args:
        root: Inode of the root.

    Attributes:
        files: By inode, also those without a name.
        names: The directories.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.files: dict[int, FileModel] = {}
        self.names = Names({root: {}}, {root: {}})
        self._maps: list[tuple[int, int, int, int]] = []
        self._aliases: dict[int, int] = {}

    @classmethod
    def load(cls, root: Path) -> Disk:
        """A disk that has what a directory has now, all of it safe."""
        disk = cls(root.stat().st_ino)
        for path in sorted(root.rglob("*")):
            parent, inode = path.parent.stat().st_ino, path.stat().st_ino
            if path.is_dir():
                disk.add_directory(parent, path.name, inode)
            else:
                disk.add_file(parent, path.name, inode, path.read_bytes())
        return disk

    def add_directory(self, parent: int, name: str, inode: int) -> None:
        """Have a directory there, safe."""
        for names in (self.names.now, self.names.safe):
            names[parent][name] = inode
            names[inode] = {}

    def add_file(self, parent: int, name: str, inode: int, contents: bytes) -> None:
        """Have a file there, safe."""
        file = self._file(inode)
        file.write(0, 0, contents)
        file.sync()
        for names in (self.names.now, self.names.safe):
            names[parent][name] = inode

    def copy(self) -> Disk:
        """A disk that goes its own way from here."""
        other = Disk(self.root)
        other.files = {inode: file.copy() for inode, file in self.files.items()}
        other.names = self.names.copy()
        other._maps = list(self._maps)
        other._aliases = dict(self._aliases)
        return other

    def apply(self, step: int, logged: Logged) -> None:
        """One step happens. A call that failed did nothing, but for a sync."""
        op, answer, inode, other, position, n, raw, data = logged
        inode = self._known(inode, fresh=op == "created" and raw != b"LOCK")
        other = other if op == "mapped" else self._aliases.get(other, other)
        if answer > 0:
            if op == "fdatasync" and inode in self.files:
                self.files[inode].fail_sync()
            return
        name = raw.decode()
        if op == "store":
            self._store(step, position, data)
        elif op == "pwrite":
            written = data if answer == 0 else data[:-answer]
            self._file(inode).write(step, position, data if answer == 0 else written or data)
        elif op == "fdatasync":
            self._file(inode).sync()
        elif op == "created":
            if n:
                self.names.now.setdefault(inode, {})
                self.names.safe.setdefault(inode, {})
            if self.names.now.get(other, {}).get(name) != inode:
                self.names.change(step, (other, name, inode))
        elif op == "mapped":
            self._map(position, n, inode, other)
        elif op == "rename":
            self._rename(step, inode, data.decode(), other, name)
        elif op in ("unlink", "rmdir"):
            if name in self.names.now.get(inode, {}):
                self.names.change(step, (inode, name, None))
        elif op == "fsync_dir":
            self.names.sync(inode)
        elif op == "fallocate":
            file = self._file(inode)
            file.resize(step, max(file.size, n))
        elif op == "ftruncate":
            self._file(inode).resize(step, position)

    def _known(self, inode: int, *, fresh: bool) -> int:
        """The model's number of an inode; another one where the file system has used it before."""
        if fresh and (inode in self.files or inode in self.names.now or inode in self._aliases):
            self._aliases[inode] = (1 << 60) + len(self._aliases) + (len(self.files) << 20)
        return self._aliases.get(inode, inode)

    def _rename(self, step: int, source: int, old: str, target: int, new: str) -> None:
        inode = self.names.now.get(source, {}).get(old)
        if inode is not None:
            self.names.change(step, (source, old, None), (target, new, inode))

    def _file(self, inode: int) -> FileModel:
        return self.files.setdefault(inode, FileModel())

    def _map(self, address: int, n: int, inode: int, position: int) -> None:
        # Whatever was mapped there before is gone.
        self._maps = [
            held for held in self._maps if held[0] + held[1] <= address or address + n <= held[0]
        ]
        self._maps.append((address, n, inode, position))

    def _store(self, step: int, address: int, data: bytes) -> None:
        """A store to mapped memory; a ring's memory is mapped twice in a row."""
        at = 0
        while at < len(data):
            for start, n, inode, position in self._maps:
                if start <= address + at < start + n:
                    part = data[at : at + start + n - address - at]
                    self._file(inode).write(step, position + address + at - start, part)
                    at += len(part)
                    break
            else:
                raise LookupError(f"a store to {address + at:#x}, where nothing is mapped")

    # --- what there is ----------------------------------------------------------------------------

    def tree(self, names: dict[int, dict[str, int]]) -> Iterator[tuple[str, int, bool]]:
        """`(path, inode, is a directory)` of everything below the root, parents first."""
        waiting = [("", self.root)]
        while waiting:
            path, directory = waiting.pop()
            for name, inode in sorted(names.get(directory, {}).items()):
                inner = f"{path}{name}"
                is_directory = inode in self.names.now
                yield inner, inode, is_directory
                if is_directory:
                    waiting.append((f"{inner}/", inode))
