# The bytes of a `.seg.zst` file, made piece by piece.

from libc.stdint cimport uint64_t

from aof2._core.compressed_cut cimport SealedSource
from aof2._core.layout cimport WarmTableHeader


cdef class Packer:
    cdef readonly object info    # CompressedInfo; None before the last piece was made
    cdef SealedSource sealed
    cdef object compressor
    cdef object prover           # decompresses what was made; None where nobody asked for proof
    cdef list hashes             # of the pieces so far, for the seek table
    cdef uint64_t position
    cdef uint64_t crc

    # The next bytes of the file; None behind the last ones, which are both tables.
    cdef bytes next(self)
    cdef bytes _tables(self)
    cdef bytes _compress(self, object raw, Py_ssize_t known)


# `CompressedInfo` of a file of `n` bytes.
cdef object make_info(const WarmTableHeader *header, uint64_t n, uint64_t table_bytes, uint64_t crc)
