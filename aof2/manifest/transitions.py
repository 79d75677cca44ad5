"""The transition table of a segment's row: what each record needs, sets, clears and takes.

```
SegmentOpened -> SEALED -> COMPRESSED + WARM -> KEY -> COLD -> DELETE_QUEUED -> (gone)
LocalEvicted takes the hot copy (HOT_EVICTED) or WARM away; HydrationDone and FetchDone bring them
back. FetchQueued sets NEEDS_FETCH: no copy is usable until one of these two.
```

The core runs it (`aof2._core.manifest_fold`); this is the one place that says what is legal.
"""

from __future__ import annotations

from typing import NamedTuple

from aof2._core.manifest import RecordType as T
from aof2._core.manifest_fold import FLAGS, TAKES
from aof2.types import Tier

SEALED, COMPRESSED, WARM = FLAGS["SEALED"], FLAGS["COMPRESSED"], FLAGS["WARM"]
KEY, COLD, HOT_EVICTED = FLAGS["KEY"], FLAGS["COLD"], FLAGS["HOT_EVICTED"]
DELETE_QUEUED, NEEDS_FETCH = FLAGS["DELETE_QUEUED"], FLAGS["NEEDS_FETCH"]


class Transition(NamedTuple):
    """One row of the table; `tier` and `copy_tier` tell the kinds of LocalEvicted apart."""

    record: T
    tier: int = -1
    copy_tier: int = -1
    needs: int = 0
    sets: int = 0
    clears: int = 0
    take: int = TAKES["NOTHING"]


TRANSITIONS: tuple[Transition, ...] = (
    Transition(T.SEGMENT_OPENED, take=TAKES["OPENED"]),
    Transition(T.SEAL_SEGMENT, sets=SEALED, take=TAKES["SEALED"]),
    Transition(T.COMPRESSION_STARTED, needs=SEALED),
    Transition(T.COMPRESSION_DONE, needs=SEALED, sets=COMPRESSED | WARM, take=TAKES["COMPRESSED"]),
    Transition(T.COMPRESSION_FAILED, needs=SEALED),
    Transition(T.UPLOAD_STARTED, needs=SEALED, sets=KEY, take=TAKES["KEY"]),
    Transition(T.UPLOAD_DONE, needs=SEALED | KEY | COMPRESSED, sets=COLD, take=TAKES["OBJECT"]),
    Transition(T.UPLOAD_FAILED, needs=SEALED),
    Transition(T.HYDRATION_STARTED, needs=SEALED),
    Transition(
        T.HYDRATION_DONE, needs=SEALED, clears=HOT_EVICTED | NEEDS_FETCH, take=TAKES["RECENCY"]
    ),
    Transition(T.HYDRATION_FAILED, needs=SEALED),
    Transition(T.LOCAL_EVICTED, Tier.HOT, Tier.WARM, needs=SEALED | WARM, sets=HOT_EVICTED),
    Transition(T.LOCAL_EVICTED, Tier.HOT, Tier.COLD, needs=SEALED | COLD, sets=HOT_EVICTED),
    Transition(T.LOCAL_EVICTED, Tier.WARM, Tier.COLD, needs=SEALED | COLD, clears=WARM),
    Transition(
        T.TIER2_DELETE_QUEUED, needs=SEALED | KEY, sets=DELETE_QUEUED, take=TAKES["SAME_KEY"]
    ),
    Transition(
        T.TIER2_DELETED,
        needs=SEALED | KEY | DELETE_QUEUED,
        clears=COLD | KEY | DELETE_QUEUED | NEEDS_FETCH,
        take=TAKES["NO_KEY"],
    ),
    Transition(T.TRIMMED, take=TAKES["TRIMMED"]),
    Transition(T.FETCH_QUEUED, needs=SEALED, sets=NEEDS_FETCH),
    Transition(T.FETCH_DONE, needs=SEALED | COMPRESSED | COLD, sets=WARM, clears=NEEDS_FETCH),
    Transition(T.SNAPSHOT_MARKER, take=TAKES["STREAM"]),
    Transition(T.CUSTOM_EVENT, take=TAKES["STREAM"]),
)

REASONS: dict[int, str] = {
    SEALED: "the segment is not sealed",
    COMPRESSED: "it was never compressed",
    WARM: "it has no warm copy",
    KEY: "no upload of it was started",
    COLD: "it is not in tier 2",
    DELETE_QUEUED: "it was not queued for deletion",
}
"""Why a row without a flag cannot take a record that needs it."""
