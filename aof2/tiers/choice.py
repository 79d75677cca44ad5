"""Which copies of a stream's segments readers go to, and which of them were found damaged."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping, Set

from aof2._core.pointread import PointReader
from aof2.errors import AofError, CorruptionError, SegmentLost
from aof2.manifest.log import Manifest
from aof2.meters import Meters
from aof2.tiers.cold import ColdTier
from aof2.tiers.hot import HotTier
from aof2.tiers.hydration import Hydration
from aof2.tiers.remote import RemoteSide
from aof2.tiers.residency import LOGGERS, Residency
from aof2.tiers.warm import WarmTier
from aof2.types import StreamIdentity, Tier

NONE_TRIED: Set[Tier] = frozenset()
MEDIUM_ERRORS = frozenset(
    {errno.EIO, errno.EBADMSG, errno.ENODATA, errno.ENXIO, errno.EREMOTEIO, errno.EUCLEAN}
)
"""What a read of a bad medium or of a damaged file system says."""


def is_damage(error: BaseException) -> bool:
    """Whether an error of a read says that the copy is bad, so that another one may be good."""
    if isinstance(error, AofError):
        return isinstance(error, CorruptionError) and not isinstance(error, SegmentLost)
    return isinstance(error, OSError) and error.errno in MEDIUM_ERRORS


class Choice(Residency):
    """The part of an instance that chooses the copy to read.

    Attributes:
        changed: The lock that guards the fields of an instance.
        points: Reads single records of hot segments; None for a stream that is only read.
        meters: Where damage is counted.
        hydration: What is wanted back in a nearer tier; set by whoever opens the stream.
    """

    def __init__(
        self,
        identity: StreamIdentity,
        manifest: Manifest,
        hot: HotTier,
        warm: WarmTier,
        cold: ColdTier | None,
        remote: RemoteSide,
        meters: Meters,
    ) -> None:
        super().__init__(identity, manifest, hot, warm, cold, remote)
        self.changed = threading.RLock()
        self.points: PointReader | None = None
        self.meters = meters
        self.hydration: Hydration
        self._damaged: dict[int, set[Tier]] = {}

    def copies(self, segment_id: int) -> list[Tier]:
        """The tiers that may have a copy of a segment: the nearest first, damaged ones last."""
        row = self.manifest.index.segments.get(segment_id)
        if row is None or not row.sealed:
            return [Tier.HOT]
        found = [Tier.HOT]
        if row.compressed is not None:
            found.append(Tier.WARM)
        if row.cold is not None and self.cold is not None:
            found.append(Tier.COLD)
        bad = self._damaged.get(segment_id, ())
        return sorted(found, key=lambda tier: (tier in bad, tier))

    def nearest(self, segment_id: int, but: Set[Tier] = NONE_TRIED) -> Tier:
        """The tier that a read of a segment goes to."""
        row = self.manifest.index.segments.get(segment_id)
        bad = self._damaged.get(segment_id)
        if row is None or not row.sealed or not (bad or but or segment_id not in self.hot.sizes):
            return Tier.HOT
        here = self.residency(row)
        there = [tier for tier in self.copies(segment_id) if tier in here and tier not in but]
        return next(iter(there), Tier.COLD)

    def report_damage(self, segment_id: int, tier: Tier, error: BaseException) -> None:
        """A read found that a copy of a sealed segment is missing or damaged: count and log it,
        once; from here on readers go to the other copies first."""
        with self.changed:
            bad = self._damaged.setdefault(segment_id, set())
            if tier in bad:
                return
            bad.add(tier)
        if self.points is not None:
            self.points.drop(segment_id)
        code = getattr(error, "code", None) or "IO"
        self.meters.corruption[code] += 1
        LOGGERS[tier].error(
            "stream %s: the %s copy of segment %d is missing or damaged: %s",
            self.name,
            tier.name.lower(),
            segment_id,
            error,
            extra={
                "event": "copy_damaged",
                "stream": self.name,
                "segment": segment_id,
                "tier": tier.value,
                "path": getattr(error, "path", None) or getattr(error, "filename", None),
                "position": getattr(error, "position", None),
                "offset": getattr(error, "offset", None),
                "code": code,
            },
        )

    def healed(self, segment_id: int, damaged: Mapping[Tier, Exception]) -> None:
        """Another copy had what was wanted: have these ones made again from it."""
        for tier, error in damaged.items():
            self.meters.healed[tier.name.lower()] += 1
            self.hydration.needs_recovery(segment_id, tier, error)
