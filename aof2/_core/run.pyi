# The run of frames has no names of its own for Python; only other core modules use it.
