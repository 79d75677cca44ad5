from typing import NamedTuple

class ChunkLink(NamedTuple):
    chunk_id: int
    epoch: int
    root_id: bytes
    previous: tuple[int, int, int, int]
    end: tuple[int, int, int, int]

def chunk_link(data: bytes, *, stream_uuid: bytes, chunk_id: int, path: str) -> ChunkLink: ...
