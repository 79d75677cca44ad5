# Finding the next frame that validates, behind damage.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.frame cimport FrameView

# The position of the first whole frame behind the damaged one at `position`, and its contents in
# `view`; 0 when there is none before `end`. `data` is where position 0 would be. Only frames count
# whose ordinals lie beyond `ordinal`, the damaged one's, and end at or before `records`.
cdef uint64_t find_frame(const uint8_t *data, uint64_t position, uint64_t end, uint64_t salt,
                         uint64_t ordinal, uint64_t records, FrameView *view) noexcept nogil
