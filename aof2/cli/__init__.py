"""The command line, `aof2-admin`; needs `pip install 'aof2[cli]'`. See `docs/cli.md`."""
