# This module has no names for Python; only other core modules use it.
