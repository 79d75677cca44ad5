"""What a stream's writer can tell about itself without being asked often: syncs, its state."""

from aof2._core.hotlog cimport HOT_POISONED, HotFile, SYNC_CLASSES
from aof2._core.unsealed cimport UnsealedLookup


cdef class WriterGauges(UnsealedLookup):
    """Counters of one stream's writer; reading them takes no lock."""

    @property
    def fsync_counts(self):
        """`(counts, nanoseconds)`: syncs by duration, up to 1 us and then in steps of four, the
        last for what took longer; and the time of all together."""
        cdef int at
        counts = []
        for at in range(SYNC_CLASSES):
            counts.append(self.log.sync_counts[at])
        return tuple(counts), self.log.sync_ns

    @property
    def appended_bytes(self):
        """Bytes of frames that this writer has taken, and what lies between segments."""
        return self.log.tail

    @property
    def active(self):
        """`(segment id, time stamp of its first record)` of the active segment; None when there is
        none, or when it has no records."""
        cdef HotFile *file = self.log.active
        if file == NULL or file.run.records == 0:
            return None
        return file.file_id, file.run.first_timestamp_ns

    @property
    def poisoned(self):
        """Whether a write or a sync failed, so that the writer has stopped for good."""
        return self.log.state == HOT_POISONED
