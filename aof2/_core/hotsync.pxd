# Making the hot log durable.

from libc.stdint cimport int64_t, uint64_t

from aof2._core.hotlog cimport HotLog

# One turn; the caller holds the lock and has set `syncing`. Returns with the lock held.
cdef int hot_flush_once(HotLog *log) noexcept nogil
# Make everything up to a coordinate and an offset durable, on this thread unless another one is at
# it; ETIMEDOUT, or the errno that poisoned it.
cdef int hot_flush(HotLog *log, uint64_t target, uint64_t target_offset,
                   int64_t timeout_ns) noexcept nogil
# Have the flush thread do so, and wait for it; the same answers.
cdef int hot_await_flush(HotLog *log, uint64_t offset, int64_t timeout_ns) noexcept nogil
# Wait until `changes` differs from `seen`, or for a time.
cdef void hot_wait_change(HotLog *log, uint64_t seen, int64_t timeout_ns) noexcept nogil
# State the durable position in the active file's next slot and sync it; 0 or an errno.
cdef int hot_confirm(HotLog *log) noexcept nogil
