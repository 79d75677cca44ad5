"""What only the S3 store can get wrong: its server, its network, its credentials."""

from __future__ import annotations

import http.server
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.exceptions as aws
import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import (
    AofError,
    ConfigError,
    FetchFailed,
    Tier2Auth,
    Tier2Unavailable,
    UploadFailed,
)
from aof2.objectstore import ObjectNotFound, ObjectStore, open_store, s3, s3_body

DATA = b"some bytes"
CRC64 = crc64nvme(DATA)
MIB = 1 << 20
SECRET = "a-wrong-secret-nobody-may-see"

CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "check": lambda store: store.check(),
    "put": lambda store: store.put("k", DATA, crc64=CRC64),
    "replace": lambda store: store.replace("k", DATA, crc64=CRC64),
    "get": lambda store: store.get("k", 100),
    "get_range": lambda store: store.get_range("k", 0, 1),
    "head": lambda store: store.head("k"),
    "delete": lambda store: store.delete("k"),
    "list": lambda store: list(store.list()),
}


@pytest.fixture
def store(tier2_s3: dict[str, str]) -> Iterator[s3.S3Store]:
    made = open_store(**tier2_s3)
    assert isinstance(made, s3.S3Store)
    with made:
        yield made


class Client:
    """The store's real client with one method replaced; the fault is between it and the server."""

    def __init__(self, store: s3.S3Store, **replaced: Callable[..., Any]) -> None:
        self.real = store._client
        self.replaced = replaced
        store._client = self

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name, getattr(self.real, name))


def lost() -> aws.BotoCoreError:
    return aws.ConnectionClosedError(endpoint_url="http://somewhere")


def refused(status: int, code: str) -> aws.ClientError:
    reply = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(reply, "PutObject")  # type: ignore[arg-type,unused-ignore]


def raising(error: Exception) -> Callable[..., Any]:
    def method(**_: object) -> Any:
        raise error

    return method


def test_the_server_itself_verifies_our_checksum(
    store: s3.S3Store, monkeypatch: pytest.MonkeyPatch
):
    """Goal: bytes that change on the way are not stored.

    Method: leave out our own check before the transfer, and send a crc64 that is one bit off.
    """
    monkeypatch.setattr(s3_body, "require_crc64", lambda *_: None)
    with pytest.raises(UploadFailed, match="BadDigest"):
        store.put("k", DATA, crc64=CRC64 ^ 1)
    assert store.head("k") is None


def test_awscrt_is_not_needed(tier2_s3: dict[str, str]):
    """Goal: a precomputed crc64 passes through botocore without its optional extension.

    Method: put and head in a fresh interpreter in which importing awscrt fails.
    """
    # The checksum's origin does not matter here, so it is handed in.
    program = f"""
import sys
sys.modules["awscrt"] = None
from aof2.objectstore import open_store
with open_store(**{tier2_s3!r}) as store:
    print(store.put("k", {DATA!r}, crc64={CRC64}).crc64, store.head("k").crc64)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == ([str(CRC64)] * 2, "")


def test_importing_the_stores_does_not_import_boto3():
    """Goal: no S3 tier, no price for it. Method: look at the modules of a fresh interpreter."""
    program = "import sys, aof2.objectstore; print({'boto3', 'botocore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_refused_credentials_are_tier2auth_without_the_secret(
    tier2_s3: dict[str, str], call: str, wrong: str
):
    """Goal: the error says what to correct, and no text of it has the secret.

    Method: one wrong half of the credentials; look at the text, the pickle and the traceback.
    """
    options = {**tier2_s3, "secret_access_key": SECRET, wrong: SECRET}
    with open_store(**options) as store, pytest.raises(Tier2Auth, match="secret_access_key") as e:
        CALLS[call](store)
    shown = "".join(traceback.format_exception(e.value))
    assert SECRET not in shown + repr(store) + repr(vars(e.value))
    assert SECRET.encode() not in pickle.dumps(e.value)


def test_no_credentials_at_all_is_tier2auth(
    tier2_s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Goal: an empty provider chain is a clear error. Method: empty it, then check."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    endpoint_url = tier2_s3["endpoint_url"]
    store = open_store(tier2_s3["url"], endpoint_url=endpoint_url)
    with store, pytest.raises(Tier2Auth, match="access_key_id"):
        store.check()


@pytest.mark.parametrize("call", [name for name in CALLS if name != "head"])
def test_a_missing_bucket_is_tier2unavailable_and_named(tier2_s3: dict[str, str], call: str):
    """Goal: nobody takes it for a missing object. Method: a bucket that nobody made."""
    store = open_store(**{**tier2_s3, "url": "s3://no-such-bucket/p"})
    with store, pytest.raises(Tier2Unavailable, match="'no-such-bucket'"):
        CALLS[call](store)


@pytest.mark.parametrize("call", CALLS)
def test_a_dead_endpoint_is_tier2unavailable_within_seconds(call: str):
    """Goal: no minutes of retries. Method: a port of loopback that nobody listens on."""
    started = time.monotonic()
    with dead_end(listening=False) as store, pytest.raises(Tier2Unavailable, match="endpoint_url"):
        CALLS[call](store)
    assert time.monotonic() - started < 8


def test_an_endpoint_that_never_answers_is_tier2unavailable_after_its_timeouts():
    """Goal: `request_timeout_s` binds. Method: a listener that accepts and says nothing."""
    started = time.monotonic()
    with dead_end(listening=True) as store, pytest.raises(Tier2Unavailable):
        store.check()
    assert time.monotonic() - started < 8


@contextmanager
def dead_end(*, listening: bool) -> Iterator[ObjectStore]:
    """A store whose endpoint holds a port but answers nothing."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        if listening:
            holder.listen()
        with fake_server_store(holder.getsockname()[1]) as store:
            yield store


