"""Which tiers hold which segments of a stream, and what is still to be done for them."""

from __future__ import annotations

import logging

from aof2._core.writer import SegmentWriter
from aof2.errors import DurabilityLost
from aof2.manifest.index import SegmentRow
from aof2.manifest.log import Manifest
from aof2.tiers.cold import ColdTier
from aof2.tiers.hot import HotTier
from aof2.tiers.pending import Pending
from aof2.tiers.remote import RemoteSide
from aof2.tiers.warm import WarmTier
from aof2.types import SegmentState, StreamIdentity, Tier

LOGGERS = {tier: logging.getLogger(f"aof2.tier{tier.value}") for tier in Tier}
"""What is told of copies in a tier."""


class Residency:
    """One stream's copies, over all tiers.

    Attributes:
        writer: Of its segments; None where another process writes.
        to_compress: Sealed segments without a second copy.
        to_upload: Segments with a warm and without a cold copy.
    """

    def __init__(
        self,
        identity: StreamIdentity,
        manifest: Manifest,
        hot: HotTier,
        warm: WarmTier,
        cold: ColdTier | None,
        remote: RemoteSide,
    ) -> None:
        self.identity = identity
        self.manifest = manifest
        self.hot = hot
        self.warm = warm
        self.cold = cold
        self.remote = remote
        self.writer: SegmentWriter | None = None
        self.to_compress = Pending()
        self.to_upload = Pending()

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.identity.name

    @property
    def stands_still(self) -> bool:
        """Whether a failed sync has stopped the stream's writer, or its manifest, for good."""
        return self.manifest.is_lost or (self.writer is not None and self.writer.poisoned)

    def check_manifest(self) -> None:
        """Raise `DurabilityLost` when nothing can be recorded any more."""
        if self.manifest.is_lost:
            raise DurabilityLost(
                "a sync of the manifest failed, so nothing can be sealed or moved any more; every "
                "record that was acknowledged is safe: look at the device, then reopen the stream",
                stream=self.name,
                path=self.hot.directory.path,
            )

    def check_seals(self) -> None:
        """Raise `DurabilityLost` when nothing will be sealed any more."""
        self.check_manifest()
        if self.writer is not None and self.writer.poisoned:
            # It says what has happened; without a sync that failed it would not be asked.
            self.writer.end_segment(nowait=True)

    @property
    def has_uploads(self) -> bool:
        """Whether segments wait to be uploaded, with a warm copy or without one."""
        return bool(self.to_upload or self.to_compress)

    def residency(self, row: SegmentRow) -> frozenset[Tier]:
        """Tiers that hold a usable copy: local files are facts, objects are what was recorded."""
        held = set()
        if row.segment_id in self.hot.sizes:
            held.add(Tier.HOT)
        if row.segment_id in self.warm.sizes and row.compressed is not None:
            held.add(Tier.WARM)
        if row.cold is not None:
            held.add(Tier.COLD)
        return frozenset(held)

    def _state(self, row: SegmentRow, held: frozenset[Tier]) -> SegmentState:
        usable = held if self.cold is not None else held - {Tier.COLD}
        if not usable or (row.needs_fetch and usable == {Tier.COLD}):
            return SegmentState.NEEDS_RECOVERY
        if Tier.COLD in held:
            return SegmentState.UPLOADED
        if Tier.WARM in held:
            return SegmentState.RESIDENT if Tier.HOT in held else SegmentState.STAGED
        return SegmentState.SEALED

    def resort(self, segment_id: int) -> None:
        """Put a segment where it belongs by the copies that it has now: among those to compress, to
        upload, and those whose local copies may go. Called after every change of its copies."""
        row = self.manifest.index.segments.get(segment_id)
        wanted = row is not None and row.sealed and not self.remote.is_trimmed(row)
        held = self.residency(row) if row is not None and wanted else frozenset[Tier]()
        for tier, files in ((Tier.HOT, self.hot), (Tier.WARM, self.warm)):
            order, n = files.budget.order, files.sizes.get(segment_id)
            if tier in held and n is not None and any(other > tier for other in held):
                order.put(self.name, segment_id, n)
            else:
                order.discard(self.name, segment_id)
        self.to_compress.keep(segment_id, held == {Tier.HOT})
        self.to_upload.keep(segment_id, Tier.WARM in held and Tier.COLD not in held)
