# Bringing an object's bytes into a file.

from aof2._core.directory cimport Directory
