import enum
from typing import Any, NamedTuple

class RecordType(enum.IntEnum):
    SEGMENT_OPENED = 1
    SEAL_SEGMENT = 2
    COMPRESSION_STARTED = 3
    COMPRESSION_DONE = 4
    COMPRESSION_FAILED = 5
    UPLOAD_STARTED = 6
    UPLOAD_DONE = 7
    UPLOAD_FAILED = 8
    HYDRATION_STARTED = 9
    HYDRATION_DONE = 10
    HYDRATION_FAILED = 11
    LOCAL_EVICTED = 12
    TIER2_DELETE_QUEUED = 13
    TIER2_DELETED = 14
    TRIMMED = 15
    FETCH_QUEUED = 16
    FETCH_DONE = 17
    SNAPSHOT_MARKER = 18
    CUSTOM_EVENT = 19

class ManifestRecord(NamedTuple):
    type: RecordType
    segment_id: int
    offset: int
    fields: dict[str, Any]

def field_names(type: RecordType | int) -> tuple[str, ...]: ...
def sizes() -> dict[str, int]: ...
def encode(type: RecordType | int, segment_id: int, offset: int, **fields: Any) -> bytes: ...
def decode(payload: bytes) -> ManifestRecord: ...
