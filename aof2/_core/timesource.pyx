"""The clock that is handed to the core: the system's, or one that a test moves."""

from libc.stdint cimport int64_t

from aof2._core.posix cimport sys_now


cdef class TimeSource:
    """A clock that is handed to the core: one C function that returns nanoseconds since 1970.

    The base class is the system's real-time clock.

    Example:
        >>> TimeSource().now_ns() > 0
        True
    """

    def __cinit__(self):
        self.now = sys_now
        self.context = NULL

    def now_ns(self):
        """Nanoseconds since 1970-01-01 UTC."""
        return self.now(self.context)


cdef int64_t _manual_now(void *context) noexcept nogil:
    return (<int64_t *> context)[0]


cdef class ManualTime(TimeSource):
    """A clock that stands still until a test moves it.

    Example:
        >>> clock = ManualTime(5); clock.set_ns(7); clock.now_ns()
        7
    """

    def __init__(self, int64_t value_ns=0):
        self._value = value_ns
        self.now = _manual_now
        self.context = &self._value

    def set_ns(self, int64_t value_ns):
        """Set the time to `value_ns`."""
        self._value = value_ns
