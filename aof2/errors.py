"""Every exception of the library, grouped by what the caller can do about it.

```
AofError
├─ WouldBlock(BlockingIOError)                                     nothing accepted: try again
│    └─ WaitTimeout(TimeoutError)                                  a blocking call's time ran out
├─ NotYetDurable(TimeoutError)                                     accepted: do not append again
├─ ConfigError, RecordTooLarge, InvalidStreamName (ValueError)     fix the argument
├─ OffsetOutOfRange, StreamNotFound (LookupError)                  ask for something that exists
├─ RootLocked, Fenced, ForkedHandle, Closed(ValueError)            not yours (any more)
├─ DurabilityLost, RolloverFailed, StorageFull(OSError)            local storage failed
├─ TierError → CompressionFailed, UploadFailed, FetchFailed, HydrationFailed, HydrationTimeout,
│              Tier2Auth, Tier2Unavailable, UnsafeStore            another tier failed
├─ CorruptionError → SegmentCorrupt, RecordCorrupt, ManifestCorrupt, ObjectCorrupt, SegmentLost
├─ FormatError → VersionTooNew                                     written by something newer
└─ CoordinatorDied                                                 background work has stopped
```

All of them carry a stable `code`, say what happened, where, and what to do next, and pickle.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ClassVar, Protocol


class WouldBlockKind(enum.Enum):
    """What a `WouldBlock` waits for."""

    ADMISSION = "admission"
    """Tier 0 is at its budget; eviction frees it."""
    ROLLOVER = "rollover"
    """The next segment is not ready, or a seal is not acknowledged yet."""
    FLUSH = "flush"
    """The landing ring is full or too much is not durable yet; the device frees it."""
    HYDRATION = "hydration"
    """Bytes are on their way from the warm or cold tier."""
    TAIL = "tail"
    """The reader is at the end of the stream; the next append frees it."""
    REMOTE = "remote"
    """The record is not in tier 2 yet."""
    TIER2_BACKLOG = "tier2_backlog"
    """Tier 1 is at its budget and waits for uploads."""
    DISK_FULL = "disk_full"
    """The file system is full; the same handle goes on once there is room."""


def _rebuild(cls: type[AofError], message: str, fields: dict[str, Any]) -> AofError:
    return cls(message, **fields)


class AofError(Exception):
    """Base of all errors of the library.

    Args:
        message: What happened and what to do next.
        stream, segment, path, position, offset: Where it happened, as far as it is known; they are
            attributes too, and part of the text.

    Attributes:
        code: Stable identifier of the class, for logs and alerts.
    """

    code: ClassVar[str] = "AOF_ERROR"

    def __init__(
        self,
        message: str,
        *,
        stream: str | None = None,
        segment: int | None = None,
        path: str | None = None,
        position: int | None = None,
        offset: int | None = None,
        **extra: Any,
    ) -> None:
        self.message = message
        self.stream = stream
        self.segment = segment
        self.path = path
        self.position = position
        self.offset = offset
        place = {
            "stream": stream,
            "segment": segment,
            "path": path,
            "position": position,
            "offset": offset,
        }
        self._fields: dict[str, Any] = {**place, **extra}
        known = ", ".join(f"{name} {value}" for name, value in place.items() if value is not None)
        super().__init__(f"{message} [{known}]" if known else message)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Callable[..., AofError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.message, self._fields)


class Waiter(Protocol):
    """What a `WouldBlock` waits on."""

    def wait(self, timeout: float | None) -> bool: ...
    async def wait_async(self, timeout: float | None) -> bool: ...


class WouldBlock(AofError, BlockingIOError):
    """Not now: nothing was accepted, and the same call can succeed later.

    Attributes:
        kind: What it waits for.
        retry_after_s: A sensible pause in seconds before trying again.
    """

    code = "WOULD_BLOCK"

    def __init__(
        self,
        message: str,
        *,
        kind: WouldBlockKind,
        retry_after_s: float = 0.01,
        waiter: Waiter | None = None,
        **where: Any,
    ) -> None:
        super().__init__(message, kind=kind, retry_after_s=retry_after_s, **where)
        self.kind = kind
        self.retry_after_s = retry_after_s
        # It is bound to a live handle, so it does not travel in a pickle.
        self._waiter = waiter

    def wait(self, timeout: float | None = None) -> bool:
        """Block until a retry can succeed, for at most `timeout` seconds (None: for ever).

        Raises `Closed` when the handle was closed meanwhile.

        Returns:
            True when a retry is worth while (or says why none ever will be), False when the time
            ran out. An error that crossed a process border has nothing to wait on: True at once.
        """
        return True if self._waiter is None else self._waiter.wait(timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Like `wait`, without blocking the event loop."""
        return True if self._waiter is None else await self._waiter.wait_async(timeout)


class WaitTimeout(WouldBlock, TimeoutError):
    """A blocking call's time ran out before anything was accepted; the call may be repeated."""

    code = "WAIT_TIMEOUT"


class NotYetDurable(AofError, TimeoutError):
    """The record was accepted, but did not reach the level in time: do not append it again.

    Attributes:
        offset: The accepted record; `wait(offset, level)` goes on waiting for it.
        level: `"local"` or `"remote"`.
    """

    code = "NOT_YET_DURABLE"

    def __init__(self, message: str, *, offset: int, level: str = "local", **where: Any) -> None:
        super().__init__(message, offset=offset, level=level, **where)
        self.level = level


class ConfigError(AofError, ValueError):
    """A configuration value is out of its range or fights another one."""

    code = "CONFIG"


