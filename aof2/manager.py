"""`AofManager`: a root's streams, budgets and background work."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

from aof2.admission import Budget
from aof2.attach import attach
from aof2.clock import Clock
from aof2.closing import Parts, shut_down
from aof2.config import AofManagerConfig
from aof2.coordinator.context import Context, is_disk_full
from aof2.coordinator.runtime import Coordinator
from aof2.creating import Creation, check_store
from aof2.draining import Draining
from aof2.errors import (
    AofError,
    Closed,
    ForkedHandle,
    StorageFull,
    WaitTimeout,
    WouldBlockKind,
)
from aof2.fetching import Fetch, Fetches
from aof2.framecache import FrameCache
from aof2.leftover import LIVE, pending_of
from aof2.objectstore import ObjectStore
from aof2.objectstore.breaker import Breaker
from aof2.objectstore.observed import ObservedStore
from aof2.observing import Observing
from aof2.pool import DaemonPool
from aof2.root import Root
from aof2.signals import Signal
from aof2.stream import Aof
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Timeout, deadline, in_thread
from aof2.writer import change_ext_id, size_limits

LOGGER = logging.getLogger("aof2.tiered")
FETCHES_MAX = 8
"""Threads for reads of other tiers: so many requests of all readers are under way at one time."""
FOR_EVER_S = 1e9


class AofManager(Observing, Draining):
    """A root directory and everything that belongs to it. Made by `aof2.open`.

    One process writes to a root; any number read it with `readonly=True`. A context manager, also
    `async with`. Safe to use from many threads.

    Example, and more in `README.md`:

    ```python
    with aof2.open("data") as manager:
        manager.stream("orders").append(b"first")
    ```
    """

    def __init__(
        self,
        path: str,
        config: AofManagerConfig,
        store: ObjectStore | None,
        clock: Clock,
        *,
        readonly: bool,
        until_s: float | None = None,
        opens: bool = True,
    ) -> None:
        self._config = config
        breaker = Breaker(clock, config.coordinator.retry_delay_s)
        self._store = store = None if store is None else ObservedStore(store, breaker)
        self._clock = clock
        self._readonly = readonly
        self._streams: dict[str, Aof] = {}
        self._instances: dict[str, StreamInstance] = {}
        self._lock = threading.RLock()
        self._executor: DaemonPool | None = None
        self._executor_lock = threading.Lock()
        self._closed = False
        self._closer: threading.Thread | None = None
        self._ended = threading.Event()
        self._forked = False
        size_limits(config)
        self._root = Root(path, clock, readonly=readonly)
        context = Context(
            config=config,
            clock=clock,
            tier0=Budget(config.tier0.bytes_max),
            tier1=Budget(config.tier1.bytes_max),
            breaker=breaker,
            frames=FrameCache(self._pool),
            stopping=lambda: self._coordinator.stopping,
        )
        self._context = context
        self._opens = Fetches(self._pool, Signal(clock, context.announcer), path)
        self._coordinator = Coordinator(context)
        context.tier0.on_room = self._room_freed
        try:
            if store is not None:
                needed = readonly or not self._root.stream_names()
                check_store(store, clock, until_s, needed=needed)
            if not readonly:
                self._coordinator.start()
                # Work that an earlier process left goes on without anyone asking for the stream.
                for name in self._root.stream_names() if opens else ():
                    self.stream(name)
        except BaseException:
            self._abandon()
            raise
        LIVE.add(self)

    @property
    def root(self) -> str:
        """Absolute path of the root directory."""
        return self._root.path

    @property
    def config(self) -> AofManagerConfig:
        """The configuration that is in force."""
        return self._config

    @property
    def bytes_used(self) -> tuple[int, int]:
        """Bytes on disk that count against the budgets of tier 0 and tier 1, over all streams."""
        self._check_open()
        for stream in list(self._instances.values()):
            stream.refresh()
        return self._context.tier0.used, self._context.tier1.used

    # --- streams --------------------------------------------------------------------------------

    def stream(
        self, name: str, *, create: bool = True, ext_id: int = 0, timeout: Timeout = ...
    ) -> Aof:
        """A stream: created, or recovered from what is there; the same object each time.

        Args:
            name: `[A-Za-z0-9._-]{1,100}`, no leading dot.
            create: Make it when it does not exist (never with `readonly=True`).
            ext_id: Default 64-bit number of its records from now on.
            timeout: Seconds to wait for tier 2 where the root does not have the stream, and for
                others that are being opened. Recovery itself is not cut short; it takes as long as
                the unsealed bytes need.

        Raises:
            WaitTimeout: it is not open yet; the opening goes on.
            InvalidStreamName, StreamNotFound: by its name.
            CorruptionError: bytes that must be there are damaged; nothing was cut.
            StorageFull: no room for its files.
        """
        self._check_open()
        if self._asks_tier2(name, create):
            # Nobody can leave a request that hangs, so another thread makes it.
            fetch = self._opening(name, create, ext_id)
            fetch.wait.block(deadline(self._clock, timeout, self._config.wait_timeout_s))
            return fetch.result()
        return self._stream_here(name, create, ext_id, timeout)

    def _asks_tier2(self, name: str, create: bool) -> bool:
        """Whether a stream is not here, so that tier 2 may have to be asked for it."""
        asks = create and not self._readonly and self._store is not None
        return asks and name not in self._streams and name not in self._root.stream_names()

    def _stream_here(self, name: str, create: bool, ext_id: int, timeout: Timeout) -> Aof:
        """Look a stream up, or open it on this thread, after whoever is opening one."""
        if name not in self._streams:
            until_s = deadline(self._clock, timeout, self._config.wait_timeout_s)
            left_s = -1.0 if until_s is None else max(0.0, until_s - self._clock.monotonic_s())
            if not self._lock.acquire(timeout=left_s):
                raise WaitTimeout(
                    "another stream is being recovered; try again",
                    kind=WouldBlockKind.HYDRATION,
                    stream=name,
                    path=self.root,
                )
            try:
                self._check_open()
                if name not in self._streams:
                    return self._open_stream(name, create and not self._readonly, ext_id)
            finally:
                self._lock.release()
        writer = self._instances[name].writer
        if ext_id and writer is not None:
            change_ext_id(writer, ext_id)
        return self._streams[name]

    def stream_nowait(self, name: str, *, create: bool = True, ext_id: int = 0) -> Aof:
        """Like `stream`; one that is not open yet is opened on another thread, and raises
        `WouldBlock`(HYDRATION) until it is."""
        self._check_open()
        if name in self._streams:
            return self.stream(name, create=create, ext_id=ext_id)
        fetch = self._opening(name, create, ext_id)
        fetch.wait.check()
        return fetch.result()

    async def stream_async(
        self, name: str, *, create: bool = True, ext_id: int = 0, timeout: Timeout = ...
    ) -> Aof:
        """Like `stream`, without blocking the event loop; the opening goes on when time is up."""
        self._check_open()
        if name in self._streams:
            return self.stream(name, create=create, ext_id=ext_id)
        fetch = self._opening(name, create, ext_id)
        await fetch.wait.suspend(deadline(self._clock, timeout, self._config.wait_timeout_s))
        return fetch.result()

    def _opening(self, name: str, create: bool, ext_id: int) -> Fetch[Aof]:
        """Have a stream opened on another thread; one after the other, as they share a lock."""
        work = functools.partial(self._stream_here, name, create, ext_id, None)
        key = (name, create, ext_id)
        return self._opens.ask("open", key, work, f"stream {name!r} is being recovered")

    def streams(self) -> list[str]:
        """Names of the streams in the root, sorted."""
        self._check_open()
        return self._root.stream_names()

    def _open_stream(self, name: str, create: bool, ext_id: int) -> Aof:
        publisher = None
        try:
            if create and name not in self._root.stream_names():
                creation = Creation(self._root, self._config, self._clock, self._store)
                publisher = creation.create(name)
            instance, report = attach(
                self._root,
                name,
                self._context,
                self._coordinator,
                self._store,
                ext_id,
                readonly=self._readonly,
                publisher=publisher,
            )
        except OSError as error:
            if isinstance(error, AofError) or not is_disk_full(error):
                raise
            raise StorageFull(
                f"no room on the disk to open stream {name!r}: free some and try again",
                path=self.root,
            ) from error
        if self._closed:
            _abandon_stream(instance)
            self._check_open()
        log = Aof(instance, self._config, self._clock, self._coordinator, self._pool, report)
        self._instances[name], self._streams[name] = instance, log
        self._context.streams[name] = instance
        if not self._readonly:
            self._coordinator.kick()
        return log

    def _room_freed(self) -> None:
        """Bytes of tier 0 came back: appends that wait for some are given theirs."""
        if any(stream.blocked_since_s for stream in list(self._instances.values())):
            self._context.look_for_room()
            self._coordinator.kick()

    # --- closing --------------------------------------------------------------------------------

    def close(self, *, timeout: Timeout = ...) -> None:
        """Flush, stop the background work, release the root; again is harmless.

        Work that is not finished within `timeout` seconds (left out:
        `coordinator.shutdown_timeout_s`) is found again by the next open. Raises the first failure,
        after everything was closed.
        """
        if self._forked:
            return
        limit_s = self._config.coordinator.shutdown_timeout_s if timeout is ... else timeout
        limit_s = FOR_EVER_S if limit_s is None else limit_s
        with self._executor_lock:
            first, self._closed = not self._closed, True
            self._closer = threading.current_thread() if first else self._closer
        if not first:
            # What a signal handler or a wake callback does must not wait for what it interrupted.
            if threading.current_thread() not in (self._closer, self._context.announcer.thread):
                self._ended.wait(limit_s)
            return
        LIVE.discard(self)
        try:
            stores = [] if self._store is None else [self._store.close]
            failures = self._shut_down(limit_s, self._root.close, *stores)
        finally:
            self._ended.set()
        if failures:
            raise failures[0]

    async def close_async(self, *, timeout: Timeout = ...) -> None:
        """Like `close`, without blocking the event loop."""
        # Not on the pool: closing ends it.
        work = functools.partial(self.close, timeout=timeout)
        await in_thread("aof2-close", work, lambda _: None)

    def _shut_down(
        self, limit_s: float, *releases: Callable[[], None]
    ) -> list[BaseException]:
        self._opens.close()
        parts = Parts(
            list(self._instances.values()),
            [log._close for log in self._streams.values()],
            self._coordinator,
            self._context.announcer,
            self._clock,
            self._executor,
            self._nobody_opens,
            releases,
            self._root.keep,
        )
        return shut_down(parts, limit_s)

    def _nobody_opens(self, limit_s: float) -> bool:
        """Wait until the opening of a stream has ended, which sees then that all is closed."""
        if not self._lock.acquire(timeout=limit_s):
            return False
        self._lock.release()
        return True

    def _abandon(self) -> None:
        """Undo a failed open: stop what had started, close what was open, leave nothing behind."""
        self._closed = True
        limit_s = self._config.coordinator.shutdown_timeout_s
        for failure in self._shut_down(limit_s, self._root.undo):
            LOGGER.error("while undoing a failed open: %s", failure, extra={"event": "undo"})

    def _pending(self) -> list[str]:
        """What a close has to finish, or leaves to the next open."""
        return pending_of(self._instances)

    def __enter__(self) -> AofManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> AofManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def __repr__(self) -> str:
        return f"AofManager({self.root!r}{', readonly' if self._readonly else ''})"

    def __reduce__(self) -> str:
        raise TypeError("a manager does not pickle: open the root with readonly=True over there")

    # --- helpers --------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._forked:
            raise ForkedHandle(
                "this handle belongs to the parent process: open the root with readonly=True",
                path=self.root,
            )
        if self._closed:
            raise Closed("the manager is closed: open the root again", path=self.root)

    def _pool(self) -> DaemonPool:
        """The threads that read other tiers and open streams for those who may not block."""
        # Not the lock that is held while a stream is recovered.
        with self._executor_lock:
            self._check_open()
            if self._executor is None:
                self._executor = DaemonPool(FETCHES_MAX, "aof2-fetch")
            return self._executor

    def _mark_forked(self) -> None:
        """In a forked child: the handles are the parent's, and so is the lock."""
        self._forked = True
        for instance in self._instances.values():
            if instance.writer is not None:
                instance.writer.mark_forked()
        for log in self._streams.values():
            log._mark_forked()
        self._root.close()


def _abandon_stream(instance: StreamInstance) -> None:
    if instance.writer is not None:
        instance.writer.close()
    instance.close()
