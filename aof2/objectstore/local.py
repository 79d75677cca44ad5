"""Objects as files below a directory: a second disk, a mounted volume, or a stand-in for S3.

The object `a/b` is the file `<root>/a/b`, mode 0600, directories 0700. Names that begin with a dot
are unfinished puts and never objects. Every path is walked from the root component by component
without following symbolic links, so no key and no planted link reaches outside.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import BinaryIO

from aof2._core.checksum import crc64nvme
from aof2.errors import FetchFailed, Tier2Auth, Tier2Unavailable, TierError, UploadFailed
from aof2.objectstore.base import (
    BytesLike,
    Contents,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    check_key,
    check_key_prefix,
    check_range,
    checked_pieces,
    content_differs,
    is_key,
    require_size,
)

_READ_BYTES = 1 << 20
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK a planted FIFO would hang the open; regular files do not mind it.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore(ObjectStore):
    """An `ObjectStore` in a directory; see `ObjectStore` for the contract.

    Args:
        path: The directory.
        create: Make it, with its parents, when it is not there.

    Raises:
        Tier2Auth, Tier2Unavailable: It could not be made.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self._root = os.path.abspath(path)
        self._temporary_numbers = itertools.count()
        if create:
            try:
                os.makedirs(self._root, mode=0o700, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        check_key(key)
        with (
            closing(checked_pieces(key, data, crc64)) as pieces,
            self._failing_as(UploadFailed, key),
            self._parent(key, create=True) as directory,
        ):
            return self._create(directory, key, pieces, crc64)

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        check_key(key)
        with (
            closing(checked_pieces(key, data, crc64)) as pieces,
            self._failing_as(UploadFailed, key),
            self._parent(key, create=True) as directory,
        ):
            temporary, _ = self._write_temporary(directory, pieces)
            try:
                # Renaming changes neither inode nor time, and afterwards the name may already
                # be another writer's.
                status = os.stat(temporary, dir_fd=directory, follow_symlinks=False)
                # Order: contents synced -> renamed, which is atomic -> directory synced.
                os.rename(temporary, _name(key), src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise
            os.fsync(directory)
            return _info(key, status, crc64)

    def get(self, key: str, bytes_max: int) -> bytes:
        check_key(key)
        with self._failing_as(FetchFailed, key), self._opened(key) as (file, status):
            require_size(key, status.st_size, bytes_max)
            data = file.read(status.st_size)
            if len(data) == status.st_size:
                return data
        raise FetchFailed(
            f"only {len(data)} of {status.st_size} bytes could be read in the {self.describe()}; "
            "something else changed the file",
            path=key,
        )

    def get_range(self, key: str, start: int, end: int) -> bytes:
        check_key(key)
        check_range(key, start, end)
        if start == end:
            return b""
        with self._failing_as(FetchFailed, key), self._opened(key) as (file, status):
            # The size is looked at first, so that an absurd range allocates nothing.
            if end <= status.st_size:
                file.seek(start)
                data = file.read(end - start)
                if len(data) == end - start:
                    return data
        raise FetchFailed(
            f"[{start}, {end}) is not inside the object of {status.st_size} bytes", path=key
        )

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        try:
            with self._failing_as(FetchFailed, key), self._opened(key) as (file, status):
                return _info(key, status, _crc64_of(file))
        except ObjectNotFound:
            return None

    def delete(self, key: str) -> None:
        check_key(key)
        with (
            self._failing_as(UploadFailed, key),
            # Each of them says that there is no such object.
            suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError),
            self._parent(key) as directory,
        ):
            os.unlink(_name(key), dir_fd=directory)
            os.fsync(directory)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_key_prefix(prefix)
        return self._walk(prefix)

    def check(self) -> None:
        with self._root_directory():
            pass
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def describe(self) -> str:
        return f"directory {self._root}"

    def _create(
        self, directory: int, key: str, pieces: Iterator[BytesLike], crc64: int
    ) -> ObjectInfo:
        temporary, size = self._write_temporary(directory, pieces)
        try:
            # Order: contents synced -> linked -> temporary name gone -> directory synced. Linking
            # is atomic and fails on a name that exists, which is what makes this create-only; a
            # crash before it leaves a dot name that nobody takes for an object.
            with suppress(FileExistsError):
                os.link(
                    temporary,
                    _name(key),
                    src_dir_fd=directory,
                    dst_dir_fd=directory,
                    follow_symlinks=False,
                )
        finally:
            os.unlink(temporary, dir_fd=directory)
        # Synced also when another put was first: its own sync may still be under way.
        os.fsync(directory)
        found = self.head(key)
        if found is None:
            raise UploadFailed("the object was deleted while it was being stored", path=key)
        if (found.size, found.crc64) != (size, crc64):
            raise content_differs(key, size, crc64, found)
        return found

    def _write_temporary(self, directory: int, pieces: Iterator[BytesLike]) -> tuple[str, int]:
        """A synced file under a name that is no key, and its size."""
        while True:
            temporary = f".put-{os.getpid()}-{next(self._temporary_numbers)}"
            try:
                fd = os.open(temporary, _CREATE_FLAGS, 0o600, dir_fd=directory)
            except FileExistsError:
                continue  # Left over by a crashed process of the same id, or another host's.
            break
        try:
            size = sum(_write(fd, piece) for piece in pieces)
            os.fsync(fd)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            os.close(fd)
        return temporary, size

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects in key order; a directory is a path that ends with `/`, and sorts by it."""
        pending = [prefix[: prefix.rfind("/") + 1]]
        while pending:
            path = pending.pop()
            if path == "" or path.endswith("/"):
                # Reversed, as the stack gives back the last one first.
                pending.extend(sorted(self._names(path, prefix), reverse=True))
                continue
            info = self._stat(path)
            if info is not None:
                yield info

    def _names(self, path: str, prefix: str) -> Iterator[str]:
        """Paths right below a directory that are, or may lead to, keys with the prefix."""
        try:
            with self._failing_as(FetchFailed, path or None), self._parent(f"{path}x") as directory:
                entries = os.listdir(directory)
                for name in filter(is_key, entries):
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    key = f"{path}{name}"
                    if stat.S_ISREG(status.st_mode) and key.startswith(prefix):
                        yield key
                    elif stat.S_ISDIR(status.st_mode) and _may_lead_to(f"{key}/", prefix):
                        yield f"{key}/"
        except ObjectNotFound:
            return

    def _stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._failing_as(FetchFailed, key), self._parent(key) as directory:
                status = os.stat(_name(key), dir_fd=directory, follow_symlinks=False)
        except ObjectNotFound:
            return None  # Deleted since its directory was read.
        return _info(key, status, None)

    @contextmanager
    def _root_directory(self) -> Iterator[int]:
        try:
            fd = os.open(self._root, _DIRECTORY_FLAGS)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _parent(self, key: str, *, create: bool = False) -> Iterator[int]:
        """Descriptor of the directory that holds the key's file, reached through no link."""
        with self._root_directory() as root:
            fd = os.dup(root)
            try:
                for name in key.split("/")[:-1]:
                    if create:
                        _make_directory(name, fd)
                    below = _open_directory(name, fd)
                    os.close(fd)
                    fd = below
                yield fd
            finally:
                os.close(fd)

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
        with self._parent(key) as directory:
            fd = os.open(_name(key), _READ_FLAGS, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "a directory is not an object")
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            with os.fdopen(fd, "rb", closefd=False) as file:
                yield file, status
        finally:
            os.close(fd)

    def _failing_as(
        self, failure: type[UploadFailed] | type[FetchFailed], key: str | None
    ) -> AbstractContextManager[None]:
        return _failing_as(failure, key, self.describe())

    def _unusable(self, error: OSError) -> TierError:
        if isinstance(error, PermissionError):
            return Tier2Auth(
                f"no permission for the {self.describe()}; give this user read and write access"
            )
        return Tier2Unavailable(
            f"cannot use the {self.describe()}: {error.strerror}; mount or make it, or correct "
            "tier2.url"
        )


@contextmanager
def _failing_as(
    failure: type[UploadFailed] | type[FetchFailed], key: str | None, place: str
) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Tier2Auth(f"no permission for it in the {place}", path=key) from error
    except OSError as error:
        if failure is FetchFailed and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise ObjectNotFound(f"there is no such object in the {place}", path=key) from error
        raise failure(f"the {place} failed: {error.strerror}", path=key) from error


def _make_directory(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    # Synced also when it was there: another put may have made it and not have synced it yet.
    os.fsync(parent)


def _open_directory(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError:
        # Linux says so of a link too, and a refused link must not look like a missing object.
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, "a symbolic link is in the way") from None
        raise


def _may_lead_to(directory: str, prefix: str) -> bool:
    return directory.startswith(prefix) or prefix.startswith(directory)


def _write(fd: int, piece: BytesLike) -> int:
    """Write all of a piece; how many bytes that were."""
    with memoryview(piece) as view:
        written = 0
        while written < view.nbytes:
            with view[written:] as rest:
                written += os.write(fd, rest)
        return written


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _crc64_of(file: BinaryIO) -> int:
    crc64 = 0
    while piece := file.read(_READ_BYTES):
        crc64 = crc64nvme(piece, crc64)
    return crc64


def _info(key: str, status: os.stat_result, crc64: int | None) -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, crc64, etag)
