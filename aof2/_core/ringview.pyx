"""Reading a landing ring: the newest bytes of a stream, before they are written out.

A reader of another process waits for more of them here: it looks for a moment, as long as that has
been worth while lately, then sleeps until the writer wakes it.

The writer may overwrite the oldest bytes while they are being read, so every copy is checked
afterwards against the oldest coordinate still held; the frames' own checksums are the second line.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EROFS, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from aof2._core.layout cimport FORMAT_VERSION, PAGE_BYTES, RingHeader
from aof2._core.directory cimport Directory
from aof2._core.posix cimport check_errno, sys_close, sys_map, sys_unmap, tell_store

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire(const void *at)
    void fence()
    uint32_t load_acquire32(const void *at)
    void store_release32(void *at, uint32_t value)

cdef extern from "ringwait.h" nogil:
    bint RING_CAN_WAIT
    void ring_barrier()
    void ring_futex_wait(uint32_t *word, int64_t wait_ns)
    void ring_wake(uint32_t *word)

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    void spin_turn(unsigned int turn)
    int may_spin()

cdef extern from "<sys/mman.h>" nogil:
    void *c_mmap "mmap"(void *at, size_t n, int protection, int flags, int fd, long position)
    int c_madvise "madvise"(void *at, size_t n, int advice)
    int PROT_NONE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

cdef extern from * nogil:
    """
    #ifndef MADV_DONTFORK
    #define MADV_DONTFORK 10
    #endif
    """
    int MADV_DONTFORK


cdef enum:
    SPIN_NS = 50000              # waking a sleeper takes about as long
    SPIN_LEAST_NS = 1000


cdef int map_ring(
    int fd, uint64_t ring_bytes, bint writable, void **header, void **data
) noexcept nogil:
    cdef int error
    cdef void *at
    cdef void *out
    error = sys_map(fd, PAGE_BYTES, 0, writable, NULL, header)
    if error:
        return error
    at = c_mmap(NULL, 2 * ring_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if at == MAP_FAILED:
        error = errno
        sys_unmap(header[0], PAGE_BYTES)
        return error
    error = sys_map(fd, ring_bytes, PAGE_BYTES, writable, at, &out)
    if error == 0:
        error = sys_map(fd, ring_bytes, PAGE_BYTES, writable, <uint8_t *> at + ring_bytes, &out)
    if error:
        unmap_ring(header[0], at, ring_bytes)
        return error
    data[0] = at
    if writable:
        # A forked child must not be able to write into its parent's ring.
        c_madvise(header[0], PAGE_BYTES, MADV_DONTFORK)
        c_madvise(at, 2 * ring_bytes, MADV_DONTFORK)
    return 0


cdef void unmap_ring(void *header, void *data, uint64_t ring_bytes) noexcept nogil:
    if header != NULL:
        sys_unmap(header, PAGE_BYTES)
    if data != NULL:
        sys_unmap(data, 2 * ring_bytes)


cdef const uint8_t *ring_at(
    RingView ring, uint64_t coordinate, uint64_t *available
) noexcept nogil:
    available[0] = ring.ring_bytes
    return ring.data + (coordinate & (ring.ring_bytes - 1))


cdef class RingView:
    """A read-only mapping of a stream's landing ring.

    Args:
        directory, name: The ring file.
        stream_uuid: 16 bytes; a ring of another stream raises `ValueError`.
        waits: Map the header's waiter word writable, where that is allowed, so that `wait` sleeps.

    Raises `OSError` when there is no ring, `ValueError` when the file is not a ring of this stream.
    """

    def __init__(self, Directory directory not None, str name not None, bytes stream_uuid not None,
                 *, bint waits=False):
        cdef uint64_t size
        cdef void *header = NULL
        cdef void *data = NULL
        cdef int error
        cdef int fd = self._open(directory, name, &waits)
        try:
            self.path = directory.join(name)
            size = os.fstat(fd).st_size
            if size < 2 * PAGE_BYTES or (size - PAGE_BYTES) & (size - PAGE_BYTES - 1):
                raise ValueError(f"{self.path} is not a landing ring: {size} bytes")
            with nogil:
                error = map_ring(fd, size - PAGE_BYTES, False, &header, &data)
            check_errno(error, "map the ring", self.path)
            self.header = <const RingHeader *> header
            self.data = <const uint8_t *> data
            self.ring_bytes = size - PAGE_BYTES
            if waits and RING_CAN_WAIT and sys_map(fd, PAGE_BYTES, 0, True, NULL, &self._page) == 0:
                self._waiters = &(<RingHeader *> self._page).waiters
                self._spin_ns = SPIN_NS if may_spin() else 0
        finally:
            sys_close(fd)
        if (memcmp(self.header.magic, <const char *> b"AOF2RING", 8) != 0
                or self.header.version > FORMAT_VERSION
                or self.header.ring_bytes != self.ring_bytes
                or memcmp(self.header.stream_uuid, <const char *> stream_uuid, 16) != 0):
            raise ValueError(f"{self.path} is not a landing ring of this stream")

    cdef int _open(self, Directory directory, str name, bint *waits) except -1:
        if waits[0]:
            try:
                return directory.open_file(name, True)
            except PermissionError:
                waits[0] = False
            except OSError as error:
                if error.errno != EROFS:
                    raise
                waits[0] = False
        return directory.open_file(name)

    def __dealloc__(self):
        if self._page != NULL:
            sys_unmap(self._page, PAGE_BYTES)
        unmap_ring(<void *> self.header, <void *> self.data, self.ring_bytes)

    @property
    def closed(self):
        """True when the writer gave this ring up: open the file of that name again."""
        return self.header.closed != 0

    @property
    def segment_id(self):
        """The segment whose bytes arrive now."""
        return load_acquire(&self.header.segment_id)

    def written(self):
        """Ring coordinate below which the segment files have the bytes."""
        return load_acquire(&self.header.written)

    def tail(self):
        """Ring coordinate just past the newest whole frame."""
        return load_acquire(&self.header.tail)

    def offsets(self):
        """`(next_offset, durable_offset)` of the stream."""
        return load_acquire(&self.header.next_offset), load_acquire(&self.header.durable_offset)

    def copy(self, uint64_t coordinate, uint64_t n):
        """Copy `n` bytes from a coordinate on.

        Returns:
            The bytes, or None when the ring no longer holds them all: they are in the segment file
            then.
        """
        if n > self.ring_bytes:
            return None
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
        memcpy(PyBytes_AS_STRING(out), self.data + (coordinate & (self.ring_bytes - 1)), n)
        # The check must come after the copy, in program order and in memory order.
        fence()
        return out if load_acquire(&self.header.oldest) <= coordinate else None

    @property
    def can_wait(self):
        """Whether `wait` can be used: the waiter word could be mapped writable."""
        return self._waiters != NULL

    @property
    def waiters(self):
        """Whether a reader asked to be woken since the writer last did so."""
        return load_acquire32(&self.header.waiters) != 0

    def wait(self, uint64_t next_offset, uint64_t durable_offset, double limit_s):
        """Wait, without the GIL, until the stream's offsets are others than these two.

        Ends early when the ring is given up or somebody calls `wake`, and after `limit_s` seconds
        at the latest: a writer that died wakes nobody.
        """
        cdef int64_t limit_ns = <int64_t> (limit_s * 1e9)
        if self._waiters == NULL:
            raise ValueError(f"{self.path} was not mapped for waiting")
        with nogil:
            self._wait(next_offset, durable_offset, limit_ns)

    cdef bint _moved(self, uint64_t next_offset, uint64_t durable_offset) noexcept nogil:
        return (load_acquire(&self.header.next_offset) != next_offset
                or load_acquire(&self.header.durable_offset) != durable_offset
                or self.header.closed != 0)

    cdef void _wait(
        self, uint64_t next_offset, uint64_t durable_offset, int64_t limit_ns
    ) noexcept nogil:
        cdef int64_t began = monotonic_ns(), now = began
        cdef unsigned int turn = 0
        while now - began < min(self._spin_ns, limit_ns):
            if self._moved(next_offset, durable_offset):
                return
            spin_turn(turn)
            turn += 1
            if turn % 16 == 0:
                now = monotonic_ns()
        store_release32(self._waiters, 1)
        ring_barrier()
        if not self._moved(next_offset, durable_offset):
            ring_futex_wait(self._waiters, limit_ns)
        if self._spin_ns == 0 and not may_spin():
            return
        # Spinning is worth while where it would have saved the sleep.
        if monotonic_ns() - began <= SPIN_NS:
            self._spin_ns = SPIN_NS
        else:
            self._spin_ns = self._spin_ns // 2 if self._spin_ns > SPIN_LEAST_NS else 0

    def wake(self):
        """Have everybody look who waits, in any process."""
        if self._waiters != NULL:
            ring_wake(self._waiters)

    def retire(self):
        """Tell everybody who has this ring mapped that it is given up, as its writer died."""
        if self._waiters != NULL:
            (<RingHeader *> self._page).closed = 1
            tell_store(self._page, sizeof(RingHeader))
            ring_wake(self._waiters)
