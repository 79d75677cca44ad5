# A log of everything that passes the seam and changes something.

from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef packed struct Step:
    uint32_t op
    int32_t answer               # what a hook before this one answered: the call failed, or was cut
    uint64_t inode               # of the file or directory; 0 where there is none
    uint64_t other               # of the directory that a name came from or goes to
    uint64_t position            # in the file; the address for stores and mappings
    uint64_t n
    uint32_t name_bytes
    uint32_t data_bytes
