"""`python -m aof2.cli` is `aof2-admin`."""

from aof2.cli.main import main

main()
