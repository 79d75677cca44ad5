"""Finding records in segments that are not sealed yet, by the index that their writer keeps."""

from libc.stdint cimport int64_t, uint64_t

from aof2._core.append cimport Appender
from aof2._core.hotlog cimport HotFile
from aof2._core.layout cimport FRAMES_AT, IndexEntry
from aof2._core.run cimport run_find, run_find_time


cdef class UnsealedLookup(Appender):
    """What a stream's writer knows about its unsealed segments."""

    cdef HotFile *_find(self, uint64_t segment_id):
        cdef HotFile *file = self.log.oldest
        while file != NULL and file.file_id != segment_id:
            file = file.next
        return file

    def unsealed(self):
        """`[(segment id, base offset, end offset, bytes written, has END, salt, ring base,
        ext_id)]`."""
        cdef HotFile *file = self.log.oldest
        out = []
        while file != NULL:
            end = file.end if file.end else self.log.tail
            out.append((file.file_id, file.base_offset, file.base_offset + file.run.records,
                        end - file.ring_base, file.end != 0, file.salt, file.ring_base,
                        file.ext_id))
            file = file.next
        return out

    def locate(self, uint64_t segment_id, uint64_t offset):
        """A frame border at or before the record, in a segment that is not sealed; None if it
        is."""
        cdef HotFile *file = self._find(segment_id)
        cdef const IndexEntry *entry
        if file == NULL:
            return None
        entry = run_find(file.run.entries, file.run.entry_count, offset - file.base_offset)
        return FRAMES_AT if entry == NULL else entry.position

    def locate_time(self, uint64_t segment_id, int64_t timestamp_ns):
        """A frame border before which every record is older; None if the segment is sealed."""
        cdef HotFile *file = self._find(segment_id)
        cdef const IndexEntry *entry
        if file == NULL:
            return None
        entry = run_find_time(file.run.entries, file.run.entry_count, timestamp_ns)
        return FRAMES_AT if entry == NULL else entry.position
