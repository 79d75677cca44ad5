"""Object stores: one small interface, and the stores that implement it."""

from __future__ import annotations

import dataclasses
import os
import re
from urllib.parse import unquote, urlsplit

from aof2.config import Tier2Config
from aof2.errors import ConfigError
from aof2.objectstore.base import (
    BytesLike,
    Contents,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    Source,
)
from aof2.objectstore.local import LocalStore
from aof2.objectstore.memory import MemoryStore

__all__ = [
    "BytesLike",
    "Contents",
    "LocalStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "ObjectTooLarge",
    "Source",
    "open_store",
    "open_tier2",
]

_FORMS = (
    "tier2.url must be s3://bucket/prefix, file:///directory, a path to a directory, or "
    "memory://name (for tests)"
)


def open_store(
    url: str | os.PathLike[str],
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    addressing_style: str = "auto",
    request_timeout_s: float = 30.0,
) -> ObjectStore:
    """Make the store that a tier 2 URL names; `ObjectStore.check` then asks whether it is there.

    Args:
        url: `s3://bucket/prefix`, `file:///directory`, a path, or `memory://name`.
        endpoint_url, region, access_key_id, secret_access_key, addressing_style,
        request_timeout_s: As in `S3Store`; the first four are for `s3://` only.

    Raises:
        ConfigError: The URL has another form, or an argument does not fit it.
        Tier2Auth, Tier2Unavailable: The directory could not be made.

    Example: `open_store("s3://logs/prod", endpoint_url="http://127.0.0.1:8333")`
    """
    text = os.fspath(url)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "s3" and isinstance(url, str):
        # Only here, so that a program without an S3 tier never pays for importing boto3.
        from aof2.objectstore.s3 import S3Store

        bucket, _, prefix = rest.partition("/")
        return S3Store(
            bucket,
            prefix.strip("/"),
            endpoint_url=endpoint_url,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            addressing_style=addressing_style,
            request_timeout_s=request_timeout_s,
        )
    s3_only = {
        "endpoint_url": endpoint_url,
        "region": region,
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
    }
    misplaced = [name for name, value in s3_only.items() if value is not None]
    if misplaced:
        raise ConfigError(f"tier2.{misplaced[0]} needs a tier2.url of the form s3://bucket/prefix")
    if not separator or not isinstance(url, str):
        return _local(text)
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"{_FORMS}; a file URL has three slashes and no '?' or '#'")
        return _local(unquote(parts.path))
    if scheme == "memory" and re.fullmatch(r"[A-Za-z0-9._/-]+", rest):
        return MemoryStore.named(rest)
    # The URL itself is not repeated: people put passwords into URLs.
    raise ConfigError(_FORMS)


def _local(path: str) -> LocalStore:
    if not path or "\0" in path:
        raise ConfigError(_FORMS)
    return LocalStore(path)


def open_tier2(tier2: str | os.PathLike[str] | Tier2Config) -> ObjectStore:
    """Make the store of a configuration's tier 2, or of a URL alone; errors as for `open_store`."""
    config = tier2 if isinstance(tier2, Tier2Config) else Tier2Config(url=os.fspath(tier2))
    values = dataclasses.asdict(config)
    return open_store(values.pop("url"), **values)