def fake_server_store(port: int) -> ObjectStore:
    return open_store(
        "s3://bucket/p",
        endpoint_url=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",
        request_timeout_s=0.3,
    )


def test_a_put_whose_reply_was_lost_has_succeeded(store: s3.S3Store):
    """Goal: success, as the object is there. Method: lose the reply of a put that was done."""

    def put_and_lose(**arguments: Any) -> Any:
        client.real.put_object(**arguments)
        raise lost()

    client = Client(store, put_object=put_and_lose)
    assert store.put("k", DATA, crc64=CRC64) == store.head("k")


def test_a_put_retried_after_its_reply_was_lost_has_succeeded(store: s3.S3Store):
    """Goal: the 412 of our own object is no failure. Method: two real puts, the second replies."""

    def put_twice(**arguments: Any) -> Any:
        client.real.put_object(**arguments)
        return client.real.put_object(**arguments)

    client = Client(store, put_object=put_twice)
    assert store.put("k", DATA, crc64=CRC64) == store.head("k")


def test_a_put_that_never_arrived_has_failed(store: s3.S3Store):
    """Goal: no success without an object. Method: lose the request, then answer 500."""
    for error, expected in (
        (lost(), Tier2Unavailable),
        (refused(500, "InternalError"), UploadFailed),
        (refused(412, "PreconditionFailed"), UploadFailed),
    ):
        client = Client(store, put_object=raising(error))
        with pytest.raises(expected) as caught:
            store.put("k", DATA, crc64=CRC64)
        assert caught.value.__cause__ is error
        store._client = client.real
        assert store.head("k") is None


def test_a_lost_reply_does_not_hide_that_another_writer_was_first(store: s3.S3Store):
    """Goal: other content is never called ours. Method: it is there when the reply is lost."""
    store.put("k", b"theirs", crc64=crc64nvme(b"theirs"))
    Client(store, put_object=raising(lost()))
    with pytest.raises(UploadFailed, match="other content"):
        store.put("k", DATA, crc64=CRC64)


def test_a_conflicting_request_is_tried_again(store: s3.S3Store):
    """Goal: 409 is not the end. Method: answer it once, then every time."""
    answers: list[Exception] = [refused(409, "ConditionalRequestConflict")]

    def conflict(**arguments: Any) -> Any:
        if answers:
            raise answers.pop()
        return client.real.put_object(**arguments)

    client = Client(store, put_object=conflict)
    store.put("k", DATA, crc64=CRC64)
    client.replaced["put_object"] = raising(refused(409, "ConditionalRequestConflict"))
    with pytest.raises(UploadFailed, match="conflict"):
        store.put("other", DATA, crc64=CRC64)


def test_a_store_that_tells_no_checksum_is_settled_by_reading(store: s3.S3Store):
    """Goal: rule 3 where HEAD has no crc64. Method: an object put without one, over 1 MiB."""
    data = os.urandom(MIB + 1)
    store._client.put_object(Bucket=store._bucket, Key=store._prefix + "k", Body=data)
    found = store.head("k")
    assert found is not None
    assert found.crc64 is None
    assert store.put("k", data, crc64=crc64nvme(data)).crc64 == crc64nvme(data)
    other = bytes(MIB + 1)
    with pytest.raises(UploadFailed, match="other content"):
        store.put("k", other, crc64=crc64nvme(other))


