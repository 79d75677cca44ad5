# The hot log: landing ring, the files it is written out to, and the two threads that do it.
#
# Who touches what: appends run under the GIL and own `tail`, `next_offset`, `ring_limit`,
# `file_limit` and the active file's run. `lock` guards the list of files, `written`, `durable`,
# `state` and the two turns (`writing`, `syncing`): one thread at a time writes out, one syncs.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aof2._core.bell cimport BellState
from aof2._core.layout cimport Footer, RingHeader
from aof2._core.placement cimport Placement
from aof2._core.run cimport Run

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_t:
        pass

cdef extern from "parking.h" nogil:
    ctypedef struct Parking:
        pass

cdef enum:
    WRITEBACK_BYTES = 4194304    # so much unsynced is worth telling the device to begin

cdef enum:
    SYNC_CLASSES = 17            # syncs by duration: up to 1 us, 4 us, 16 us, ...

cdef enum HotNews:
    NEWS_ROOM = 1                # written out, synced, a spare came: an append may fit now
    NEWS_DURABLE = 2             # the durable offset moved
    NEWS_TAIL = 4                # a record was appended

cdef enum HotState:
    HOT_OPEN = 0
    HOT_CLOSED = 1
    HOT_FORKED = 2
    HOT_POISONED = 3

cdef enum PutStatus:
    PUT_OK = 0
    PUT_NO_FILE = 1              # no active file has room: roll, or activate the spare
    PUT_RING_FULL = 2
    PUT_UNFLUSHED = 3
    PUT_NO_RING = 4              # there is no ring yet, or it is too small for the frame
    PUT_STOPPED = 5              # closed, forked or poisoned
    PUT_NO_MEMORY = 6

cdef struct HotFile:
    int fd
    int direct_fd                # for writes past the page cache; -1: through it
    uint64_t summed_to           # of those, position up to which `summed` covers the frames
    uint64_t summed              # crc64 of the bytes from the first frame on
    uint64_t file_id
    uint64_t salt
    uint64_t file_bytes
    uint64_t base_offset
    uint64_t ext_id
    uint64_t ring_base
    uint64_t first               # ring coordinate of its first frame
    uint64_t end                 # ring coordinate just past its END; 0 while it is active
    uint64_t end_position        # position of the END frame
    uint64_t durable_position    # position up to which the file is durable
    uint64_t slot_n
    uint64_t slot_position       # what the newest confirmation slot says
    uint64_t half                # coordinate at which the next file is asked for
    bint sealed                  # index and footer are written; `footer` says what
    Footer footer
    Run run
    HotFile *next

