"""Sizes of the structures on disk, checked against the format's text when the module is loaded."""

from aof2._core.layout cimport (
    BatchHeader,
    Footer,
    FrameHeader,
    IndexEntry,
    RingHeader,
    SealedPointer,
    Slot,
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
