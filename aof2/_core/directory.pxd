# Directories that are held open, and the files below them.


cdef class Directory:
    cdef readonly str path
    cdef readonly int fd
    # errno of the first sync in it that failed, 0 when none did: what its files and names are on
    # the disk is unknown from then on.
    cdef readonly int sync_failure
    cdef int _check_open(self) except -1
    # Take note of how the sync of a new file or of the names ended; 0 or an errno.
    cdef void note_sync(self, int error) noexcept nogil
    # The descriptor of a regular file below this directory; the caller closes it.
    cdef int open_file(self, str name, bint writable=*, bint create=*) except -1


cdef class LockFile:
    cdef int _fd
    cdef int _pid
