"""The call of a manager that waits until its background work has settled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from aof2.clock import Clock
from aof2.config import AofManagerConfig
from aof2.coordinator.commands import (
    Command,
    Compress,
    CompressToTier2,
    Publish,
    Retain,
    Rollover,
    Upload,
)
from aof2.coordinator.context import Context
from aof2.coordinator.planner import cannot_compress
from aof2.coordinator.runtime import Coordinator
from aof2.errors import ConfigError, WaitTimeout, WouldBlockKind
from aof2.flushing import Level
from aof2.objectstore.observed import ObservedStore
from aof2.stream import Aof
from aof2.tiers.instance import StreamInstance
from aof2.waiting import Timeout, Wait, deadline, retried, retried_async
from aof2.writer import full_for_ever


class Draining:
    """What `AofManager` knows of draining."""

    _config: AofManagerConfig
    _clock: Clock
    _store: ObservedStore | None
    _context: Context
    _coordinator: Coordinator
    _streams: dict[str, Aof]
    _instances: dict[str, StreamInstance]
    _readonly: bool

    @property
    def root(self) -> str:
        """Absolute path of the root directory."""
        raise NotImplementedError

    def _check_open(self) -> None:
        raise NotImplementedError

    def drain(self, level: Level = "local", *, timeout: Timeout = ...) -> None:
        """Wait until background work has settled.

        Args:
            level: `"local"`: everything is flushed, ended segments are sealed and compressed, and
                what is more than `retention.bytes_max` is given up.
                `"remote"`: active segments are sealed first, and everything is in tier 2.
            timeout: Seconds to wait.

        Raises:
            StorageFull: both local tiers are full, and nothing can free them.
            WaitTimeout: it has not settled in time; its text names the newest failure, if there is
            one.
        """
        until_s = deadline(self._clock, timeout, self._config.wait_timeout_s)
        for start in self._drain(level):
            retried(start, until_s).block(until_s)

    def drain_nowait(self, level: Level = "local") -> None:
        """Return if background work has settled, else get it going and raise `WouldBlock`."""
        for start in self._drain(level):
            start().check()

    async def drain_async(self, level: Level = "local", *, timeout: Timeout = ...) -> None:
        """Like `drain`, without blocking the event loop."""
        until_s = deadline(self._clock, timeout, self._config.wait_timeout_s)
        for start in self._drain(level):
            await (await retried_async(start, until_s)).suspend(until_s)

    def _drain(self, level: Level) -> Iterator[Callable[[], Wait]]:
        """The steps of a drain; each starts something and returns what to wait for."""
        if level not in ("local", "remote"):
            raise ValueError(f'level is {level!r}: "local" or "remote"')
        if level == "remote" and self._store is None:
            raise ConfigError("the root has no tier 2: open it with tier2=", path=self.root)
        self._check_open()
        if self._readonly:
            return
        for log in list(self._streams.values()):
            yield functools.partial(log._drained, level)
        self._coordinator.kick(hasten=True)
        wanted: tuple[type[Command], ...] = (Rollover, Compress, CompressToTier2, Retain)
        if level == "remote":
            wanted = (*wanted, Upload, Publish)
        kind = WouldBlockKind.REMOTE if level == "remote" else WouldBlockKind.ROLLOVER
        yield lambda: Wait(
            self._context.announcer.work,
            lambda: self._settled(wanted),
            kind,
            "background work has not settled yet",
            lambda: self._not_drained(kind),
        )

    def _settled(self, wanted: tuple[type[Command], ...]) -> bool:
        """Nothing of these kinds is under way, and no segment waits for one of them."""
        self._check_open()
        self._coordinator.check_alive()
        if Upload in wanted:
            for stream in self._instances.values():
                stream.remote.check_ours()
        if not self._coordinator.is_settled(lambda command: isinstance(command, wanted)):
            return False
        for stream in self._instances.values():
            if stream.to_compress or any(u.ended for u in stream.unsealed()):
                stream.check_seals()
                self._check_full()
                return False
            if Upload in wanted and self._is_behind(stream):
                stream.check_manifest()
                return False
        return True

    def _is_behind(self, stream: StreamInstance) -> bool:
        """Whether tier 2 still lacks something of a stream; it need not wait for the next regular
        publication."""
        uploads = stream.has_uploads
        behind = uploads or stream.remote.is_behind(uploads=uploads)
        if behind and stream.remote.due_s > self._clock.monotonic_s():
            stream.remote.due_s = 0.0
            self._coordinator.kick()
        return behind

    def _check_full(self) -> None:
        """Raise `StorageFull` when what is left to do can never be done."""
        view = self._context.view()
        name = cannot_compress(view)
        if name is not None and self._coordinator.is_settled():
            raise full_for_ever(view, name)

    def _not_drained(self, kind: WouldBlockKind) -> WaitTimeout:
        errors = [str(s.last_error) for s in self._instances.values() if s.last_error is not None]
        return WaitTimeout(
            "background work has not settled yet"
            + (f"; last failure: {errors[0]}" if errors else ""),
            kind=kind,
            path=self.root,
        )
