"""`aof2.open`: from arguments to a manager, with nothing left behind when it fails."""

from __future__ import annotations

import dataclasses
import functools
import os

from aof2.clock import Clock
from aof2.config import AofManagerConfig, Tier2Config
from aof2.errors import ConfigError
from aof2.manager import AofManager
from aof2.objectstore import ObjectStore, open_store
from aof2.waiting import Timeout, deadline, in_thread


def _configure(
    tier2: str | os.PathLike[str] | Tier2Config | None, config: AofManagerConfig | None
) -> AofManagerConfig:
    chosen = AofManagerConfig() if config is None else config
    if tier2 is None:
        return chosen
    if chosen.tier2 is not None:
        raise ConfigError("tier2 is given twice: as an argument and in the configuration")
    if not isinstance(tier2, Tier2Config):
        tier2 = Tier2Config(url=os.fspath(tier2))
    return dataclasses.replace(chosen, tier2=tier2)


def open(
    root: str | os.PathLike[str],
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    config: AofManagerConfig | None = None,
    readonly: bool = False,
    timeout: Timeout = ...,
    clock: Clock | None = None,
) -> AofManager:
    """Open a root directory.

    Args:
        root: The directory; made when it is missing.
        tier2: `s3://bucket/prefix`, a directory or a `Tier2Config`; None keeps everything local.
        config: Everything else; None takes the defaults.
        readonly: Open beside a live writer; changes no data on disk.
        timeout: Seconds to wait for tier 2. A root with history opens without its answer, and goes
            on asking. Recovery of what is here is not cut short.
        clock: Time and chance, for tests.

    Raises:
        ConfigError: the root or a value cannot be used.
        RootLocked: another process writes to the root.
        Tier2Unavailable, Tier2Auth: tier 2 cannot be used; nothing was left behind.
        WaitTimeout: a fresh root, and tier 2 has not answered in time; the same.
        CorruptionError: a stream's bytes are damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, open(folder) as manager:
        ...     manager.stream("orders").append(b"first")
        0
    """
    return open_root(
        root, tier2=tier2, config=config, readonly=readonly, timeout=timeout, clock=clock
    )


def open_root(
    root: str | os.PathLike[str],
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    config: AofManagerConfig | None = None,
    readonly: bool = False,
    timeout: Timeout = ...,
    clock: Clock | None = None,
    opens: bool = True,
) -> AofManager:
    """Like `open`; with `opens=False` a writer leaves the streams that are there alone until they
    are asked for, as one that is damaged cannot be opened."""
    chosen = _configure(tier2, config)
    clock = Clock() if clock is None else clock
    until_s = deadline(clock, timeout, chosen.wait_timeout_s)
    store: ObjectStore | None = None
    if chosen.tier2 is not None:
        values = dataclasses.asdict(chosen.tier2)
        store = open_store(values.pop("url"), **values)
    try:
        return AofManager(
            os.fspath(root),
            chosen,
            store,
            clock,
            readonly=readonly,
            until_s=until_s,
            opens=opens,
        )
    except BaseException:
        if store is not None:
            store.close()
        raise


async def open_async(
    root: str | os.PathLike[str],
    *,
    tier2: str | os.PathLike[str] | Tier2Config | None = None,
    config: AofManagerConfig | None = None,
    readonly: bool = False,
    timeout: Timeout = ...,
    clock: Clock | None = None,
) -> AofManager:
    """Like `open`, without blocking the event loop; cancelled, what was opened is closed again.

    ```python
    async with await aof2.open_async("data") as manager:
        await manager.stream("orders").append_async(b"first")
    ```
    See `docs/architecture.md`.
    """
    work = functools.partial(
        open, root, tier2=tier2, config=config, readonly=readonly, timeout=timeout, clock=clock
    )
    return await in_thread("aof2-open", work, AofManager.close)
