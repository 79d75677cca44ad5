# `current.sealed`: bytes from and to Python only.
