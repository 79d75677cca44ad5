"""Single records of hot segments at random, in one call.

Held mappings and the writer's own index answer; whatever they cannot answer, or what does not check
in any way, goes to the caller's slow path, which knows all copies and all errors.

On the way from an index entry to the wanted frame only lengths and ordinals are looked at. That is
safe: the frame that is returned is verified, and its checksum covers position, ordinal and salt, so
damage on the way can lead astray, but never to a wrong record.

Everything runs under the GIL, which appends need too. So nothing in the landing ring is overwritten
while it is read here, and a ring that is being exchanged is not unmapped before the GIL was given.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aof2._core.frame cimport FRAME_OK, FrameView, check_frame
from aof2._core.hotlog cimport HOT_FORKED, HotFile, HotLog
from aof2._core.layout cimport (
    END_BYTES,
    FRAME_HEADER_BYTES,
    FRAMES_AT,
    FrameHeader,
    IndexEntry,
    KIND_BATCH,
    KIND_END,
    pad8,
)
from aof2._core.manifest_fold cimport Fold
from aof2._core.mapping cimport MappedSegment
from aof2._core.record cimport Record, make_record
from aof2._core.run cimport run_find
from aof2._core.unsealed cimport UnsealedLookup

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void prefetch(const void *at)

cdef enum:
    HELD_MAX = 64
    LINE_BYTES = 64
    AROUND_BYTES = 512           # so far behind the place where it should be a record is fetched
    WAY_BYTES_MAX = 8192         # one frame that is larger than this has no headers on the way
    TOUCH_EVERY = 64             # so many hits are one use, for whoever decides what may go first


cdef bint _frame_of(
    const uint8_t *data, uint64_t *position, uint64_t limit, uint64_t ordinal
) noexcept nogil:
    """Go from the frame border at `position`, whose bytes are `data`, to the frame that holds a
    record; False where lengths and ordinals lead nowhere before `limit`."""
    cdef FrameHeader header
    cdef uint64_t start = position[0], at = position[0], following
    while at + FRAME_HEADER_BYTES <= limit:
        memcpy(&header, data + (at - start), FRAME_HEADER_BYTES)
        following = at + pad8(header.frame_bytes)
        if header.frame_bytes < FRAME_HEADER_BYTES or following > limit or header.ordinal > ordinal:
            return False
        if following + FRAME_HEADER_BYTES > limit:
            position[0] = at
            return True
        memcpy(&header, data + (following - start), FRAME_HEADER_BYTES)
        if header.frame_bytes == 0 or header.ordinal > ordinal:
            position[0] = at
            return True
        at = following
    return False


cdef uint64_t _guess(
    const uint8_t *data, const IndexEntry *entry, const IndexEntry *following, uint64_t ordinal
) noexcept nogil:
    """Where the frame of a record lies if all between two index entries are of one size, and its
    header says so; else the first entry's position."""
    cdef FrameHeader header
    cdef uint64_t at = (ordinal - entry.ordinal) * (following.position - entry.position)
    cdef uint64_t line
    at = at // (following.ordinal - entry.ordinal) & ~<uint64_t> 7
    if at + FRAME_HEADER_BYTES > following.position - entry.position:
        return entry.position
    memcpy(&header, data + at, FRAME_HEADER_BYTES)
    if header.ordinal == ordinal:
        return entry.position + at
    # The way there goes from header to header, each of which says where the next one lies. What
    # lies on it is fetched at once instead of one by one.
    if following.position - entry.position > WAY_BYTES_MAX:
        return entry.position
    for line in range(min(at + AROUND_BYTES, following.position - entry.position) // LINE_BYTES):
        prefetch(data + line * LINE_BYTES)
    return entry.position


cdef uint64_t _start(
    const uint8_t *data, const IndexEntry *entry, const IndexEntry *end, uint64_t limit,
    uint64_t ordinal,
) noexcept nogil:
    """Position to look for a record's frame from; `data` is where position 0 would be."""
    cdef const IndexEntry *following = entry + 1
    if (following >= end or following.position > limit or following.ordinal <= entry.ordinal
            or following.position <= entry.position):
        return entry.position
    return _guess(data + entry.position, entry, following, ordinal)


cdef Record _record_at(
    const uint8_t *at, uint64_t available, uint64_t position, uint64_t salt, uint64_t base_offset,
    uint64_t ext_id, uint64_t offset
):
    """The record of the frame there, verified; None unless it is the wanted one."""
    cdef FrameView frame
    cdef uint32_t ends[2]
    cdef int64_t timestamp_ns
    cdef uint64_t i
    if check_frame(at, available, position, salt, -1, &frame) != FRAME_OK:
        return None
    i = offset - base_offset - frame.ordinal
    if frame.kind == KIND_END or i >= frame.count:
        return None
    timestamp_ns = frame.timestamp_ns
    if frame.has_ext_id:
        ext_id = frame.ext_id
    if frame.kind != KIND_BATCH:
        ends[0], ends[1] = 0, <uint32_t> frame.data_bytes
    else:
        memcpy(ends, frame.ends + 4 * i, 8)
        if ends[0] > ends[1] or ends[1] > frame.data_bytes:
            return None
        if frame.timestamps != NULL:
            memcpy(&timestamp_ns, frame.timestamps + 8 * i, 8)
        if frame.ext_ids != NULL:
            memcpy(&ext_id, frame.ext_ids + 8 * i, 8)
    return make_record(offset, timestamp_ns, ext_id, PyBytes_FromStringAndSize(
        <const char *> frame.data + ends[0], ends[1] - ends[0]))


cdef class PointReader:
    """`get` of a stream: from hot segments at once, from elsewhere by the slow path.

    Args:
        fold: Says what was trimmed.
        writer: The stream's writer.
        slow: `slow(offset, timeout=)` finds any record, or raises what is to be said.
        touch: `touch(segment_id)` notes that a segment is in use.
    """

    def __init__(self, Fold fold not None, UnsealedLookup writer not None, slow, touch):
        self._fold, self._writer, self._slow, self._touch = fold, writer, slow, touch
        self._held = []

    def get(self, offset, *, timeout=...):
        """One record, from wherever it is; see `Aof.get`."""
        cdef Record record = None
        if isinstance(offset, int) and 0 <= offset <= 0x7FFFFFFFFFFFFFFF:
            record = self._find(offset)
        return self._slow(offset, timeout=timeout) if record is None else record

    def keep(self, uint64_t segment_id, MappedSegment source not None):
        """Hold a mapped segment for the calls to come, sealed or not."""
        cdef HeldSegment held = HeldSegment.__new__(HeldSegment)
        cdef Py_ssize_t at = 0
        held.segment_id, held.source = segment_id, source
        held.base_offset = held.end_offset = source.start.base_offset
        if source.footer is not None:
            held.end_offset = source.footer.footer.end_offset
        self.drop(segment_id)
        if len(self._held) >= HELD_MAX:
            self._held.pop(0)
        while at < len(self._held) and (
            (<HeldSegment> self._held[at]).base_offset < held.base_offset
        ):
            at += 1
        self._held.insert(at, held)

    def drop(self, uint64_t segment_id):
        """Let go of a segment's bytes: its file may have gone, or it was sealed."""
        cdef HeldSegment held
        self._last = None
        for held in self._held:
            if held.segment_id == segment_id:
                self._held.remove(held)
                break

    def close(self):
        """From here on only the slow path answers."""
        self._held, self._last, self._writer = [], None, None

    cdef Record _find(self, uint64_t offset):
        cdef HeldSegment held = self._last
        cdef Record record
        if offset < self._fold.trimmed:
            return None
        if held is None or not held.base_offset <= offset < held.end_offset:
            held = self._holding(offset)
        if held is not None and offset < held.end_offset:
            record = self._in_sealed(held, offset)
            if record is not None:
                self._last = held
                self._hits += 1
                if self._hits % TOUCH_EVERY == 0:
                    self._touch(held.segment_id)
            return record
        return None if self._writer is None else self._in_unsealed(offset)

    cdef HeldSegment _holding(self, uint64_t offset):
        cdef Py_ssize_t low = 0, high = len(self._held), middle
        while low < high:
            middle = (low + high) // 2
            if (<HeldSegment> self._held[middle]).base_offset <= offset:
                low = middle + 1
            else:
                high = middle
        return None if low == 0 else <HeldSegment> self._held[low - 1]

    cdef HeldSegment _unsealed_of(self, uint64_t segment_id):
        cdef HeldSegment held
        for held in self._held:
            if held.segment_id == segment_id and held.source.footer is None:
                return held
        return None

    cdef Record _in_sealed(self, HeldSegment held, uint64_t offset):
        cdef MappedSegment source = held.source
        cdef const IndexEntry *entries = source._index()
        cdef const IndexEntry *entry
        cdef uint64_t position = FRAMES_AT, limit = source.footer.footer.end_position + END_BYTES
        cdef uint64_t ordinal = offset - held.base_offset
        if entries == NULL:
            return None
        entry = run_find(entries, <uint32_t> source.footer.footer.index_count, ordinal)
        # Only what was read from the medium before: a page that cannot be read is the slow path's.
        if entry != NULL:
            limit = min(limit, source._read_end(entry.position))
            position = _start(source._data, entry, entries + source.footer.footer.index_count,
                              limit, ordinal)
        else:
            limit = min(limit, source._read_end(position))
        if position & 7 or position < FRAMES_AT or not _frame_of(
            source._data + position, &position, limit, ordinal
        ):
            return None
        return _record_at(source._data + position, limit - position, position, source.header.salt,
                          held.base_offset, source.start.ext_id, offset)

    cdef Record _in_unsealed(self, uint64_t offset):
        cdef HotLog *log = self._writer.log
        cdef HotFile *file = log.oldest
        cdef HeldSegment held
        cdef const IndexEntry *entry
        cdef const uint8_t *data
        cdef uint64_t position = FRAMES_AT, start, end, coordinate, ordinal, limit, written
        if log.swapping or log.state == HOT_FORKED:
            return None
        while file != NULL and not file.base_offset <= offset < file.base_offset + file.run.records:
            file = file.next
        if file == NULL:
            return None
        ordinal = offset - file.base_offset
        entry = run_find(file.run.entries, file.run.entry_count, ordinal)
        if entry != NULL:
            position = entry.position
        start, end = position, (file.end if file.end else log.tail)
        coordinate = file.ring_base + position
        if (log.header != NULL and coordinate >= log.header.oldest
                and coordinate + log.ring_bytes >= log.tail + 8):
            data = log.ring + (coordinate & (log.ring_bytes - 1))
            limit = end - file.ring_base
        else:
            held = self._unsealed_of(file.file_id)
            if held is None:
                return None
            data = held.source._data + position
            # What was written out is read through the mapping: the other thread is through with it.
            written = load_acquire(&log.written)
            limit = min(min(end, written) - file.ring_base, held.source._bytes)
        if entry != NULL:
            position = _start(data - start, entry, file.run.entries + file.run.entry_count, limit,
                              ordinal)
        if not _frame_of(data + (position - start), &position, limit, ordinal):
            return None
        return _record_at(data + (position - start), limit - position, position, file.salt,
                          file.base_offset, file.ext_id, offset)
