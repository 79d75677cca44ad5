"""The root directory: its lock, the directories of its streams, and who each stream is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from aof2._core.directory import Directory, LockFile
from aof2.clock import Clock
from aof2.errors import ConfigError, RootLocked, StreamNotFound
from aof2.sealedjson import with_crc64
from aof2.streamdir import (
    FORMAT_VERSION,
    IDENTITY_NAME,
    read_identity,
    stream_directory,
    stream_names,
)
from aof2.types import StreamIdentity

LOCK_NAME = "LOCK"
SUBDIRECTORIES = ("segments", "warm", "manifest", "quarantine")
_LEFT: dict[str, str] = {}
"""By path, roots that this process has closed and that something still uses, with what that is."""


class Root:
    """One root directory, locked by a writer, or open beside it for reading.

    Args:
        path: The directory; made for a writer, must exist for a reader.
        readonly: Take no lock and change nothing.

    Raises:
        ConfigError: the path cannot be used, or is on a network file system.
        RootLocked: another process writes there.
    """

    def __init__(self, path: str, clock: Clock, *, readonly: bool) -> None:
        self.path = os.path.abspath(path)
        self.made = False
        self._clock = clock
        self._lock: LockFile | None = None
        try:
            self.made = not readonly and not os.path.isdir(self.path)
            self.directory = Directory(self.path, create=not readonly)
        except OSError as error:
            raise ConfigError(
                f"the root cannot be {'opened' if readonly else 'made or opened'}: "
                f"{error.strerror}",
                path=self.path,
            ) from error
        try:
            if not readonly:
                self._take_lock()
                self._clean_up()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        remote = self.directory.network_file_system()
        if remote is not None:
            raise ConfigError(
                f"the root is on a network file system ({remote}), whose locks and syncs cannot be "
                "relied on: use a local disk, and a tier 2 for what others shall read",
                path=self.path,
            )
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        try:
            self._lock = self.directory.lock(LOCK_NAME, text)
        except BlockingIOError:
            raise self._locked_by() from None
        except OSError as error:
            raise ConfigError(
                f"the root cannot be locked: {error.strerror}", path=self.path
            ) from error

    def _locked_by(self) -> RootLocked:
        pid, host = None, None
        left = _LEFT.get(os.path.realpath(self.path))
        if left is not None:
            return RootLocked(
                f"this process has closed the root, but {left} has not ended yet, and could still "
                "write: the root is free once it has, or once the process ends",
                pid=os.getpid(),
                host=socket.gethostname(),
                path=self.path,
            )
        try:
            holder = json.loads(self.directory.read(LOCK_NAME, limit=4096))
            pid, host = int(holder["pid"]), str(holder["host"])
        except (OSError, ValueError, KeyError, TypeError):
            # The text is only a hint for people; the lock itself is the kernel's.
            pass
        return RootLocked(
            f"process {pid} on {host} writes to this root: close it there, or open with "
            "readonly=True",
            pid=pid,
            host=host,
            path=self.path,
        )

    def _clean_up(self) -> None:
        """Remove streams that were being made or deleted when a process died."""
        for name in self.directory.names():
            if name.startswith((".new-", ".deleted-")):
                self._remove_tree(self.directory, name)

    def _remove_tree(self, parent: Directory, name: str) -> None:
        child = parent.subdir(name)
        for entry in child.names():
            try:
                child.unlink(entry)
            except IsADirectoryError:
                self._remove_tree(child, entry)
        child.close()
        parent.rmdir(name)

    # --- streams --------------------------------------------------------------------------------

    def stream_names(self) -> list[str]:
        """Names of the streams that are there, sorted."""
        return stream_names(self.directory)

    def root_id(self) -> bytes:
        """The root's identity: that of its streams, or a new one for the first."""
        for name in self.stream_names():
            with_parent = self.open_stream(name)
            with_parent[0].close()
            return with_parent[1].root_id
        return self._clock.random_bytes(16)

    def new_identity(self, name: str, uuid: bytes | None = None) -> StreamIdentity:
        """Who a stream is that is about to be made; `uuid` where it exists elsewhere already."""
        directory = stream_directory(name)
        return StreamIdentity(
            name, directory, uuid or self._clock.random_bytes(16), self.root_id()
        )

    def create_stream(
        self, identity: StreamIdentity, fill: Callable[[Directory], object]
    ) -> None:
        """Make a stream's directory: aside first, then renamed, so that a crash leaves all or
        nothing.

        Args:
            identity: The stream.
            fill: Puts what its `manifest` directory begins with there.
        """
        fields = {
            "name": identity.name,
            "uuid": identity.uuid.hex(),
            "root_id": identity.root_id.hex(),
            "format_version": FORMAT_VERSION,
            "created_ns": self._clock.now_ns(),
        }
        aside, final = f".new-{identity.uuid.hex()}", identity.directory
        made = self.directory.subdir(aside, create=True)
        try:
            for subdirectory in SUBDIRECTORIES:
                made.subdir(subdirectory, create=True).close()
            manifest = made.subdir("manifest")
            try:
                fill(manifest)
            finally:
                manifest.close()
            made.create(IDENTITY_NAME, json.dumps(with_crc64(fields), indent=1).encode())
            made.sync()
            self.directory.rename(aside, final)
            self.directory.sync()
        except BaseException:
            if self.directory.exists(aside):
                self._remove_tree(self.directory, aside)
            raise
        finally:
            made.close()

    def open_stream(self, name: str) -> tuple[Directory, StreamIdentity]:
        """A stream's directory and identity.

        Raises:
            StreamNotFound: there is none of that name.
            FormatError: its `stream.json` cannot be understood.
        """
        directory_name = stream_directory(name)
        try:
            directory = self.directory.subdir(directory_name)
        except FileNotFoundError:
            raise StreamNotFound(
                f"there is no stream {name!r}; it has: {', '.join(self.stream_names()) or 'none'}",
                path=self.path,
            ) from None
        try:
            return directory, read_identity(directory, name)
        except BaseException:
            directory.close()
            raise

    def keep(self, left: str) -> None:
        """The root was closed, but something that still uses it has not ended: say so to whoever
        wants to open it meanwhile."""
        _LEFT[os.path.realpath(self.path)] = left

    def close(self) -> None:
        """Release the lock; again is harmless."""
        _LEFT.pop(os.path.realpath(self.path), None)
        if self._lock is not None:
            self._lock.close()
        self.directory.close()

    def undo(self) -> None:
        """Take back what opening has made, after it failed: the lock file, and the directory if
        new."""
        if self.made and self.directory.names() == [LOCK_NAME]:
            self.directory.unlink(LOCK_NAME)
            self.close()
            os.rmdir(self.path)
        else:
            self.close()
