from typing import NamedTuple

class PointerInfo(NamedTuple):
    segment_id: int
    end_offset: int
    durable_bytes: int
    coordinator_watermark: int
    epoch: int
    closed_offset: int = 0

def encode_pointer(stream_uuid: bytes, info: PointerInfo) -> bytes: ...
def decode_pointer(data: bytes, stream_uuid: bytes) -> PointerInfo | None: ...
