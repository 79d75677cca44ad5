# The fold of manifest records into rows: a state machine whose table is handed in from Python.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.manifest cimport ParsedRecord
from aof2._core.manifest_rows cimport Row, RowStore

cdef enum:
    VARIANTS_MAX = 4             # transitions of one record type

# What a transition takes from its record beside flags, and what it checks for that.
cdef enum Take:
    TAKE_NOTHING = 0
    TAKE_OPENED = 1
    TAKE_SEALED = 2
    TAKE_COMPRESSED = 3
    TAKE_KEY = 4
    TAKE_OBJECT = 5
    TAKE_SAME_KEY = 6
    TAKE_NO_KEY = 7
    TAKE_RECENCY = 8
    TAKE_TRIMMED = 9
    TAKE_STREAM = 10             # about the whole stream: no row

cdef struct Transition:
    uint32_t needs
    uint32_t sets
    uint32_t clears
    int take
    int tier                     # of LocalEvicted, -1: any
    int copy_tier


# The contiguous prefix of rows that are in tier 2 or trimmed, and where the last of them ends.
cdef struct ColdPrefix:
    uint64_t rows
    uint64_t end


cdef class Fold:
    cdef readonly RowStore rows
    cdef Transition table[20][VARIANTS_MAX]
    cdef int variants[20]
    cdef dict reasons            # `{flag: why a row without it cannot take a record}`
    cdef readonly uint64_t applied
    cdef readonly uint64_t trimmed
    cdef readonly uint64_t cold_end
    cdef uint64_t cold_rows

    cdef int fold(self, const char *payload, uint64_t n, bint commit) except -1
    cdef int _refuse(self, ParsedRecord *record, str why) except -1
    cdef Transition *_transition(self, ParsedRecord *record) except NULL
    cdef int _check_flags(self, ParsedRecord *record, Transition *t, uint32_t flags) except -1
    cdef int _check_take(self, ParsedRecord *record, Transition *t, Row *row) except -1
    cdef int _take(self, ParsedRecord *record, Transition *t, Row *row) except -1
    cdef int _open(self, ParsedRecord *record, Transition *t, bint commit) except -1
    cdef int _open_at(self, ParsedRecord *record, uint64_t at, int64_t *keep) except -1
    cdef int _seal(self, ParsedRecord *record, Transition *t, bint commit) except -1
    cdef bint _is_same_seal(self, ParsedRecord *record, Row *row) noexcept
    cdef uint64_t _newest_epoch(self, uint64_t first, uint64_t stop) except? 0
    cdef uint64_t _base_of_seal(self, ParsedRecord *record, uint64_t at) except? 0
    cdef int _find_cold(self, uint64_t gains, uint64_t trimmed, ColdPrefix *found) except -1
    cdef int _extend_cold(self, uint64_t gains, uint64_t trimmed, ColdPrefix *found) except -1
