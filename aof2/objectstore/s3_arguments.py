"""What an S3 tier 2 may be configured with; checked before anything is sent."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aof2.errors import ConfigError

_PREFIX_BYTES_MAX = 512
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


def check_arguments(
    bucket: str, prefix: str, endpoint_url: str | None, style: str, timeout_s: float
) -> None:
    """Raise `ConfigError` for an argument of `S3Store` that is unusable."""
    # Neither URL is repeated: people put passwords into URLs.
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(
            "tier2.url must be s3://bucket/prefix with a bucket name of 3 to 63 characters"
        )
    parts = prefix.split("/") if prefix else []
    if not prefix.isprintable() or len(prefix.encode()) > _PREFIX_BYTES_MAX:
        raise ConfigError(f"tier2.url: the prefix is over {_PREFIX_BYTES_MAX} bytes or unprintable")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError("tier2.url: the prefix has an empty component, '.' or '..'")
    if endpoint_url is not None and not _is_address(endpoint_url):
        raise ConfigError(
            "tier2.endpoint_url must be http://host:port or https://host:port; credentials go "
            "into tier2.access_key_id and tier2.secret_access_key"
        )
    if style not in ("auto", "path", "virtual"):
        raise ConfigError("tier2.addressing_style must be auto, path or virtual")
    if not 0 < timeout_s <= 3600:
        raise ConfigError("tier2.request_timeout_s must be above 0 and at most 3600")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return usable and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in url
