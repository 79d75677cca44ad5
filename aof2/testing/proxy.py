"""A proxy between a client and a real S3 server, on this machine, that makes things go wrong.

```python
with SeaweedFS() as server, FaultProxy.before(server) as proxy:
    config = Tier2Config(**{**server.tier2("orders"), "endpoint_url": proxy.endpoint_url})
    proxy.fail(Fault.DROP_REPLY, operation="put", key="*/seg/*")    # the next one, once
    ...
    assert proxy.requests[-1].fault is Fault.DROP_REPLY
```
"""

from __future__ import annotations

import fnmatch
import http.client
import http.server
import re
import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from aof2.testing.faults import (
    BEFORE_THE_SERVER,
    CHANGES_THE_REQUEST,
    Fault,
    Message,
    change_reply,
    change_request,
    instead_of_the_server,
)

OPERATIONS = ("put", "get", "head", "delete", "list", "other")
"""What requests are told apart by: those on an object, a listing of the bucket, anything else."""

_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})
_FORWARD_TIMEOUT_S = 60.0
_SLOW_PIECES = 8


@dataclass(frozen=True)
class Request:
    """One request that came in.

    Attributes:
        number: From 1, in the order of arrival.
        operation: One of `OPERATIONS`.
        key: The object's key with the prefix, without the bucket; `""` for a listing.
        fault: What was done to it, None where it passed unharmed.
        status: HTTP status that the server gave, 0 where it was not asked.
        length: Bytes of the request's body.
    """

    number: int
    operation: str
    key: str
    fault: Fault | None
    status: int
    length: int


@dataclass
class Rule:
    """Which requests a fault happens to; what `FaultProxy.fail` returns.

    Attributes:
        fault: What happens.
        operation: One of `OPERATIONS`, or None for all.
        key: Shell pattern (`*`, `?`, `[]`) that the whole key must match.
        skip: So many matching requests pass first.
        times: So many are then harmed; None: all of them until `FaultProxy.clear`.
        pause_s: For slow faults: seconds between pieces.
        matched: Matching requests so far.
        applied: Those that were harmed.
    """

    fault: Fault
    operation: str | None = None
    key: str = "*"
    skip: int = 0
    times: int | None = 1
    pause_s: float = 0.02
    matched: int = field(default=0, init=False)
    applied: int = field(default=0, init=False)

    def take(self, operation: str, key: str) -> bool:
        """Whether this request is to be harmed; counts it."""
        if self.operation not in (None, operation) or not fnmatch.fnmatchcase(key, self.key):
            return False
        self.matched += 1
        if self.matched <= self.skip or (self.times is not None and self.applied >= self.times):
            return False
        self.applied += 1
        return True


