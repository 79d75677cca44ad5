from typing import NamedTuple

from aof2._core.directory import Directory
from aof2._core.scan import Scan

class FooterInfo:
    position: int
    @property
    def record_count(self) -> int: ...
    @property
    def base_offset(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def end_position(self) -> int: ...
    @property
    def ext_id(self) -> int: ...
    @property
    def chain_crc(self) -> int: ...
    @property
    def before_crc64(self) -> int: ...
    @property
    def durable_position(self) -> int: ...
    @property
    def coordinator_watermark(self) -> int: ...
    @property
    def max_timestamp_ns(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def flush_failure(self) -> bool: ...

class PointerInfo(NamedTuple):
    segment_id: int
    end_offset: int
    durable_bytes: int
    coordinator_watermark: int
    epoch: int

def read_footer(directory: Directory, name: str, scan: Scan | None = None) -> FooterInfo | None: ...
def finish(
    directory: Directory,
    name: str,
    scan: Scan,
    *,
    now_ns: int,
    coordinator_watermark: int = 0,
    flush_failure: bool = False,
) -> FooterInfo: ...
def verify_sealed(directory: Directory, name: str, footer: FooterInfo) -> None: ...
def encode_pointer(
    stream_uuid: bytes,
    segment_id: int,
    end_offset: int,
    durable_bytes: int,
    coordinator_watermark: int,
    epoch: int,
) -> bytes: ...
def decode_pointer(data: bytes, stream_uuid: bytes) -> PointerInfo | None: ...
def prove(directory: Directory, name: str) -> None: ...
