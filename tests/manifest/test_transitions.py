"""Every record in every state of a row: allowed or refused exactly as `docs/format.md` says."""

from __future__ import annotations

import pytest
from oracle import Oracle, state_of
from test_oracle import same_step

from aof2._core.manifest import RecordType as T
from aof2._core.manifest import encode
from aof2.errors import ManifestCorrupt
from aof2.manifest.index import Index
from aof2.types import Tier

SEAL = {"durable_bytes": 900, "segment_crc64": 5, "ext_id": 0}
SEAL |= {"coordinator_watermark": 0, "flush_failure": False}
GONE = {"key": "k", "reason": ""}
MADE = {"bytes": 500, "table_bytes": 96, "crc64": 7, "raw_crc64": 8}


def evicted(tier, copy_tier):
    return {"tier": tier, "bytes": 1, "copy_tier": copy_tier}


OPEN = (T.SEGMENT_OPENED, 1, 0, {"base_offset": 0, "epoch": 1})
STEPS = {
    "open": OPEN,
    "seal": (T.SEAL_SEGMENT, 1, 10, SEAL),
    "seal other": (T.SEAL_SEGMENT, 1, 10, SEAL | {"ext_id": 3}),
    "compressing": (T.COMPRESSION_STARTED, 1, 0, {}),
    "compressed": (T.COMPRESSION_DONE, 1, 0, MADE),
    "compressed other": (T.COMPRESSION_DONE, 1, 0, MADE | {"crc64": 9}),
    "not compressed": (T.COMPRESSION_FAILED, 1, 0, {"reason": ""}),
    "uploading": (T.UPLOAD_STARTED, 1, 0, {"key": "k"}),
    "uploading other": (T.UPLOAD_STARTED, 1, 0, {"key": "j"}),
    "uploaded": (T.UPLOAD_DONE, 1, 0, {"key": "k", "size": 500, "crc64": 7, "etag": "e"}),
    "uploaded other": (T.UPLOAD_DONE, 1, 0, {"key": "k", "size": 501, "crc64": 7, "etag": "e"}),
    "not uploaded": (T.UPLOAD_FAILED, 1, 0, {"reason": ""}),
    "hydrating": (T.HYDRATION_STARTED, 1, 0, {"source_tier": Tier.COLD}),
    "hydrated": (T.HYDRATION_DONE, 1, 0, {"source_tier": Tier.COLD, "bytes": 9}),
    "not hydrated": (T.HYDRATION_FAILED, 1, 0, {"source_tier": Tier.COLD, "reason": ""}),
    "hot by warm": (T.LOCAL_EVICTED, 1, 0, evicted(Tier.HOT, Tier.WARM)),
    "hot by cold": (T.LOCAL_EVICTED, 1, 0, evicted(Tier.HOT, Tier.COLD)),
    "warm by cold": (T.LOCAL_EVICTED, 1, 0, evicted(Tier.WARM, Tier.COLD)),
    "warm by hot": (T.LOCAL_EVICTED, 1, 0, evicted(Tier.WARM, Tier.HOT)),
    "queue": (T.TIER2_DELETE_QUEUED, 1, 0, GONE),
    "queue other": (T.TIER2_DELETE_QUEUED, 1, 0, GONE | {"key": "j"}),
    "delete": (T.TIER2_DELETED, 1, 0, GONE),
    "fetch": (T.FETCH_QUEUED, 1, 0, {}),
    "fetched": (T.FETCH_DONE, 1, 0, {}),
    "trim": (T.TRIMMED, 0, 0, {"before_offset": 3}),
    "marker": (T.SNAPSHOT_MARKER, 0, 0, {"snapshot_number": 1, "covers": 1}),
    "event": (T.CUSTOM_EVENT, 0, 0, {"text": "x"}),
}
STREAM = {"trim", "marker", "event"}
SEALED = STREAM | {"seal", "compressing", "not compressed", "compressed", "compressed other"}
SEALED |= {"uploading", "uploading other", "not uploaded", "fetch"}
SEALED |= {"hydrating", "hydrated", "not hydrated"}
COLD = SEALED - {"compressed other", "uploading other"}
COLD |= {"uploaded", "hot by cold", "warm by cold", "fetched", "queue"}

# How a state is reached, and all that may follow in it.
STATES = {
    "unknown": ([], STREAM | {"open", "seal", "seal other"}),
    "opened": (["open"], STREAM | {"open", "seal", "seal other"}),
    "sealed": (["open", "seal"], SEALED),
    "compressed": (["open", "seal", "compressed"], SEALED | {"hot by warm"}),
    "with a key": (["open", "seal", "uploading"], SEALED | {"queue"}),
    "uploading": (
        ["open", "seal", "compressed", "uploading"],
        SEALED | {"uploaded", "hot by warm", "queue"},
    ),
    "cold": (["open", "seal", "compressed", "uploading", "uploaded"], COLD | {"hot by warm"}),
    "without warm": (
        ["open", "seal", "compressed", "uploading", "uploaded", "warm by cold"],
        COLD,
    ),
    "queued": (
        ["open", "seal", "compressed", "uploading", "uploaded", "queue"],
        COLD | {"hot by warm", "delete"},
    ),
    "deleted": (
        ["open", "seal", "compressed", "uploading", "uploaded", "queue", "delete"],
        SEALED | {"hot by warm"},
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_record_is_allowed_exactly_where_the_table_says(state):
    """Goal: the documented table is the code's. Method: each record type in each state of a row."""
    before, allowed = STATES[state]
    assert {step[0] for step in STEPS.values()} == set(T)
    for name, step in STEPS.items():
        index, oracle = Index(), Oracle()
        for one in before:
            assert same_step(index, oracle, STEPS[one])
        was = state_of(index)
        assert same_step(index, oracle, step) == (name in allowed), name
        assert state_of(index) == oracle.state()
        assert name in allowed or state_of(index) == was, name


def sealed_in_a_row(count, cold):
    """Sealed segments of ten records each under epoch 1; the first ones are in tier 2."""
    index = Index()
    for i in range(1, count + 1):
        names = ["open", "seal", *(["compressed", "uploading", "uploaded"] if i <= cold else [])]
        for name in names:
            kind, _, offset, fields = STEPS[name]
            if kind is T.SEGMENT_OPENED:
                fields = fields | {"base_offset": 10 * i - 10}
            index.apply(encode(kind, i, 10 * i if kind is T.SEAL_SEGMENT else offset, **fields))
    return index


@pytest.mark.parametrize("known", [False, True], ids=["new id", "id of an opened segment"])
@pytest.mark.parametrize("base", range(0, 80, 5))
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_takeover_cuts_behind_what_tier_2_has_and_nowhere_else(known, base, epoch):
    """Goal: a replaced writer's rest is given up, never what tier 2 has.

    Method: of six sealed segments two are in tier 2; open a seventh at each place, under the same
    epoch and under a higher one.
    """
    index = sealed_in_a_row(6, 2)
    assert index.cold_end == 20
    if known:
        index.apply(encode(T.SEGMENT_OPENED, 7, 60, base_offset=60, epoch=1))
    before = state_of(index)
    opened = encode(T.SEGMENT_OPENED, 7, base, base_offset=base, epoch=epoch)
    if base != 60 and not (epoch == 2 and base in (20, 30, 40, 50)):
        with pytest.raises(ManifestCorrupt):
            index.apply(opened)
        assert state_of(index) == before
        return
    index.apply(opened)
    assert list(index.segments) == [*range(1, base // 10 + 1), 7]
    assert (index.segments[7].base_offset, index.cold_end) == (base, 20)
    assert index.find_by_offset(base).segment_id == 7
