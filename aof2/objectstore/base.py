"""The object store contract: the one interface that tier 2 is written against.

Numbered, because the contract suite checks each rule against every implementation:

1.  *Keys* are relative: components of `[A-Za-z0-9._-]` joined by `/`, none empty, none beginning
    with a dot, at most 512 characters in all. No key is a directory of another one. Anything else
    is a `ConfigError`; it never reaches the store.
2.  *Create-only.* `put` stores an object whole or not at all, and never replaces one. Of several
    puts with different contents exactly one wins; the others get `UploadFailed`. Only `replace`
    overwrites: the last writer wins, whole or not at all, and a reader gets one content or another.
3.  *Idempotent.* `put` of a key that exists with the same size and crc64 succeeds, whoever wrote
    it. So a lost reply, a retry and a restart all end in success.
4.  *Verified.* `put` or `replace` with a crc64 that is not the data's stores nothing:
    `UploadFailed`.
5.  *Durable.* Once `put` or `replace` has returned, the object survives power loss of the store.
6.  *Exact.* `get_range(key, start, end)` returns exactly `end - start` bytes, or raises
    `FetchFailed`. An empty range is `b""` without a look at the store. `get(key, bytes_max)`
    returns the whole object by one request; a larger one is `ObjectTooLarge`, and costs no memory.
7.  *Missing* is `None` from `head`, `ObjectNotFound` from `get_range` and `get`, and fine for
    `delete`.
8.  *Listing* yields every key that begins with the prefix once, in ascending order of the keys.
    Its infos may leave out the crc64. Foreign names that are no keys by rule 1 are left out.
9.  *Errors.* Credentials refused: `Tier2Auth`. Unreachable, or no such bucket or directory:
    `Tier2Unavailable` (but `head` of S3 cannot tell a missing bucket from a missing object).
    Otherwise `UploadFailed` from what writes (`put`, `replace`, `delete`) and `FetchFailed` from
    what reads.
    Each has the key as `path` and the cause chained. No error, `describe()` or `repr` shows a
    secret.
10. *Threads.* Every method may be called from any thread at any time, `close` once all others have
    returned. No method keeps a reference to the buffer it was given.
11. *Sources.* `put` takes a `Source` in place of a buffer, and holds no more of it than a few
    pieces. Bytes that are not as announced (rule 4) are found while they are sent: nothing is
    stored. What a source raises comes back as it is, or as the cause of an `UploadFailed`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from aof2._core.checksum import crc64nvme
from aof2.errors import ConfigError, FetchFailed, UploadFailed

BytesLike = bytes | bytearray | memoryview
"""What `put` and `replace` take: any C-contiguous buffer; wrap others in a `memoryview`."""


class Source(ABC):
    """Bytes for `put` that are made while they are sent, each time anew and each time the same.

    Attributes:
        nbytes: How many there are.

    Example:
        >>> class Letters(Source):
        ...     nbytes = 3
        ...     def pieces(self):
        ...         yield from (b"a", b"bc")
        >>> b"".join(Letters().pieces())
        b'abc'
    """

    nbytes: int

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """All bytes from the first on, in pieces; a store may ask several times."""


Contents = BytesLike | Source
"""What `put` takes."""

KEY_CHARACTERS_MAX = 512
"""Longest key, so that a prefix of as many bytes before it still fits S3's 1,024."""

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})*")


class ObjectNotFound(FetchFailed):
    """There is no object of that key."""

    code = "OBJECT_NOT_FOUND"


