# What links a sealed manifest chunk to its neighbours, read from the chunk's bytes.

from libc.stdint cimport uint8_t, uint64_t

from aof2._core.layout cimport Footer, StartBlock, StaticHeader


cdef struct SealedChunk:
    StaticHeader header
    StartBlock start
    Footer footer


# Take header, start block and footer apart; None, or what is wrong: text and position.
cdef object read_sealed(const uint8_t *data, uint64_t n, SealedChunk *chunk, str path)
