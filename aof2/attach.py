"""Attaching to a stream's files: directories, manifest, tiers, recovery, writer."""

from __future__ import annotations

from typing import Protocol

from aof2._core.directory import Directory
from aof2.coordinator.context import Context
from aof2.coordinator.publishing import adopt_epoch
from aof2.coordinator.runtime import Coordinator
from aof2.errors import ManifestCorrupt
from aof2.manifest.log import Manifest
from aof2.manifest.publication import Publication
from aof2.manifest.publish import Publisher
from aof2.manifest.rebuild import manifest_directory, settle
from aof2.manifest.standin import StandIn, stand_in
from aof2.objectstore import ObjectStore
from aof2.recovery import Recovery
from aof2.root import Root
from aof2.signals import StreamSignals
from aof2.streamdir import IDENTITY_NAME
from aof2.tiers.cold import ColdTier
from aof2.tiers.hot import HotTier
from aof2.tiers.hydration import Hydration
from aof2.tiers.instance import StreamInstance
from aof2.tiers.remote import RemoteSide
from aof2.tiers.warm import WarmTier
from aof2.types import RecoveryReport, StreamIdentity
from aof2.writer import make_writer


class _Closable(Protocol):
    def close(self) -> None: ...


def attach(
    root: Root,
    name: str,
    context: Context,
    coordinator: Coordinator,
    store: ObjectStore | None,
    ext_id: int,
    *,
    readonly: bool,
    publisher: Publisher | None = None,
) -> tuple[StreamInstance, RecoveryReport]:
    """Open a stream that exists; for a writer, recover it and make its core writer.

    `publisher` is the right to publish of a stream that was just taken over. What was opened is
    closed again when anything fails.
    """
    directory, identity = root.open_stream(name)
    opened: list[_Closable] = [directory]
    clock = context.clock
    try:
        hot, warm = directory.subdir("segments"), directory.subdir("warm")
        opened += [hot, warm]
        if not readonly:
            settle(directory, clock.now_ns())
        records, quarantine = _records_directory(directory), directory.subdir("quarantine")
        opened += [records, quarantine]
        places = records, hot, warm, quarantine
        manifest = _open_manifest(places, identity, context, store, readonly=readonly)
        opened.append(manifest)
        identity = manifest.identity
        remote = RemoteSide(manifest, records)
        if store is not None and not readonly:
            remote.publication = Publication(store, manifest, records, clock)
        elif not readonly:
            remote.keep_unpublished()
        instance = _instance(
            identity, (directory, hot, warm), manifest, remote, store, context, readonly=readonly
        )
        instance.owned = [records, quarantine]
        _add_hydration(instance, quarantine, context, coordinator, readonly=readonly)
        if readonly:
            instance.signals.ring = instance.ring
            return instance, _look(instance)
        if publisher is not None and remote.publication is not None:
            remote.publication.adopt(publisher)
            adopt_epoch(instance, publisher.epoch)
        recovered = Recovery(instance, quarantine, clock, takeover=publisher is not None).run()
        remote.note_trimmed()
        make_writer(instance, recovered, context, coordinator, clock, ext_id)
    except BaseException:
        for thing in reversed(opened):
            thing.close()
        raise
    return instance, recovered.report


def _instance(
    identity: StreamIdentity,
    directories: tuple[Directory, Directory, Directory],
    manifest: Manifest,
    remote: RemoteSide,
    store: ObjectStore | None,
    context: Context,
    *,
    readonly: bool,
) -> StreamInstance:
    """The stream over all tiers, as its manifest and its files say."""
    directory, hot, warm = directories
    return StreamInstance(
        identity,
        directory,
        manifest,
        HotTier(hot, identity, context.tier0),
        WarmTier(warm, context.config.tier1, context.tier1),
        None if store is None else ColdTier(store, identity, context.clock),
        remote,
        StreamSignals(context.clock, context.announcer, readonly=readonly),
        context.frames,
        context.meters,
    )


def _add_hydration(
    instance: StreamInstance,
    quarantine: Directory,
    context: Context,
    coordinator: Coordinator,
    *,
    readonly: bool,
) -> None:
    instance.hydration = Hydration(
        instance,
        instance.signals.hydration,
        context.clock,
        context.meters,
        quarantine,
        limit_s=context.config.coordinator.hydration_timeout_s,
        writable=not readonly,
    )
    instance.hydration.kick = coordinator.kick


def _records_directory(directory: Directory) -> Directory:
    try:
        return manifest_directory(directory)
    except FileNotFoundError:
        # Its absence is damage like another; the stream's directory stands for it.
        return directory


def _look(instance: StreamInstance) -> RecoveryReport:
    """What a reader found; it repairs nothing."""
    instance.refresh()
    return RecoveryReport(
        clean=not isinstance(instance.manifest, StandIn),
        records=instance.next_offset - instance.first_offset,
        replay=instance.manifest.replay,
    )


def _open_manifest(
    directories: tuple[Directory, Directory, Directory, Directory],
    identity: StreamIdentity,
    context: Context,
    store: ObjectStore | None,
    *,
    readonly: bool,
) -> Manifest:
    """Replay the manifest; for a reader, files stand in for one that is damaged."""
    records, hot, warm, quarantine = directories
    config, clock = context.config.manifest, context.clock
    try:
        if records.exists(IDENTITY_NAME):
            raise ManifestCorrupt("its directory is missing", path=records.join("manifest"))
        return Manifest.open(
            records,
            identity,
            time=clock.source,
            chunk_bytes=config.chunk_bytes,
            snapshot_chunks=config.snapshot_chunks,
            clock_s=clock.monotonic_s,
            readonly=readonly,
            mirror=not config.log_only,
            # A time in the name: a recovery that is cut and runs again keeps the same bytes again.
            quarantine=lambda kept, data: quarantine.create(f"{kept}.{clock.now_ns()}", data),
        )
    except ManifestCorrupt as damage:
        if not readonly:
            raise ManifestCorrupt(
                f"{damage.message}. Nothing can be appended; `readonly=True` reads every segment "
                "that has a good copy, and `aof2-admin repair` makes the manifest again",
                stream=identity.name,
                path=damage.path,
                position=damage.position,
                segment=damage.segment,
                offset=damage.offset,
            ) from damage
        return stand_in(damage, records, identity, hot, warm, store)
