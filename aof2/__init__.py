"""An embedded append-only log with three tiers: memory-mapped segments, zstd files, S3.

```python
import aof2

with aof2.open("data") as manager:
    log = manager.stream("orders")
    offset = log.append(b"first")
    print(log.get(offset).payload)
```
"""

from aof2._core.record import Record
from aof2.batch import RecordBatch
from aof2.config import (
    AofManagerConfig,
    CoordinatorConfig,
    FlushConfig,
    ManifestConfig,
    RetentionConfig,
    SegmentConfig,
    Tier0Config,
    Tier1Config,
    Tier2Config,
)
from aof2.errors import (
    AofError,
    Closed,
    CompressionFailed,
    ConfigError,
    CoordinatorDied,
    CorruptionError,
    DurabilityLost,
    Fenced,
    FetchFailed,
    ForkedHandle,
    FormatError,
    HydrationFailed,
    HydrationTimeout,
    InvalidStreamName,
    ManifestCorrupt,
    NotYetDurable,
    ObjectCorrupt,
    OffsetOutOfRange,
    RecordCorrupt,
    RecordTooLarge,
    RolloverFailed,
    RootLocked,
    SegmentCorrupt,
    SegmentLost,
    StorageFull,
    StreamNotFound,
    Tier2Auth,
    Tier2Unavailable,
    TierError,
    UnsafeStore,
    UploadFailed,
    VersionTooNew,
    WaitTimeout,
    WouldBlock,
    WouldBlockKind,
)
from aof2.explain import BlockExplanation
from aof2.manager import AofManager
from aof2.manifest.chunkview import ChunkInfo, InspectedRecord
from aof2.manifest.findings import Finding
from aof2.manifest.inspect import ManifestInspector, SnapshotInfo
from aof2.meters import Histogram
from aof2.metrics import Health, HealthReason, Metrics
from aof2.opening import open, open_async
from aof2.reader import AofReader
from aof2.repairs import RepairReport, repair
from aof2.salvaging import SalvageReport, salvage
from aof2.stream import Aof
from aof2.types import (
    Gap,
    RecoveryReport,
    ReplayReport,
    SegmentInfo,
    SegmentState,
    Tier,
    Watermarks,
)
from aof2.verifying import Damage, VerifyReport, verify

__version__ = "0.1.0"

__all__ = [
    "Aof",
    "AofError",
    "AofManager",
    "AofManagerConfig",
    "AofReader",
    "BlockExplanation",
    "ChunkInfo",
    "Closed",
    "CompressionFailed",
    "ConfigError",
    "CoordinatorConfig",
    "CoordinatorDied",
    "CorruptionError",
    "Damage",
    "DurabilityLost",
    "Fenced",
    "FetchFailed",
    "Finding",
    "FlushConfig",
    "ForkedHandle",
    "FormatError",
    "Gap",
    "Health",
    "HealthReason",
    "Histogram",
    "HydrationFailed",
    "HydrationTimeout",
    "InspectedRecord",
    "InvalidStreamName",
    "ManifestConfig",
    "ManifestCorrupt",
    "ManifestInspector",
    "Metrics",
    "NotYetDurable",
    "ObjectCorrupt",
    "OffsetOutOfRange",
    "Record",
    "RecordBatch",
    "RecordCorrupt",
    "RecordTooLarge",
    "RecoveryReport",
    "RepairReport",
    "ReplayReport",
    "RetentionConfig",
    "RolloverFailed",
    "RootLocked",
    "SalvageReport",
    "SegmentConfig",
    "SegmentCorrupt",
    "SegmentInfo",
    "SegmentLost",
    "SegmentState",
    "SnapshotInfo",
    "StorageFull",
    "StreamNotFound",
    "Tier",
    "Tier0Config",
    "Tier1Config",
    "Tier2Auth",
    "Tier2Config",
    "Tier2Unavailable",
    "TierError",
    "UnsafeStore",
    "UploadFailed",
    "VerifyReport",
    "VersionTooNew",
    "WaitTimeout",
    "Watermarks",
    "WouldBlock",
    "WouldBlockKind",
    "__version__",
    "open",
    "open_async",
    "repair",
    "salvage",
    "verify",
]
