"""The fold of manifest records into rows, one per segment.

A table says for each record type which facts a row must have, and which it then gains and loses;
`take` says what else is taken from the record. The table comes from
`aof2/manifest/transitions.py`. What the table does not allow is `ManifestCorrupt`, and has changed
nothing. Each record costs the same whatever came before.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp

from aof2._core.manifest cimport (
    LOCAL_EVICTED,
    ParsedRecord,
    parse_record,
)
from aof2._core.manifest_rows cimport (
    PENDING_COUNT,
    PENDING_DELETE,
    ROW_COLD,
    ROW_FLUSH_FAILURE,
    ROW_KEY,
    ROW_SEALED,
    Row,
    RowStore,
    make_row,
    pending_of,
)

from aof2._core.manifest import RecordType
from aof2.errors import ManifestCorrupt

FLAGS = {
    "SEALED": 1, "FLUSH_FAILURE": 2, "COMPRESSED": 4, "WARM": 8, "KEY": 16, "COLD": 32,
    "HOT_EVICTED": 64, "DELETE_QUEUED": 128, "NEEDS_FETCH": 256,
}
TAKES = {
    "NOTHING": 0, "OPENED": 1, "SEALED": 2, "COMPRESSED": 3, "KEY": 4, "OBJECT": 5, "SAME_KEY": 6,
    "NO_KEY": 7, "RECENCY": 8, "TRIMMED": 9, "STREAM": 10,
}


cdef bint _same_key(ParsedRecord *record, Row *row) noexcept:
    return (record.text_bytes[0] == row.key_bytes
            and memcmp(record.texts[0], row.texts, row.key_bytes) == 0)


cdef class Fold:
    """All segments of one stream, folded from its manifest.

    Args:
        table: `(type, tier, copy tier, needs, sets, clears, take)` per transition; the
            tiers are those of LocalEvicted, -1 in all others. Flags and takes as in `FLAGS` and
            `TAKES`.
        reasons: `{flag: why a row without it cannot take a record}`.

    One thread at a time changes it; look-ups may run beside, under the GIL.
    """

    def __init__(self, table, dict reasons not None):
        cdef Transition *t
        self.rows = RowStore()
        self.reasons = reasons
        for type, tier, copy_tier, needs, sets, clears, take in table:
            if self.variants[<int> type] == VARIANTS_MAX:
                raise ValueError(f"too many transitions of {type!r}")
            t = &self.table[<int> type][self.variants[<int> type]]
            self.variants[<int> type] += 1
            t.tier, t.copy_tier, t.needs = tier, copy_tier, needs
            t.sets, t.clears, t.take = sets, clears, take

    # --- records --------------------------------------------------------------------------------

    def check(self, bytes payload not None):
        """Raise `ManifestCorrupt` when a record cannot follow the ones before; changes nothing."""
        self.fold(payload, len(payload), False)

    def apply(self, bytes payload not None):
        """Take one record in; raises as `check` does, and has changed nothing then."""
        self.fold(payload, len(payload), True)

    cdef int _refuse(self, ParsedRecord *record, str why) except -1:
        raise ManifestCorrupt(
            f"{RecordType(record.type).name} of segment {record.segment_id}: {why}",
            segment=record.segment_id, offset=record.offset,
        )

    cdef int fold(self, const char *payload, uint64_t n, bint commit) except -1:
        """Check one record, and take it in."""
        cdef ParsedRecord record
        cdef Transition *t
        cdef Row *row
        cdef ColdPrefix cold
        cdef uint64_t at, trimmed
        cdef uint32_t before
        parse_record(payload, n, &record)
        t = self._transition(&record)
        if record.segment_id == 0 and t.take in (TAKE_OPENED, TAKE_SEALED):
            self._refuse(&record, "no segment has this number")
        if t.take == TAKE_OPENED:
            self._open(&record, t, commit)
        elif t.take == TAKE_SEALED:
            self._seal(&record, t, commit)
        elif t.take == TAKE_TRIMMED:
            trimmed = max(self.trimmed, record.words[0])
            self._find_cold(self.rows.count, trimmed, &cold)
            if commit:
                self.trimmed = trimmed
                self.cold_rows, self.cold_end = cold.rows, cold.end
        elif t.take != TAKE_STREAM:
            at = self.rows.place_of(record.segment_id)
            if at == self.rows.count or self.rows.at(at).segment_id != record.segment_id:
                self._refuse(&record, "the segment is not known")
            row = self.rows.at(at)
            self._check_flags(&record, t, row.flags)
            self._check_take(&record, t, row)
            self._find_cold(at if t.sets & ROW_COLD else self.rows.count, self.trimmed, &cold)
            if commit and (t.sets | t.clears or t.take != TAKE_NOTHING):
                self._take(&record, t, row)
                before = row.flags
                row.flags = (before | t.sets) & ~t.clears
                self.rows.changed(at, before)
                self.cold_rows, self.cold_end = cold.rows, cold.end
        if commit:
            self.applied += 1
        return 0

    cdef Transition *_transition(self, ParsedRecord *record) except NULL:
        """The transition of a record."""
        cdef int i
        cdef Transition *t
        for i in range(self.variants[record.type]):
            t = &self.table[record.type][i]
            if t.tier < 0 or (<uint64_t> t.tier == record.words[0]
                              and <uint64_t> t.copy_tier == record.words[2]):
                return t
        if record.type == LOCAL_EVICTED:
            self._refuse(record, f"tier {record.words[2]} does not justify to drop "
                                 f"tier {record.words[0]}")
        self._refuse(record, "the table has no transition for it")

    cdef int _check_flags(self, ParsedRecord *record, Transition *t, uint32_t flags) except -1:
        cdef uint32_t missing = t.needs & ~flags
        if missing:
            self._refuse(record, self.reasons[missing & -missing])
        return 0

    cdef int _check_take(self, ParsedRecord *record, Transition *t, Row *row) except -1:
        cdef str key
        if t.take in (TAKE_KEY, TAKE_OBJECT, TAKE_SAME_KEY, TAKE_NO_KEY):
            if record.text_bytes[0] == 0:
                self._refuse(record, "the key is empty")
            if not _same_key(record, row) and (t.take != TAKE_KEY or row.flags & ROW_COLD):
                key = row.texts[:row.key_bytes].decode("utf-8")
                self._refuse(record, f"its object is {key}")
        if t.take == TAKE_OBJECT and (record.words[0], record.words[1]) != (row.bytes, row.crc64):
            self._refuse(record, "size or crc64 are not those of the compressed segment")
        if t.take == TAKE_COMPRESSED and row.flags & ROW_COLD and (
            record.words[0] != row.bytes or record.words[2] != row.crc64
        ):
            self._refuse(record, "the object in tier 2 has other contents")
        return 0

    cdef int _take(self, ParsedRecord *record, Transition *t, Row *row) except -1:
        """Take what a record says beside flags; what may fail comes first."""
        if t.take == TAKE_KEY:
            # Under the same key, the etag of an object that is there stays.
            if not (row.flags & ROW_KEY and _same_key(record, row)):
                self.rows.set_texts(row, record.texts[0], record.text_bytes[0], b"", 0)
        elif t.take == TAKE_OBJECT:
            self.rows.set_texts(row, record.texts[0], record.text_bytes[0],
                                record.texts[1], record.text_bytes[1])
        elif t.take == TAKE_NO_KEY:
            self.rows.set_texts(row, b"", 0, b"", 0)
        elif t.take == TAKE_COMPRESSED:
            row.bytes, row.table_bytes = record.words[0], record.words[1]
            row.crc64, row.raw_crc64 = record.words[2], record.words[3]
        elif t.take == TAKE_RECENCY:
            row.recency = self.applied
        return 0

    # --- SegmentOpened --------------------------------------------------------------------------

    cdef int _open(self, ParsedRecord *record, Transition *t, bint commit) except -1:
        """A segment begins. What was opened later and never sealed was lost with an unproven tail.

        Under a higher epoch it may also begin below what an earlier writer sealed: that writer was
        replaced before tier 2 had all of it, and the rest was lost with its root.
        """
        cdef uint64_t at = self.rows.place_of(record.segment_id)
        cdef int64_t keep = at
        cdef Row *row = NULL
        cdef uint32_t before
        self._open_at(record, at, &keep)
        if not commit:
            return 0
        if (keep == <int64_t> at and at < self.rows.count
                and self.rows.at(at).segment_id == record.segment_id):
            self.rows.cut(at + 1)
            row = self.rows.at(at)
        else:
            self.rows.cut(keep)
            row = self.rows.append()
            row.segment_id = record.segment_id
            at = self.rows.count - 1
        before = row.flags
        row.base_offset, row.epoch = record.words[0], record.words[1]
        row.recency = self.applied
        self.rows.changed(at, before)
        return 0

    cdef int _open_at(self, ParsedRecord *record, uint64_t at, int64_t *keep) except -1:
        """Check where a segment begins; says how many rows stay in front of a new one."""
        cdef uint64_t base = record.words[0], i
        cdef Row *before
        for i in range(at, self.rows.count):
            if self.rows.at(i).flags & ROW_SEALED:
                self._refuse(record, "it or a later segment is sealed already")
        if at == 0:
            return 0
        before = self.rows.at(at - 1)
        if not before.flags & ROW_SEALED:
            if base >= before.base_offset:
                return 0
        elif base == before.end_offset:
            return 0
        i = at
        while i > self.cold_rows and self.rows.at(i - 1).base_offset > base:
            i -= 1
        # Rows further back are sealed, so a base beyond the last is none of theirs.
        if (i <= self.cold_rows or not self.rows.at(i - 1).flags & ROW_SEALED
                or self.rows.at(i - 1).base_offset != base
                or self._newest_epoch(i - 1, at) >= record.words[1]):
            self._refuse(record, f"base {base} does not continue segment {before.segment_id}")
        keep[0] = i - 1
        return 0

    cdef uint64_t _newest_epoch(self, uint64_t first, uint64_t stop) except? 0:
        cdef uint64_t newest = 0, i
        for i in range(first, stop):
            newest = max(newest, self.rows.at(i).epoch)
        return newest

    # --- SealSegment ----------------------------------------------------------------------------

    cdef bint _is_same_seal(self, ParsedRecord *record, Row *row) noexcept:
        return (row.end_offset == record.offset and row.raw_bytes == record.words[0]
                and row.segment_crc64 == record.words[1] and row.ext_id == record.words[2]
                and row.coordinator_watermark == record.words[3]
                and (row.flags & ROW_FLUSH_FAILURE != 0) == (record.words[4] != 0))

    cdef uint64_t _base_of_seal(self, ParsedRecord *record, uint64_t at) except? 0:
        """Base offset of a segment that is sealed now; by contiguity if its opening was lost."""
        cdef Row *before
        if at < self.rows.count:
            if self.rows.at(at).segment_id != record.segment_id:
                self._refuse(record, "a later segment was opened before it")
            return self.rows.at(at).base_offset
        if at == 0:
            return 0
        before = self.rows.at(at - 1)
        if not before.flags & ROW_SEALED:
            self._refuse(record, "neither it was opened, nor the one before it sealed")
        return before.end_offset

    cdef int _seal(self, ParsedRecord *record, Transition *t, bint commit) except -1:
        """A segment became immutable; the one opened behind a cut tail begins lower than it was
        said."""
        cdef uint64_t at = self.rows.place_of(record.segment_id), end = record.offset
        cdef uint64_t base = self._base_of_seal(record, at)
        cdef Row *row = NULL if at == self.rows.count else self.rows.at(at)
        cdef Row *other
        cdef ColdPrefix cold
        cdef uint32_t before
        if row != NULL and row.flags & ROW_SEALED:
            if not self._is_same_seal(record, row):
                self._refuse(record, "it was sealed before with other values")
            return 0
        if end <= base:
            self._refuse(record, f"end {end} is not beyond base {base}")
        if at:
            other = self.rows.at(at - 1)
            if other.flags & ROW_SEALED and other.end_offset != base:
                self._refuse(record, f"base {base} does not continue {other.end_offset}")
        if at + 1 < self.rows.count:
            other = self.rows.at(at + 1)
            if end != other.base_offset if other.flags & ROW_SEALED else end > other.base_offset:
                self._refuse(record, f"end {end}, but the next segment is at {other.base_offset}")
        cold.rows, cold.end = self.cold_rows, self.cold_end
        if at == self.cold_rows and end <= self.trimmed:
            cold.rows, cold.end = at + 1, end
            self._extend_cold(self.rows.count, self.trimmed, &cold)
        if not commit:
            return 0
        if row == NULL:
            row = self.rows.append()
            row.segment_id, row.base_offset = record.segment_id, base
        elif at + 1 < self.rows.count:
            other = self.rows.at(at + 1)
            other.base_offset = end
            self.rows.changed(at + 1, other.flags)
        row.end_offset, row.recency = end, self.applied
        row.raw_bytes, row.segment_crc64 = record.words[0], record.words[1]
        row.ext_id, row.coordinator_watermark = record.words[2], record.words[3]
        before = row.flags
        row.flags = (before | t.sets | (ROW_FLUSH_FAILURE if record.words[4] else 0)) & ~t.clears
        self.rows.changed(at, before)
        self.cold_rows, self.cold_end = cold.rows, cold.end
        return 0

    cdef int _find_cold(self, uint64_t gains, uint64_t trimmed, ColdPrefix *found) except -1:
        """Find the contiguous prefix that is in tier 2 or trimmed, once row `gains` is cold.

        It is looked for before anything changes, because looking may fail: a page may be loaded.
        """
        found.rows, found.end = self.cold_rows, self.cold_end
        if gains == self.cold_rows or trimmed > self.trimmed:
            self._extend_cold(gains, trimmed, found)
        return 0

    cdef int _extend_cold(self, uint64_t gains, uint64_t trimmed, ColdPrefix *found) except -1:
        cdef Row *row
        while found.rows < self.rows.count:
            row = self.rows.at(found.rows)
            if not row.flags & ROW_SEALED or not (
                row.flags & ROW_COLD or found.rows == gains or row.end_offset <= trimmed
            ):
                break
            found.end = row.end_offset
            found.rows += 1
        return 0

    # --- look-ups -------------------------------------------------------------------------------

    def __len__(self):
        return self.rows.count

    def row(self, uint64_t i):
        """The row at a place in order; `IndexError` beyond the last."""
        if i >= self.rows.count:
            raise IndexError(i)
        return make_row(self.rows.at(i))

    def by_id(self, uint64_t segment_id):
        """The row of a segment, None where there is none."""
        cdef uint64_t at = self.rows.place_of(segment_id)
        if at >= self.rows.count or self.rows.at(at).segment_id != segment_id:
            return None
        return make_row(self.rows.at(at))

    def place_after(self, uint64_t segment_id):
        """Place of the first row whose id is above; `len` where there is none."""
        return self.rows.count if segment_id + 1 == 0 else self.rows.place_of(segment_id + 1)

    def by_offset(self, uint64_t offset):
        """The row that holds (or, when active, may hold) an offset; None outside of all."""
        cdef int64_t at = -1
        cdef Row *row
        if self.rows.count and offset >= self.trimmed:
            at = self.rows.place_of_offset(offset)
        if at < 0:
            return None
        row = self.rows.at(at)
        if row.flags & ROW_SEALED and offset >= row.end_offset:
            return None
        return make_row(row)

    def last_sealed(self):
        """The newest sealed row, None when there is none; looks at unsealed ones only."""
        cdef uint64_t i = self.rows.count
        while i:
            i -= 1
            if self.rows.at(i).flags & ROW_SEALED:
                return make_row(self.rows.at(i))
        return None

    def pending(self, int kind):
        """Ids of the segments with some work pending, ascending.

        The kinds are 0: to compress, 1: to upload, 2: to delete, 3: to fetch.
        Pages without any are passed over. What was trimmed needs nothing but its deletion.
        """
        cdef uint64_t p, i
        cdef Row *row
        cdef list found = []
        if not 0 <= kind < PENDING_COUNT:
            raise ValueError(f"no kind of work is {kind}")
        for p in range(self.rows.page_count()):
            if self.rows.pages[p].pending[kind] == 0:
                continue
            for i in range(p * 4096, min(self.rows.count, (p + 1) * 4096)):
                row = self.rows.at(i)
                needed = kind == PENDING_DELETE or row.end_offset > self.trimmed
                if needed and pending_of(row.flags) >> kind & 1:
                    found.append(row.segment_id)
        return found
