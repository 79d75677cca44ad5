# Directories that are held open, and the files below them.


cdef class Directory:
    cdef readonly str path
    cdef readonly int fd
    cdef int _check_open(self) except -1
    # The descriptor of a regular file below this directory; the caller closes it.
    cdef int open_file(self, str name, bint writable=*, bint create=*) except -1


cdef class LockFile:
    cdef int _fd
    cdef int _pid
