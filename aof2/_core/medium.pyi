from aof2._core.directory import Directory
from aof2._core.seal import FooterInfo

PIECE_BYTES: int

class MediumReader:
    path: str
    size: int
    crc64: int
    def __init__(
        self, directory: Directory, name: str, footer: FooterInfo | None = None
    ) -> None: ...
    def close(self) -> None: ...
    def read(self) -> int: ...
