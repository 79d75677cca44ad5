"""The body of an S3 upload: a seekable file over a buffer, or over bytes that are made on the way.

botocore reads a body twice: once for the signature's SHA-256, once to send it; and again on each
retry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar

from aof2.objectstore.base import BytesLike, Contents, Source, checked_pieces, require_crc64

B = TypeVar("B", bound="Body")


class Body(ABC):
    """A seekable file, as botocore wants it; to be used as a context manager.

    Attributes:
        nbytes: Its size.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._position = 0

    @abstractmethod
    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; as few as are at hand, none at the end."""

    def seek(self, position: int, whence: int = 0) -> int:
        """Go on from elsewhere."""
        base = (0, self._position, self.nbytes)[whence]
        self._position = max(0, base + position)
        return self._position

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def check(self) -> None:  # noqa: B027 (a buffer cannot fail)
        """Raise what went wrong while bytes were made, which botocore hides in an error of its
        own."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the bytes."""

    def __enter__(self: B) -> B:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _BufferBody(Body):
    """It hands out copies of the pieces asked for, never views: those would live on in the frames
    of a traceback, and the caller's file could not be unmapped as long as the error is kept."""

    def __init__(self, key: str, data: BytesLike, crc64: int) -> None:
        self._view = memoryview(data).cast("B")
        super().__init__(self._view.nbytes)
        try:
            require_crc64(key, self._view, crc64)
        except BaseException:
            self.close()
            raise

    def read(self, size: int = -1) -> bytes:
        end = self.nbytes if size is None or size < 0 else self._position + size
        piece = bytes(self._view[self._position : end])
        self._position += len(piece)
        return piece

    def close(self) -> None:
        self._view.release()


class _SourceBody(Body):
    """The last piece is only handed out when all bytes are as announced: until then the server
    waits for the rest of the body, and stores nothing."""

    def __init__(self, key: str, source: Source, crc64: int) -> None:
        super().__init__(source.nbytes)
        self._key, self._source, self._crc64 = key, source, crc64
        self._pieces: Iterator[BytesLike] | None = None
        self._left = b""
        self._made = 0  # Position behind what is left of the last piece.
        self._failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        if self._position >= self.nbytes:
            return b""
        if size is None or size < 0:
            size = self.nbytes
        try:
            piece = self._next()[:size]
        except Exception as error:
            self._failure = error
            raise
        self._position += len(piece)
        return piece

    def _next(self) -> bytes:
        """What is left of the piece with the next byte in it."""
        if self._pieces is None or self._position < self._made - len(self._left):
            self._pieces = checked_pieces(self._key, self._source, self._crc64)
            self._left, self._made = b"", 0
        while self._made <= self._position:
            self._left = bytes(next(self._pieces))
            self._made += len(self._left)
        self._left = self._left[len(self._left) - (self._made - self._position) :]
        return self._left

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._pieces, self._left = None, b""


def body_of(key: str, data: Contents, crc64: int) -> Body:
    """The body of an upload.

    Raises:
        UploadFailed: the checksum of a buffer is another one.
    """
    if isinstance(data, Source):
        return _SourceBody(key, data, crc64)
    return _BufferBody(key, data, crc64)
