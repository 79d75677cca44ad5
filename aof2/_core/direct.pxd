# Reading and writing files past the page cache, in whole blocks.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.directory cimport Directory

# Have a descriptor's reads and writes go past the page cache, or no longer; False: it cannot.
cdef bint past_cache(int fd, bint wanted) noexcept nogil
# A descriptor for direct reads or writes of a file, or -1 where the file system has none.
cdef int direct_open(Directory directory, str name, bint writable) except -2
# Whether the page cache has all of a stretch of a file, or nobody can tell.
cdef bint is_cached(int fd, uint64_t position, uint64_t n) noexcept nogil
# Memory for whole blocks, as direct reads and writes need it; NULL: there is none.
cdef uint8_t *direct_memory(uint64_t n) noexcept nogil
# Write bytes [position, position + n) of a file, or the first of them; how many goes to `done`.
#
# Bytes from the last block border before `position` on are in `block`, which this keeps so. A last
# block that is not full is left for later (`done` is 0 then), unless `last`: then zeros follow it,
# and the next write writes it again. 0 or an errno; EINVAL: not on this file system after all.
cdef int direct_write(int fd, uint8_t *block, const uint8_t *data, uint64_t position, uint64_t n,
                      bint last, uint64_t *done) noexcept nogil
