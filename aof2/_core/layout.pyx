"""Sizes of the structures on disk, checked against the format's text when the module is loaded."""

from aof2._core.layout cimport (
    BatchHeader,
    Footer,
    FrameHeader,
    IndexEntry,
    PageEntry,
    PageHeader,
    RingHeader,
    RowImage,
    SealedPointer,
    Slot,
    SnapshotHeader,
    StartBlock,
    StaticHeader,
    WarmEntry,
    WarmTableHeader,
)

_EXPECTED = {
    "StaticHeader": (sizeof(StaticHeader), 2048),
    "StartBlock": (sizeof(StartBlock), 2048),
    "Slot": (sizeof(Slot), 32),
    "FrameHeader": (sizeof(FrameHeader), 32),
    "BatchHeader": (sizeof(BatchHeader), 8),
    "IndexEntry": (sizeof(IndexEntry), 16),
    "Footer": (sizeof(Footer), 168),
    "SealedPointer": (sizeof(SealedPointer), 96),
    "RowImage": (sizeof(RowImage), 112),
    "PageHeader": (sizeof(PageHeader), 56),
    "SnapshotHeader": (sizeof(SnapshotHeader), 152),
    "PageEntry": (sizeof(PageEntry), 56),
    "RingHeader": (sizeof(RingHeader), 120),
    "WarmTableHeader": (sizeof(WarmTableHeader), 104),
    "WarmEntry": (sizeof(WarmEntry), 40),
}


def sizes():
    """Sizes of the structures on disk.

    Returns:
        `{name of the structure: bytes}`, as `docs/format.md` lists them.

    Example:
        >>> sizes()["FrameHeader"]
        32
    """
    return {name: actual for name, (actual, _) in _EXPECTED.items()}


for _name, (_actual, _wanted) in _EXPECTED.items():
    if _actual != _wanted:
        raise ImportError(f"layout of {_name}: {_actual} bytes, the format says {_wanted}")
