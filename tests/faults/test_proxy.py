"""The fault proxy between a client and a real S3 server: each fault is what it says."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import FetchFailed, Tier2Unavailable, UploadFailed
from aof2.objectstore import ObjectStore, open_store
from aof2.testing.faults import CHANGES_THE_REQUEST, Fault
from aof2.testing.proxy import FaultProxy

DATA = bytes(range(256)) * 16
CRC64 = crc64nvme(DATA)


@pytest.fixture
def proxy(seaweedfs):
    with FaultProxy.before(seaweedfs) as made:
        yield made


@pytest.fixture
def store(tier2_s3, proxy):
    """A client that goes through the proxy, one object of which is there already."""
    options = {**tier2_s3, "endpoint_url": proxy.endpoint_url, "request_timeout_s": 0.3}
    with open_store(**options) as made:
        made.put("base", DATA, crc64=CRC64)
        yield made


def ask(store: ObjectStore, what: str) -> object:
    """One operation, and whether its answer is right."""
    if what == "put":
        return store.put("new", DATA, crc64=CRC64).crc64 == CRC64
    if what == "replace":
        return store.replace("other", DATA, crc64=CRC64).crc64 == CRC64
    if what == "get":
        return store.get("base", 1 << 20) == DATA
    if what == "range":
        return store.get_range("base", 10, 500) == DATA[10:500]
    if what == "head":
        found = store.head("base")
        return found is not None and found.crc64 == CRC64
    if what == "list":
        return [info.key for info in store.list("base")] == ["base"]
    store.delete("gone")
    return True


OPERATIONS = ("put", "replace", "get", "range", "head", "list", "delete")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(
    "times", [1, pytest.param(None, marks=pytest.mark.long)], ids=["once", "always"]
)
def test_a_fault_is_an_error_or_survived_and_then_gone(store, proxy, fault, times):
    """Goal: no fault makes the S3 store answer wrongly, or raise what is not ours.

    Method: every operation meets the fault once, or always; the answer is right, or typed. Bytes of
    a range are checked by their reader, as the server tells no checksum of them. Then all is well.
    """
    for what in OPERATIONS:
        operation = {"range": "get", "replace": "put"}.get(what, what)
        rule = proxy.fail(fault, operation, times=times, pause_s=0.001)
        with suppress(FetchFailed, UploadFailed, Tier2Unavailable):
            assert ask(store, what) or (fault, what) == (Fault.FLIP_BYTE, "range")
        assert rule.applied, what
        proxy.clear()
        assert ask(store, what), what


def test_a_reply_that_is_dropped_was_stored(store, proxy, tier2_s3):
    """Goal: the fault is behind the server. Method: put once, look past the proxy; one put was
    enough, since the client found out by a HEAD."""
    rule = proxy.fail(Fault.DROP_REPLY, "put", "*/new", times=None)
    assert ask(store, "put")
    assert rule.applied >= 1
    with open_store(**tier2_s3) as direct:
        found = direct.head("new")
        assert found is not None
        assert found.crc64 == CRC64
    assert proxy.requests[-1].operation == "head"


def test_a_fault_hits_what_its_rule_says(store, proxy):
    """Goal: scripts can aim. Method: the second and third `get` of keys that match, then none."""
    rule = proxy.fail(Fault.ERROR_IN_200, "get", "*ba[rs]e", skip=1, times=2)
    answers = []
    for _ in range(5):
        try:
            answers.append(ask(store, "get"))
        except FetchFailed:
            answers.append("failed")
    assert answers == [True, "failed", "failed", True, True]
    assert (rule.matched, rule.applied) == (5, 2)
    assert proxy.count("get", "*/base") == 5
    hit = [seen.number for seen in proxy.requests if seen.fault is Fault.ERROR_IN_200]
    assert len(hit) == 2


@pytest.mark.parametrize("what", ["get", "range", "head"])
def test_an_error_page_under_200_is_no_object(store, proxy, what):
    """Goal: it cannot pass for a damaged claim, which would fence its reader. Method: the reply has
    neither ETag nor length of an object."""
    proxy.fail(Fault.ERROR_IN_200, {"range": "get"}.get(what, what))
    with pytest.raises(FetchFailed):
        ask(store, what)


def test_a_condition_that_is_ignored_overwrites(store, proxy):
    """Goal: a weak store can be played. Method: the same key twice, with other contents."""
    ask(store, "put")
    with pytest.raises(UploadFailed, match="other content"):
        store.put("new", DATA[1:], crc64=crc64nvme(DATA[1:]))
    proxy.fail(Fault.IGNORE_IF_NONE_MATCH, "put")
    store.put("new", DATA[1:], crc64=crc64nvme(DATA[1:]))
    assert store.get("new", 1 << 20) == DATA[1:]


def test_closing_ends_connections_and_threads(seaweedfs):
    """Goal: nothing stays. Method: close while a request stalls; count threads."""
    before = set(threading.enumerate())
    proxy = FaultProxy(seaweedfs.endpoint_url)
    proxy.fail(Fault.STALL)
    port = int(proxy.endpoint_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/somewhere/key")
    proxy.close()
    proxy.close()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("fault", sorted(CHANGES_THE_REQUEST, key=str))
def test_a_fault_that_needs_a_signature_says_so(seaweedfs, fault):
    """Goal: no puzzling 403. Method: a proxy without credentials refuses the rule."""
    with FaultProxy(seaweedfs.endpoint_url) as proxy, pytest.raises(ValueError, match="credential"):
        proxy.fail(fault)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "https://127.0.0.1", "http://"])
def test_an_address_that_it_cannot_serve_is_refused(url):
    """Goal: a wrong argument is found at once. Method: forms that are not `http://host:port`."""
    with pytest.raises(ValueError, match="http://host:port"):
        FaultProxy(url)