class ObjectTooLarge(FetchFailed):
    """The object is larger than its reader takes; nothing of it was taken."""

    code = "OBJECT_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about one object.

    Attributes:
        key: Key below the store's own prefix.
        size: Length in bytes.
        crc64: CRC-64/NVME of the whole object, None where the store does not say.
        etag: The store's opaque version tag, without quotes.
    """

    key: str
    size: int
    crc64: int | None
    etag: str


class ObjectStore(ABC):
    """A place for objects, nearly all immutable; the module's docstring is its contract.

    ```python
    with open_store("/var/backups/aof2") as store:
        store.put("seg/1", data, crc64=crc64nvme(data))
        store.get_range("seg/1", 0, 16)
    ```
    """

    @abstractmethod
    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        """Create an object, or find it there with the same content already (rules 2 to 5, 11).

        Args:
            key: Where to.
            data: Its bytes, or what makes them; not needed any more once the call has returned or
                raised.
            crc64: CRC-64/NVME of `data`.

        Raises:
            UploadFailed: The key has other content, `crc64` is wrong, or the store failed.
            Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        """Store an object, in place of the one that may be there (rules 2, 4 and 5).

        Args:
            key, data, crc64: As in `put`.

        Raises:
            UploadFailed: `crc64` is wrong, or the store failed; then the old or the new content
                is there. Doing it again is safe as long as nobody else replaces the object.
            Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def get(self, key: str, bytes_max: int) -> bytes:
        """Read a whole object of at most `bytes_max` bytes, by one request (rule 6).

        Raises:
            ObjectNotFound: There is no such object.
            ObjectTooLarge: It has more bytes than that.
            FetchFailed: Its bytes do not have the checksum that the store tells, or the store
                failed.
            Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read the half-open range of bytes `[start, end)` (rule 6).

        Raises:
            ObjectNotFound: There is no such object.
            FetchFailed: The range is not wholly inside the object, or the store failed.
            Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Tell size, crc64 and etag, or None when there is no such object.

        Raises:
            FetchFailed, Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; fine when there is none.

        Raises:
            UploadFailed, Tier2Auth, Tier2Unavailable: See rule 9.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix` (any string that a key may begin with).

        Raises:
            FetchFailed, Tier2Auth, Tier2Unavailable: See rule 9; also while iterating.
        """

    @abstractmethod
    def check(self) -> None:
        """Ask, with one cheap request, whether the store is there and lets us in.

        Raises:
            Tier2Auth: The credentials were refused.
            Tier2Unavailable: It cannot be reached, or there is no such bucket or directory.
        """

    @abstractmethod
    def describe(self) -> str:
        """Where this is, for messages and logs: bucket and endpoint, never a secret."""

    def close(self) -> None:  # noqa: B027 (a store without resources has nothing to give back)
        """Give back connections; the objects stay. Calling it again does nothing."""

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"


def is_key(text: str) -> bool:
    """True when rule 1 allows the text as a key."""
    return len(text) <= KEY_CHARACTERS_MAX and _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return the key when rule 1 allows it.

    Raises:
        ConfigError: It does not; the store has not been asked anything.
    """
    if not is_key(key):
        raise ConfigError(
            f"{key[:80]!r} is not an object key: use at most {KEY_CHARACTERS_MAX} characters, "
            "components of A-Z a-z 0-9 . _ - joined by '/', none beginning with a dot"
        )
    return key


def check_key_prefix(prefix: str) -> str:
    """Return the prefix when some key may begin with it (rule 1); `""` stands for all keys.

    Raises:
        ConfigError: No key can begin with it.
    """
    # Any prefix of a key becomes a key by one more letter.
    check_key(f"{prefix}x")
    return prefix


def check_range(key: str, start: int, end: int) -> None:
    """Raise `FetchFailed` unless `[start, end)` is a range of bytes."""
    if not 0 <= start <= end:
        raise FetchFailed(f"[{start}, {end}) is not a range of bytes", path=key)


def require_size(key: str, size: int, bytes_max: int) -> None:
    """Raise `ObjectTooLarge` for an object that is larger than its reader takes (rule 6)."""
    if size > bytes_max:
        raise ObjectTooLarge(
            f"at most {bytes_max} bytes were expected there, but the object has {size}; nothing "
            "of it was taken. Something else wrote to this key",
            path=key,
        )


def checked_pieces(key: str, data: Contents, crc64: int) -> Generator[BytesLike, None, None]:
    """The bytes of an object in pieces, of which the last one only comes when all are as announced
    (rule 4).

    A buffer is checked before anything is sent, so that bytes that went bad in memory or on the
    local disk cost no transfer, and so that a store that verifies nothing cannot take them. A
    source is checked on the way.

    Raises:
        UploadFailed: They differ from what was announced; nothing may be stored.
    """
    if isinstance(data, Source):
        return _made_pieces(key, data, crc64)
    with memoryview(data).cast("B") as view:
        require_crc64(key, view, crc64)
    return _whole(data)


def _whole(data: BytesLike) -> Generator[BytesLike, None, None]:
    with memoryview(data).cast("B") as view:
        yield view


def _made_pieces(key: str, data: Source, crc64: int) -> Generator[BytesLike, None, None]:
    held, size, found = b"", 0, 0
    for piece in data.pieces():
        if held:
            yield held
        held, size, found = piece, size + len(piece), crc64nvme(piece, found)
        if size > data.nbytes:
            break
    if (size, found) != (data.nbytes, crc64):
        raise UploadFailed(
            f"{size} bytes with crc64 {found:016x} were made, not {data.nbytes} with {crc64:016x} "
            "as was asked for; nothing was stored. Try again: what they are made from has changed, "
            "or is damaged",
            path=key,
        )
    if held:
        yield held


def require_crc64(key: str, data: memoryview, crc64: int) -> None:
    """Raise `UploadFailed` unless the data's CRC-64/NVME is `crc64` (rule 4)."""
    found = crc64nvme(data)
    if found != crc64:
        raise UploadFailed(
            f"the data's crc64 is {found:016x}, not {crc64:016x} as was asked for; nothing was "
            "stored. Read the source again; when it stays so, that copy is damaged",
            path=key,
        )


def content_differs(key: str, size: int, crc64: int, found: ObjectInfo) -> UploadFailed:
    """The error for a key that holds other content than was to be stored (rule 2)."""
    other = "unknown" if found.crc64 is None else f"{found.crc64:016x}"
    return UploadFailed(
        f"the key exists with other content ({found.size} bytes, crc64 {other}; ours has {size} "
        f"bytes, crc64 {crc64:016x}); it was left unchanged. Two writers share this prefix, or "
        "the key was written by something else",
        path=key,
    )
