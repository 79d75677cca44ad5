"""What can go wrong between a client and an S3 server, and how the proxy makes it so."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

Headers = list[tuple[str, str]]


class Fault(enum.Enum):
    """One way in which a request goes wrong."""

    DROP_REPLY = "drop-reply"
    """The server did as asked; the connection ends without a reply."""
    LATE_ERROR = "late-error"
    """The server did as asked; the reply says 500 InternalError."""
    SLOW_DOWN = "slow-down"
    """The server is not asked; the reply says 503 SlowDown."""
    ERROR_IN_200 = "error-in-200"
    """The server is not asked; the reply says 200, with an `<Error>` as its body."""
    RESET = "reset"
    """The server is not asked; the connection is reset."""
    STALL = "stall"
    """The server is not asked; nothing comes, until the client gives up or the proxy closes."""
    SLOW_BYTES = "slow-bytes"
    """The reply comes in eight pieces with pauses between them."""
    SHORT_BODY = "short-body"
    """The connection ends in the middle of the reply's body; where it has none, before it."""
    CUT_BODY = "cut-body"
    """The reply's body is half as long, and its length says so."""
    FLIP_BYTE = "flip-byte"
    """One bit of the reply's body is another, in the middle; of XML it is the first byte."""
    FLIP_UPLOAD = "flip-upload"
    """One bit of the request's body is another, and it is signed so."""
    WRONG_RANGE = "wrong-range"
    """Bytes from 8 further on are asked for, the reply tells so. Without a range: as `CUT_BODY`."""
    IGNORE_RANGE = "ignore-range"
    """The whole object is sent."""
    IGNORE_IF_NONE_MATCH = "ignore-if-none-match"
    """The condition is left out: what is there is overwritten."""


BEFORE_THE_SERVER = frozenset({Fault.SLOW_DOWN, Fault.ERROR_IN_200, Fault.RESET, Fault.STALL})
"""Faults of requests that the server never sees."""

CHANGES_THE_REQUEST = frozenset(
    {Fault.FLIP_UPLOAD, Fault.WRONG_RANGE, Fault.IGNORE_RANGE, Fault.IGNORE_IF_NONE_MATCH}
)
"""Faults for which the proxy has to sign the request anew."""


@dataclass
class Message:
    """A request, or the reply to one."""

    method: str
    target: str
    status: int = 0
    reason: str = ""
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, `""` where there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> Headers:
        """The headers but these."""
        return [pair for pair in self.headers if pair[0].lower() not in names]


def instead_of_the_server(fault: Fault | None, request: Message) -> Message | None:
    """The reply that the proxy makes up by itself, None where it makes up none."""
    if fault is Fault.SLOW_DOWN:
        return _error(request, 503, "SlowDown")
    if fault is Fault.ERROR_IN_200:
        return _error(request, 200, "InternalError")
    return None


def change_request(
    fault: Fault | None, request: Message, credentials: tuple[str, str, str]
) -> Message:
    """The request as the server gets it."""
    changed = request
    if fault is Fault.FLIP_UPLOAD and request.body:
        changed = replace(request, body=_flipped(request.body, len(request.body) // 2))
    elif fault is Fault.IGNORE_IF_NONE_MATCH:
        changed = replace(request, headers=request.without("if-none-match"))
    elif fault is Fault.IGNORE_RANGE:
        changed = replace(request, headers=request.without("range"))
    elif fault is Fault.WRONG_RANGE and request.header("range"):
        further = re.sub(r"\d+", lambda digits: str(int(digits[0]) + 8), request.header("range"))
        changed = replace(request, headers=[*request.without("range"), ("Range", further)])
    return changed if changed is request else _signed(changed, credentials)


def change_reply(fault: Fault | None, request: Message, reply: Message) -> Message:
    """The reply as the client gets it."""
    if fault is Fault.LATE_ERROR:
        return _error(request, 500, "InternalError")
    if not reply.body:
        return reply
    if fault is Fault.FLIP_BYTE:
        xml = reply.body.lstrip().startswith(b"<")
        return replace(reply, body=_flipped(reply.body, 0 if xml else len(reply.body) // 2))
    cut = fault is Fault.CUT_BODY
    if cut or (fault is Fault.WRONG_RANGE and not request.header("range")):
        return replace(reply, body=reply.body[: len(reply.body) // 2])
    return reply


def _error(request: Message, status: int, code: str) -> Message:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        "<Message>planned by the fault proxy</Message></Error>"
    )
    return Message(
        request.method,
        request.target,
        status,
        "OK" if status == 200 else code,
        [("Content-Type", "application/xml")],
        b"" if request.method == "HEAD" else body.encode(),
    )


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _signed(request: Message, credentials: tuple[str, str, str]) -> Message:
    """The same request with a signature of its own."""
    key, secret, region = credentials
    kept = request.without("authorization", "x-amz-date", "x-amz-content-sha256", "content-length")
    host = request.header("host")
    made = AWSRequest(request.method, f"http://{host}{request.target}", data=request.body)
    for name, value in kept:
        made.headers[name] = value
    S3SigV4Auth(Credentials(key, secret), "s3", region).add_auth(made)
    headers = [(str(name), str(value)) for name, value in made.headers.items()]
    if request.body or request.method == "PUT":
        headers.append(("Content-Length", str(len(request.body))))
    return replace(request, headers=headers)
