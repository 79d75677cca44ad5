# The hot log's two threads.

from aof2._core.hotlog cimport HotLog

# Start them where they do not run; 0 or an errno.
cdef int hot_start_threads(HotLog *log) noexcept nogil
# End them, and the one that makes a ring; whatever they do is finished first.
cdef void hot_stop_threads(HotLog *log) noexcept nogil
