# Ranges of a `.seg.zst` file through a held descriptor.

from libc.stdint cimport uint64_t

from aof2._core.compressed_table cimport WarmTable
from aof2._core.directory cimport Directory

# `(fetch, file_bytes, path)` of a file; `fetch(start, end)` reads on after its name has gone.
cdef tuple open_ranges(Directory directory, str name)

# The tables of the file behind a descriptor; `table_bytes` 0: their size is taken from its end.
cdef WarmTable read_table(int fd, str path, uint64_t file_bytes, uint64_t table_bytes)

# Exactly the bytes [start, end) of it; ObjectCorrupt where it ends early.
cdef bytes read_range(int fd, str path, uint64_t start, uint64_t end)

cdef uint64_t file_size(int fd) except? 0
