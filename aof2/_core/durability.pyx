"""Waiting for what the writer's threads do, and telling of it.

Everything that waits releases the GIL, and looks at signals a few times a second.
"""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aof2._core.hotlog cimport (
    HOT_CLOSED,
    HOT_FORKED,
    HOT_OPEN,
    NEWS_DURABLE,
    NEWS_ROOM,
    NEWS_TAIL,
    hot_announce,
    hot_ask,
    hot_poison,
)
from aof2._core.hotsync cimport hot_await_flush

from aof2.errors import Closed, DurabilityLost, ForkedHandle, NotYetDurable, WouldBlockKind

cdef extern from "loglock.h" nogil:
    int64_t monotonic_ns()
    int pthread_mutex_lock(void *lock)
    int pthread_mutex_unlock(void *lock)

cdef enum:
    TELL_AFTER_NS = 1000000000   # a wait that lasts so long is logged

ROOM = NEWS_ROOM
DURABLE = NEWS_DURABLE
TAIL = NEWS_TAIL


cdef class Durability:
    """What a stream's writer does for those who wait for durability, or for news."""

    cdef int _check_running(self) except -1:
        if self.log.state == HOT_OPEN:
            return 0
        if self.log.state == HOT_FORKED:
            raise ForkedHandle("this handle belongs to the parent process: open the root with "
                               "readonly=True", stream=self.stream)
        if self.log.state == HOT_CLOSED:
            raise Closed("the stream is closed: open it again", stream=self.stream)
        raise DurabilityLost(
            f"a write or sync failed ({os.strerror(self.log.failure)}), the writer has stopped; "
            f"records below offset {self.log.durable_offset} are durable: look at the device, then "
            "reopen the stream", stream=self.stream, path=self.directory.path,
            offset=self.log.durable_offset,
        )

    cdef double _limit(self, object timeout) except? -2.0:
        """The seconds a call may wait; below 0: for ever."""
        if timeout is ...:
            return self.default_timeout_s
        return -1.0 if timeout is None else max(0.0, float(timeout))

    cdef int _tell(self, object kind, int64_t waited, bint *told) except -1:
        """Have the host warn, once in a wait, when it has lasted for a second."""
        if waited >= TELL_AFTER_NS and not told[0]:
            told[0] = True
            self.host.on_waiting(kind, waited * 1e-9)
        return 0

    cdef int _wait_durable(self, uint64_t next_offset, object timeout) except -1:
        """Wait until everything below `next_offset` is durable; flushes if nobody does."""
        cdef int64_t began = monotonic_ns(), left = WAIT_SLICE_NS
        cdef double limit_s = self._limit(timeout)
        cdef bint told = False
        cdef int error
        while self.log.durable_offset < next_offset:
            self._check_running()
            if limit_s >= 0:
                left = <int64_t> (limit_s * 1e9) - (monotonic_ns() - began)
                if left <= 0:
                    raise NotYetDurable(
                        f"accepted, but not durable after {limit_s} s: do not append it again, "
                        "wait for it", offset=next_offset - 1, level="local", stream=self.stream)
            with nogil:
                # The flush thread does it: nobody can leave a sync of a device that hangs.
                error = hot_await_flush(self.log, next_offset, min(left, WAIT_SLICE_NS))
            if error and error != ETIMEDOUT:
                self._check_running()
            PyErr_CheckSignals()
            if error == ETIMEDOUT:
                self._tell(WouldBlockKind.FLUSH, monotonic_ns() - began, &told)
        return 0

    def fail(self, int failure):
        """Stop for good because of a failed sync elsewhere that the segments depend on.

        Args:
            failure: Its errno.
        """
        hot_poison(self.log, failure)

    def wait_local(self, uint64_t next_offset, *, timeout=...):
        """Wait until every record below `next_offset` is durable on the local disk.

        Raises:
            NotYetDurable: `timeout` seconds ran out.
            DurabilityLost: a sync failed; it never will be.
        """
        self._wait_durable(next_offset, timeout)

    def is_durable(self, uint64_t next_offset, bint ask=True):
        """Whether every record below `next_offset` is durable; asks for a flush if not (unless told
        otherwise), and raises when it never will be."""
        if self.log.durable_offset >= next_offset:
            return True
        self._check_running()
        if ask:
            hot_ask(self.log, next_offset)
        return False

    def ask_flush(self):
        """Have everything appended so far made durable, at once and elsewhere."""
        hot_ask(self.log, self.log.next_offset)

    @property
    def next_offset(self):
        """Offset that the next record gets."""
        return self.log.next_offset

    @property
    def durable_offset(self):
        """Offset below which records are durable."""
        return self.log.durable_offset

    def announce(self):
        """Wake everyone who waits for a change."""
        pthread_mutex_lock(&self.log.lock)
        hot_announce(self.log)
        pthread_mutex_unlock(&self.log.lock)

    def watch(self, uint32_t news):
        """Tell of the next news of these kinds: `ROOM` and `DURABLE` by the bell, `TAIL` through
        the host's `on_news`."""
        if self.log.state == HOT_FORKED:
            return
        pthread_mutex_lock(&self.log.lock)
        self.log.wanted |= news & ~<uint32_t> NEWS_TAIL
        pthread_mutex_unlock(&self.log.lock)
        if news & NEWS_TAIL:
            self.log.tail_wanted = True
            self.log.wake_at = 0

    def take_news(self):
        """The kinds of news that the bell was rung for since the last call."""
        cdef uint32_t news
        pthread_mutex_lock(&self.log.lock)
        news = self.log.news
        self.log.news = 0
        pthread_mutex_unlock(&self.log.lock)
        return news