cdef struct HotLog:
    RingHeader *header           # NULL: there is no ring
    uint8_t *ring
    uint64_t ring_bytes
    uint64_t tail
    uint64_t next_offset
    uint64_t ring_limit          # no frame may end beyond this coordinate without asking again
    uint64_t file_limit          # the same for the active file; 0: there is none, or stopped
    uint64_t wake_at             # an append that passes this coordinate wakes the threads
    uint64_t written
    uint64_t durable
    uint64_t durable_offset
    uint8_t *block               # the last, unfinished block of what is written directly
    uint64_t write_out_bytes     # so many bytes are worth a write
    uint64_t unflushed_bytes_max
    uint64_t flush_bytes         # so many bytes that are not durable are synced at once
    bint strict                  # a slot is synced before a flush counts
    uint64_t changes             # counts every change that a waiter may wait for
    int64_t interval_ns          # below 0: no flush by time
    int64_t confirm_ns
    HotFile *oldest              # of the files that are not sealed yet
    HotFile *active
    HotFile *spare
    int state
    int failure                  # errno that poisoned it
    RingHeader *next_header      # a larger ring that waits to be taken into use, or NULL
    uint8_t *next_ring
    uint64_t next_ring_bytes
    uint64_t ring_wanted         # size that the ring thread was started for; 0: it was not
    bint ring_building           # somebody is making one
    bint ring_failed             # the ring thread could not make what was wanted
    bint swapping                # somebody takes the next one into use; nothing may be put
    int dirfd
    uint8_t stream_uuid[16]
    uint64_t sync_counts[17]     # SYNC_CLASSES of them; whoever syncs has the turn to count
    uint64_t sync_ns             # time of all syncs together
    uint64_t started             # coordinate below which the device was told to begin
    bint writing
    bint syncing
    bint stop
    bint threads
    uint64_t asked               # the flush thread syncs up to this offset without waiting
    int64_t spin_ns              # so long a wait for it may spin; 0: there is one processor only
    int64_t turn_ns              # how long the newest flush took that somebody had asked for
    int64_t ended_ns             # when it ended
    uint32_t waiting             # threads that wait for a flush
    uint64_t arrivals            # how often a thread began to
    uint64_t expected            # as many arrivals once those are back whom the newest flush served
    uint32_t unmet               # so many flushes do not look out for them, as they did not come
    Placement place              # where the flush thread runs while it is waited for
    bint linger                  # who waits comes back at once: the flush thread spins, too
    BellState *bell              # rung for news that somebody waits for; NULL: there is none
    uint32_t wanted              # such news (HotNews); the next of a kind rings and takes it away
    uint32_t news                # what it was rung for
    bint tail_wanted             # the next append tells of itself; under the GIL only
    bint flush_idle              # the flush thread sleeps until an append wakes it
    pthread_mutex_t lock
    pthread_cond_t work          # the write-out thread waits here
    pthread_cond_t flush_work    # the flush thread waits here
    Parking flushed              # who has asked for a flush waits here
    pthread_cond_t change        # everybody else waits here
    pthread_t writer_thread
    pthread_t flush_thread
    pthread_t ring_thread

# The file whose bytes lie at a coordinate; the caller holds the lock.
cdef HotFile *hot_file_at(HotLog *log, uint64_t coordinate) noexcept nogil
cdef HotLog *hot_new() noexcept nogil
cdef void hot_free(HotLog *log) noexcept nogil
# Wake the threads, and set where the next append does so again.
cdef void hot_poke(HotLog *log) noexcept nogil
# Have the flush thread sync up to an offset at once, for somebody who must not do it himself.
cdef void hot_ask(HotLog *log, uint64_t offset) noexcept nogil
# Ring for news, as far as somebody waits for it; the caller holds the lock.
cdef void hot_tell(HotLog *log, uint32_t news) noexcept nogil
# Let appends go as far as what is written out and durable allows.
cdef int hot_refresh(HotLog *log, uint64_t needed) noexcept nogil
# Write out up to a coordinate; 0 or an errno (then the log is poisoned). Without `last`, the last
# block of a file that is written directly may wait until it is full.
cdef int hot_write_out(HotLog *log, uint64_t target, bint last) noexcept nogil
# Give a file and what it holds back; nobody uses it any more.
cdef void hot_free_file(HotFile *file) noexcept nogil
# Make a larger ring and leave it in `next_header`; 0 or an errno.
cdef int hot_build_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil
# Have a thread do so, once in a log's life, beside the appends.
cdef void hot_want_ring(HotLog *log, uint64_t ring_bytes) noexcept nogil
# Take the turn to change the ring, which keeps puts out; False when there is no next one (for a
# change to it) or none at all (for giving it back).
cdef bint hot_begin_swap(HotLog *log, bint give_back) noexcept nogil
# Take the same turn for a close: what is put from here on would not be flushed any more.
cdef void hot_begin_close(HotLog *log) noexcept nogil
# Give the turn back without a change.
cdef void hot_end_swap(HotLog *log) noexcept nogil
# Give the ring back: everything in it is durable and nobody puts into it; ends the turn.
cdef void hot_drop_ring(HotLog *log) noexcept nogil
# Use the next ring from now on, and end the turn; everything in the old one must be written out.
cdef void hot_swap_ring(HotLog *log) noexcept nogil
cdef void hot_poison(HotLog *log, int failure) noexcept nogil
cdef void hot_announce(HotLog *log) noexcept nogil