class RecordTooLarge(AofError, ValueError):
    """A record or batch is larger than the configuration allows; nothing was appended."""

    code = "RECORD_TOO_LARGE"


class InvalidStreamName(AofError, ValueError):
    """A stream's name must match `[A-Za-z0-9._-]{1,100}` and not begin with a dot."""

    code = "INVALID_STREAM_NAME"


class OffsetOutOfRange(AofError, LookupError):
    """The offset is not in the stream.

    Attributes:
        first: The earliest offset there is.
        next: The offset that the next record will get.
    """

    code = "OFFSET_OUT_OF_RANGE"

    def __init__(self, message: str, *, first: int = 0, next: int = 0, **where: Any) -> None:
        super().__init__(message, first=first, next=next, **where)
        self.first = first
        self.next = next


class StreamNotFound(AofError, LookupError):
    """There is no stream of that name, and creating it was not asked for."""

    code = "STREAM_NOT_FOUND"


class RootLocked(AofError):
    """Another process has the root open for writing; readers may use `readonly=True`.

    Attributes:
        pid: Process id that the holder wrote into the lock file, None when unreadable.
        host: Host name that the holder wrote, None when unreadable.
    """

    code = "ROOT_LOCKED"

    def __init__(
        self, message: str, *, pid: int | None = None, host: str | None = None, **where: Any
    ) -> None:
        super().__init__(message, pid=pid, host=host, **where)
        self.pid = pid
        self.host = host


class Fenced(AofError):
    """A newer writer owns the stream in tier 2; this one can change nothing there any more.

    Attributes:
        epoch: The epoch of the newer writer.
    """

    code = "FENCED"

    def __init__(self, message: str, *, epoch: int = 0, **where: Any) -> None:
        super().__init__(message, epoch=epoch, **where)
        self.epoch = epoch


class ForkedHandle(AofError):
    """The handle belongs to the parent process; open the root again with `readonly=True`."""

    code = "FORKED_HANDLE"


class Closed(AofError, ValueError):
    """The handle was closed."""

    code = "CLOSED"


class DurabilityLost(AofError, OSError):
    """A sync failed, so what the disk holds is unknown; the writer has stopped for good.

    Readers go on. Look at the device, then reopen the stream: recovery proves what is there.
    """

    code = "DURABILITY_LOST"


class RolloverFailed(AofError, OSError):
    """A segment could not be sealed; its records are intact, and reopening finishes the seal."""

    code = "ROLLOVER_FAILED"


class StorageFull(AofError, OSError):
    """No room, and no work under way can make some; nothing was accepted."""

    code = "STORAGE_FULL"


class TierError(AofError):
    """Another tier failed; the copy that was there before is still there."""

    code = "TIER"


class CompressionFailed(TierError):
    """A sealed segment could not be compressed, or the result did not verify."""

    code = "COMPRESSION_FAILED"


class UploadFailed(TierError):
    """An object could not be stored, or the store's checksum differs from ours."""

    code = "UPLOAD_FAILED"


class FetchFailed(TierError):
    """An object or a part of it could not be read."""

    code = "FETCH_FAILED"


class HydrationFailed(TierError):
    """A segment could not be brought back to tier 0."""

    code = "HYDRATION_FAILED"


class HydrationTimeout(TierError, TimeoutError):
    """The deadline passed while a segment was on its way; the work goes on into the cache."""

    code = "HYDRATION_TIMEOUT"


class Tier2Auth(TierError):
    """The store refused the credentials, or they do not allow the request."""

    code = "TIER2_AUTH"


class Tier2Unavailable(TierError):
    """The store cannot be reached, or the bucket does not exist."""

    code = "TIER2_UNAVAILABLE"


class UnsafeStore(TierError):
    """The store does not honour create-only writes, so two writers could overwrite each other."""

    code = "UNSAFE_STORE"


class CorruptionError(AofError):
    """Bytes that were durable have changed; they are never returned and never skipped silently.

    Attributes:
        path: File or object key.
        position: Byte position in the file, where known.
        offset: Offset of the first record that cannot be read, where known.
        intact_on: Names of the tiers that still hold a good copy.
    """

    code = "CORRUPTION"

    def __init__(self, message: str, *, intact_on: tuple[str, ...] = (), **where: Any) -> None:
        super().__init__(message, intact_on=intact_on, **where)
        self.intact_on = intact_on


class SegmentCorrupt(CorruptionError):
    """A segment's header, footer or totals do not agree with its contents."""

    code = "SEGMENT_CORRUPT"


class RecordCorrupt(CorruptionError):
    """A frame that must be there fails its checksum."""

    code = "RECORD_CORRUPT"


class ManifestCorrupt(CorruptionError):
    """A manifest chunk or record does not check, or says something impossible."""

    code = "MANIFEST_CORRUPT"


class ObjectCorrupt(CorruptionError):
    """A warm file or cold object does not check."""

    code = "OBJECT_CORRUPT"


class SegmentLost(CorruptionError):
    """No tier has a copy of a segment that the manifest names, or whose records were durable."""

    code = "SEGMENT_LOST"


class FormatError(AofError):
    """The bytes are not of a format that this library writes."""

    code = "FORMAT"


class VersionTooNew(FormatError):
    """Written by a newer version with a feature that this one does not know; upgrade."""

    code = "VERSION_TOO_NEW"


class CoordinatorDied(AofError):
    """Background work has stopped for good; close and reopen.

    The `__cause__` is the error that ended it.
    """

    code = "COORDINATOR_DIED"
