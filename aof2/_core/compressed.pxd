# Building and proving `.seg.zst` files; reading single ranges of them is compressed_read's.

from aof2._core.compressed_table cimport WarmTable

# Read a whole file through a descriptor and check everything that it says about itself.
cdef object check_whole(int fd, str path, object stop)