def test_prefixes_of_one_bucket_do_not_see_each_other(tier2_s3: dict[str, str]):
    """Goal: a prefix is a store. Method: one prefix is the other's beginning."""
    longer = {**tier2_s3, "url": tier2_s3["url"] + "x/é y/"}
    with open_store(**tier2_s3) as store, open_store(**longer) as other:
        other.put("k", DATA, crc64=CRC64)
        assert [info.key for info in other.list()] == ["k"]
        assert list(store.list()) == []
        assert store.head("k") is None


def test_putting_needs_no_second_copy_of_the_data(store: s3.S3Store):
    """Goal: memory stays bounded whatever the size. Method: the peak while 32 MiB are sent."""
    data = bytes(32 * MIB)
    crc64 = crc64nvme(data)
    store.put("warm-up", DATA, crc64=CRC64)
    tracemalloc.start()
    try:
        store.put("large", memoryview(data), crc64=crc64)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


BAD_ANSWERS = {
    "ignores the range": (200, {}, b"0123456789"),
    "another range": (206, {"Content-Range": "bytes 1-5/10"}, b"12345"),
    "a short body": (206, {"Content-Range": "bytes 0-4/10", "Content-Length": "5"}, b"012"),
    "a short length": (206, {"Content-Range": "bytes 0-4/10"}, b"012"),
    "a web page": (400, {"Content-Type": "text/html"}, b"<html>hello"),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_a_server_that_answers_a_range_badly_is_an_error(answer: str):
    """Goal: never other bytes than those asked for. Method: a server of our own that misbehaves."""
    status, headers, body = BAD_ANSWERS[answer]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with fake_server_store(server.server_port) as store, pytest.raises(AofError) as caught:
                store.get_range("k", 0, 5)
        finally:
            server.shutdown()
            thread.join()
    assert type(caught.value) in (FetchFailed, Tier2Unavailable)
    assert not isinstance(caught.value, ObjectNotFound)


def test_a_whole_object_whose_bytes_changed_on_the_way_is_an_error(store: s3.S3Store):
    """Goal: the checksum that the server tells is compared. Method: swap the body of the reply."""
    store.put("k", DATA, crc64=CRC64)

    def changed(**arguments: Any) -> Any:
        reply = client.real.get_object(**arguments)
        reply["Body"].close()
        return {**reply, "Body": io.BytesIO(DATA[::-1])}

    client = Client(store, get_object=changed)
    with pytest.raises(FetchFailed, match="checksum"):
        store.get("k", 100)
    client.replaced["get_object"] = lambda **arguments: {
        **client.real.get_object(**arguments),
        "Body": io.BytesIO(DATA[:3]),
    }
    with pytest.raises(FetchFailed, match="3 of 10"):
        store.get("k", 100)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("s3://", {}, "bucket"),
        ("s3://ab/x", {}, "bucket"),
        ("s3://key:secret@bucket/x", {}, "bucket"),
        ("s3://bucket/a//b", {}, "prefix"),
        ("s3://bucket/../b", {}, "prefix"),
        ("s3://bucket/a\nb", {}, "prefix"),
        ("s3://bucket/" + "x" * 513, {}, "prefix"),
        ("s3://bucket", {"endpoint_url": "127.0.0.1:9000"}, "endpoint_url"),
        ("s3://bucket", {"endpoint_url": "http://u:secret@host"}, "endpoint_url"),
        ("s3://bucket", {"endpoint_url": "http://host:port"}, "endpoint_url"),
        ("s3://bucket", {"access_key_id": "a"}, "belong together"),
        ("s3://bucket", {"secret_access_key": "secret"}, "belong together"),
        ("s3://bucket", {"addressing_style": "subdomain"}, "addressing_style"),
        ("s3://bucket", {"request_timeout_s": 0}, "request_timeout_s"),
        ("s3://bucket", {"region": "not a region"}, "S3"),
    ],
)
def test_an_unusable_argument_is_a_config_error(url: str, options: dict[str, Any], said: str):
    """Goal: it names the field and no secret, and nothing is sent. Method: a table."""
    with pytest.raises(ConfigError, match=said) as caught:
        open_store(url, **options)
    assert "secret@" not in str(caught.value)
