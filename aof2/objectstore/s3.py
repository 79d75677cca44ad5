"""Objects in a bucket of an S3-compatible store, through boto3.

Create-only and verification are the server's: `If-None-Match: *` and `x-amz-checksum-crc64nvme`
with a value computed here, so botocore's own checksums stay off and its optional `awscrt` is never
needed. A put whose outcome is unknown (reply lost, 5xx, 409, or a 412 that may come from our own
first try) is settled by asking what is there now.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import closing
from operator import attrgetter
from typing import Any

import boto3
import botocore.exceptions as aws
from botocore.config import Config

from aof2._core.checksum import crc64nvme
from aof2.errors import (
    ConfigError,
    FetchFailed,
    Tier2Auth,
    Tier2Unavailable,
    TierError,
    UploadFailed,
)
from aof2.objectstore.base import (
    BytesLike,
    Contents,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    check_key,
    check_key_prefix,
    check_range,
    content_differs,
    is_key,
    require_size,
)
from aof2.objectstore.s3_arguments import check_arguments
from aof2.objectstore.s3_body import body_of

_ATTEMPTS = 3
_CONNECTIONS_MAX = 16
_READ_BYTES = 1 << 20

_REQUEST_FAILED = (aws.ClientError, aws.BotoCoreError)
_UNREACHABLE = (aws.ConnectionError, aws.HTTPClientError)
_NOT_CONNECTED = (aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.SSLError)
_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.ProfileNotFound,
    aws.TokenRetrievalError,
)
# Some servers and all HEAD replies give these with a status of their own, 400 for instance.
_AUTH_CODES = frozenset(
    {
        "AccessDenied",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


class S3Store(ObjectStore):
    """An `ObjectStore` in an S3 bucket; see `ObjectStore` for the contract.

    Args:
        bucket: The bucket; it must exist.
        prefix: Put before every key, with a `/` between; may be empty.
        endpoint_url: `http://` or `https://` address of the server; None: AWS, by region.
        region: None: what the environment or the AWS configuration says.
        access_key_id, secret_access_key: Both, or neither for the ordinary AWS provider chain.
        addressing_style: `"path"`, `"virtual"`, or `"auto"` (botocore chooses).
        request_timeout_s: Seconds to wait for a connection, and for each piece of a reply.
            A request is tried three times.

    Raises:
        ConfigError: An argument is unusable; nothing has been sent.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        addressing_style: str = "auto",
        request_timeout_s: float = 30.0,
    ) -> None:
        check_arguments(bucket, prefix, endpoint_url, addressing_style, request_timeout_s)
        if (access_key_id is None) != (secret_access_key is None):
            raise ConfigError("tier2.access_key_id and tier2.secret_access_key belong together")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint_url = endpoint_url
        s3_options: Any = {"addressing_style": addressing_style}
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            connect_timeout=request_timeout_s,
            read_timeout=request_timeout_s,
            max_pool_connections=_CONNECTIONS_MAX,
            s3=s3_options,
        )
        try:
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=region,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                config=config,
            )
        except _NO_CREDENTIALS as error:
            raise self._error(error, "connect", TierError) from error
        except (ValueError, aws.BotoCoreError) as error:
            raise ConfigError(f"cannot set up the S3 tier 2: {error}") from error

    def put(self, key: str, data: Contents, *, crc64: int) -> ObjectInfo:
        check_key(key)
        with body_of(key, data, crc64) as body:
            for _ in range(_ATTEMPTS):
                try:
                    reply = self._client.put_object(
                        Bucket=self._bucket,
                        Key=self._prefix + key,
                        Body=body if body.nbytes else b"",
                        IfNoneMatch="*",
                        ChecksumCRC64NVME=_encoded_crc64(crc64),
                    )
                except Exception as error:
                    # What the source raised hides in errors of botocore, or of its extensions.
                    body.check()
                    if not isinstance(error, _REQUEST_FAILED):
                        raise
                    settled = self._settle(key, body.nbytes, crc64, error)
                    if settled is not None:
                        return settled
                else:
                    return ObjectInfo(key, body.nbytes, crc64, _etag(reply))
        raise UploadFailed(
            f"{self.describe()} reports a conflicting request each time; try again", path=key
        )

    def replace(self, key: str, data: BytesLike, *, crc64: int) -> ObjectInfo:
        check_key(key)
        with body_of(key, data, crc64) as body:
            try:
                reply = self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body if body.nbytes else b"",
                    ChecksumCRC64NVME=_encoded_crc64(crc64),
                )
            except _REQUEST_FAILED as error:
                raise self._error(error, "write to", UploadFailed, key) from error
            return ObjectInfo(key, body.nbytes, crc64, _etag(reply))

    def get(self, key: str, bytes_max: int) -> bytes:
        check_key(key)
        try:
            reply = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED"
            )
            with closing(reply["Body"]) as body:
                size = self._size(reply, key)
                # Checked before reading, so that a hostile object costs no memory.
                require_size(key, size, bytes_max)
                data = _read(body, size)
        except _REQUEST_FAILED as error:
            raise self._error(error, "read from", FetchFailed, key) from error
        told = _decoded_crc64(reply.get("ChecksumCRC64NVME"))
        if len(data) != size or (told is not None and told != crc64nvme(data)):
            raise FetchFailed(
                f"{self.describe()} sent {len(data)} of {size} bytes, or bytes with another "
                "checksum than it tells; try again",
                path=key,
            )
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        check_key(key)
        check_range(key, start, end)
        if start == end:
            return b""
        try:
            reply = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + key, Range=f"bytes={start}-{end - 1}"
            )
            with closing(reply["Body"]) as body:
                # Checked before reading, as a server that ignores ranges sends everything.
                given = str(reply.get("ContentRange", "no range"))
                if not given.startswith(f"bytes {start}-{end - 1}/"):
                    raise FetchFailed(
                        f"asked for [{start}, {end}), {self.describe()} answered {given[:80]!r}: "
                        "the object is shorter, or the server does not honour ranges",
                        path=key,
                    )
                data = _read(body, end - start)
        except _REQUEST_FAILED as error:
            raise self._error(error, "read from", FetchFailed, key) from error
        if len(data) != end - start:
            raise FetchFailed(
                f"{self.describe()} sent {len(data)} of {end - start} bytes; try again", path=key
            )
        return data

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        try:
            reply = self._client.head_object(
                Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED"
            )
        except _REQUEST_FAILED as error:
            status, code, _ = _verdict(error)
            # A HEAD reply has no body, so a missing bucket looks like a missing object.
            if status == 404 and code != "NoSuchBucket":
                return None
            raise self._error(error, "look into", FetchFailed, key) from error
        crc64 = _decoded_crc64(reply.get("ChecksumCRC64NVME"))
        return ObjectInfo(key, self._size(reply, key), crc64, _etag(reply))

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        except _REQUEST_FAILED as error:
            failure = self._error(error, "delete from", UploadFailed, key)
            if not isinstance(failure, ObjectNotFound):
                raise failure from error

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_key_prefix(prefix)
        return self._list(prefix)

    def check(self) -> None:
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except _REQUEST_FAILED as error:
            raise self._error(error, "use", Tier2Unavailable) from error

    def describe(self) -> str:
        place = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return f"{place} at {self._endpoint_url or 'AWS'}"

    def close(self) -> None:
        self._client.close()

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        found = []
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = str(entry["Key"])[len(self._prefix) :]
                    if is_key(key):
                        found.append(ObjectInfo(key, int(entry["Size"]), None, _etag(entry)))
        except _REQUEST_FAILED as error:
            raise self._error(error, "list", FetchFailed, prefix or None) from error
        # Stores that keep directories (SeaweedFS) list `a/x` before `a-x`, against S3's own order.
        # So all infos are held at once, about 400 bytes each.
        found.sort(key=attrgetter("key"))
        yield from found

    def _size(self, reply: Mapping[str, Any], key: str) -> int:
        # A gateway in trouble may answer 200 with a page of its own. That is no object: taken for
        # one, it would pass for a damaged claim, and claims fence.
        if "ETag" not in reply or "ContentLength" not in reply:
            raise FetchFailed(
                f"{self.describe()} answered without an ETag or a length, which every object has; "
                "try again",
                path=key,
            )
        return int(reply["ContentLength"])

    def _settle(self, key: str, size: int, crc64: int, error: Exception) -> ObjectInfo | None:
        """What became of a put that failed: its info when stored, None to try again."""
        status, _, _ = _verdict(error)
        failure = self._error(error, "write to", UploadFailed, key)
        refused = isinstance(error, aws.ClientError) and status < 500 and status not in (409, 412)
        if refused or isinstance(error, _NOT_CONNECTED) or isinstance(failure, Tier2Auth):
            raise failure from error
        try:
            found = self.head(key)
            if found is not None and found.size == size and found.crc64 is None:
                # Stores without CRC-64 support tell no checksum: theirs is found by reading.
                found = ObjectInfo(key, size, self._crc64_of(key, size), found.etag)
        except TierError:
            raise failure from error
        if found is None:
            if status == 409:
                return None
            raise failure from error
        if (found.size, found.crc64) != (size, crc64):
            raise content_differs(key, size, crc64, found) from error
        return found

    def _crc64_of(self, key: str, size: int) -> int:
        crc64 = 0
        for start in range(0, size, _READ_BYTES):
            crc64 = crc64nvme(self.get_range(key, start, min(size, start + _READ_BYTES)), crc64)
        return crc64

    def _error(
        self, error: Exception, verb: str, otherwise: type[TierError], key: str | None = None
    ) -> TierError:
        """The error of the contract for one of botocore's."""
        status, code, text = _verdict(error)
        what = f"cannot {verb} {self.describe()}: {text}"
        if isinstance(error, _NO_CREDENTIALS) or code in _AUTH_CODES or status in (401, 403):
            return Tier2Auth(
                f"{what}; check tier2.access_key_id and tier2.secret_access_key (or the AWS "
                "provider chain), the clock, and that get, put, delete and list are allowed",
                path=key,
            )
        if code == "NoSuchBucket" or (status == 404 and otherwise is Tier2Unavailable):
            return Tier2Unavailable(
                f"{what}; make the bucket {self._bucket!r} or correct tier2.url", path=key
            )
        if isinstance(error, _UNREACHABLE):
            return Tier2Unavailable(
                f"{what}; start the server, or correct tier2.endpoint_url", path=key
            )
        if status == 404:
            return ObjectNotFound(f"there is no such object in {self.describe()}", path=key)
        if otherwise is Tier2Unavailable:
            what += "; correct tier2.url, tier2.endpoint_url or tier2.region"
        return otherwise(what, path=key)


def _verdict(error: Exception) -> tuple[int, str, str]:
    """HTTP status (0: none), S3 error code, and a short text."""
    if not isinstance(error, aws.ClientError):
        return 0, "", f"{type(error).__name__}: {error}"[:300]
    response: Mapping[str, Any] = error.response
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    details = response.get("Error", {})
    code = str(details.get("Code", ""))
    return status, code, f"HTTP {status} {code}: {details.get('Message', '')}"[:300]


def _read(body: Any, size: int) -> bytes:
    pieces = []
    missing = size
    while missing and (piece := body.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _etag(reply: Mapping[str, Any]) -> str:
    return str(reply.get("ETag", "")).strip('"')


def _encoded_crc64(crc64: int) -> str:
    return base64.b64encode(crc64.to_bytes(8, "big")).decode()


def _decoded_crc64(text: str | None) -> int | None:
    try:
        raw = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None
