"""A buffer as the body of a request."""

from __future__ import annotations


class RequestBody:
    """A seekable file over a buffer, for botocore to sign, send, and send again on a retry.

    It hands out copies of the pieces asked for, never views: those would live on in the frames of
    a traceback, and the caller's file could not be unmapped as long as the error is kept.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        end = self._view.nbytes if size is None or size < 0 else self._position + size
        piece = bytes(self._view[self._position : end])
        self._position += len(piece)
        return piece

    def seek(self, position: int, whence: int = 0) -> int:
        base = (0, self._position, self._view.nbytes)[whence]
        self._position = max(0, base + position)
        return self._position

    def tell(self) -> int:
        return self._position