class FaultProxy:
    """Passes requests on to an S3 server, and harms those that it was told to; a context manager.

    Args:
        endpoint_url: The server, `http://host:port`.
        access_key_id, secret_access_key: Needed for the faults that change a signed request
            (`CHANGES_THE_REQUEST`), which are signed anew; the client must use the same ones.
        region: What is signed for.

    Attributes:
        endpoint_url: `http://127.0.0.1:<port>` of the proxy itself: give it to the client.

    It listens on loopback only, keeps whole bodies in memory, and holds a thread per connection.
    `close` ends all of them, also those that are in the middle of a slow reply.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        access_key_id: str = "",
        secret_access_key: str = "",
        region: str = "us-east-1",
    ) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{endpoint_url!r} is not of the form http://host:port")
        self._upstream = (parts.hostname, parts.port or 80)
        self._credentials = (access_key_id, secret_access_key, region)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._seen: list[Request] = []
        self._count = 0
        self._closed = threading.Event()
        self._server = _Server(self)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="aof2-fault-proxy"
        )
        self._thread.start()

    @classmethod
    def before(cls, server: Any) -> FaultProxy:
        """A proxy before a `SeaweedFS`, with its credentials."""
        return cls(
            server.endpoint_url,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )

    def fail(
        self,
        fault: Fault,
        operation: str | None = None,
        key: str = "*",
        *,
        skip: int = 0,
        times: int | None = 1,
        pause_s: float = 0.02,
    ) -> Rule:
        """Harm the next matching request, or so many; see `Rule` for the arguments.

        The first rule that takes a request decides.

        Raises:
            ValueError: No such operation, or the fault needs credentials.
        """
        if operation is not None and operation not in OPERATIONS:
            raise ValueError(f"operation is {operation!r}: one of {', '.join(OPERATIONS)}")
        if fault in CHANGES_THE_REQUEST and not self._credentials[0]:
            raise ValueError(f"{fault.value} changes what was signed: give the proxy credentials")
        rule = Rule(fault, operation, key, skip, times, pause_s)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules: from now on every request passes unharmed."""
        with self._lock:
            self._rules.clear()

    @property
    def requests(self) -> list[Request]:
        """Every request that was dealt with so far, in the order in which their handling ended."""
        with self._lock:
            return list(self._seen)

    def count(self, operation: str | None = None, key: str = "*") -> int:
        """How many requests of an operation, with keys like this, were dealt with so far."""
        return sum(
            operation in (None, seen.operation) and fnmatch.fnmatchcase(seen.key, key)
            for seen in self.requests
        )

    def close(self) -> None:
        """End the proxy, its connections and its threads; twice is fine."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- for the handlers of connections ---------------------------------------------------------

    def _begin(self, operation: str, key: str) -> tuple[int, Rule | None]:
        with self._lock:
            self._count += 1
            rule = next((rule for rule in self._rules if rule.take(operation, key)), None)
            return self._count, rule

    def _end(self, request: Request) -> None:
        with self._lock:
            self._seen.append(request)

    def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def _stall(self) -> None:
        self._closed.wait()

    def _forward(self, request: Message) -> Message:
        connection = http.client.HTTPConnection(*self._upstream, timeout=_FORWARD_TIMEOUT_S)
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            reply = connection.getresponse()
            return Message(
                method=request.method,
                target=request.target,
                status=reply.status,
                reason=reply.reason,
                headers=_passed_on(reply.getheaders()),
                body=reply.read(),
            )
        finally:
            connection.close()


class _Server(http.server.ThreadingHTTPServer):
    """Accepts connections, and can end all of them."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection, so that their threads end."""
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is an ordinary thing here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    # A reply of several writes must not wait for an acknowledgement of the first.
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        proxy = self.server.proxy
        body = self._body()
        request = Message(self.command, self.path, headers=_passed_on(self.headers.items()))
        request.body = body
        operation, key = _what(self.command, self.path)
        number, rule = proxy._begin(operation, key)
        fault = None if rule is None else rule.fault
        reply = instead_of_the_server(fault, request)
        status = 0
        if fault is Fault.STALL:
            proxy._stall()
        elif reply is None and fault not in BEFORE_THE_SERVER:
            reply = proxy._forward(change_request(fault, request, proxy._credentials))
            status = reply.status
            reply = change_reply(fault, request, reply)
        # Before the reply: whoever has got it finds its request among those that were dealt with.
        proxy._end(Request(number, operation, key, fault, status, len(body)))
        if fault is Fault.RESET:
            self._reset()
        elif reply is not None:
            self._answer(fault, rule.pause_s if rule else 0.0, reply)

    do_PUT = do_HEAD = do_DELETE = do_POST = do_GET

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                continue
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, fault: Fault | None, pause_s: float, reply: Message) -> None:
        proxy, body = self.server.proxy, reply.body
        no_body = self.command == "HEAD" or reply.status == 204
        if fault is Fault.DROP_REPLY or (fault is Fault.SHORT_BODY and not body):
            self.close_connection = True
            return
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.headers:
            if no_body or name.lower() != "content-length":
                self.send_header(name, value)
        if not no_body:
            self.send_header("Content-Length", str(len(body)))
        if fault is Fault.SHORT_BODY:
            body = body[: len(body) // 2]
            self.close_connection = True
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer: list[bytes] = []
        data = head if no_body else head + body
        if fault is not Fault.SLOW_BYTES:
            self.wfile.write(data)
            return
        step = max(1, len(data) // _SLOW_PIECES)
        for at in range(0, len(data), step):
            self.wfile.write(data[at : at + step])
            proxy._pause(pause_s)

    def _reset(self) -> None:
        # Closing with a time of zero sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests look at `requests` instead."""


def _passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]


def _what(method: str, target: str) -> tuple[str, str]:
    """Operation and key of a request in path style: `/bucket/key?query`."""
    parts = urlsplit(target)
    _, _, key = unquote(parts.path).lstrip("/").partition("/")
    if not key:
        return ("list" if method == "GET" and re.search("list-type", parts.query) else "other"), ""
    name = method.lower()
    return (name if name in ("put", "get", "head", "delete") else "other"), key
