"""What a program was told before a crash: what it may count on, and what it must not see."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field

from aof2._core import seamlog


@dataclass
class StreamFacts:
    """Of one stream.

    Attributes:
        issued: Records that appends were called with; more cannot be there.
        returned: Records whose append returned; a process kill loses none of them.
        durable: Records that a flush covered; a power cut loses none of them.
        remote: Records that tier 2 has for good; losing the machine loses none of them.
        trims: Offsets that the stream may begin at.
        trimmed: Offset that it begins at or behind.
    """

    issued: int = 0
    returned: int = 0
    durable: int = 0
    remote: int = 0
    trims: list[int] = field(default_factory=lambda: [0])
    trimmed: int = 0


class Facts:
    """Of all streams.

    Attributes:
        streams: By name.
        objects: Which of the store's states holds.
    """

    def __init__(self) -> None:
        self.streams: dict[str, StreamFacts] = {}
        self.objects = 0

    def learn(self, text: bytes) -> None:
        """What `tell` put into the log."""
        told = json.loads(text)
        what, name, value = told
        if what == "objects":
            self.objects = value
            return
        stream = self.streams.setdefault(name, StreamFacts())
        if what == "recovered":
            stream.issued = stream.returned = stream.durable = value
        elif what == "trims":
            stream.trims.append(value)
        else:
            setattr(stream, what, max(getattr(stream, what), value))

    def lose_power(self) -> None:
        """Of what no flush had covered, nothing is promised any more."""
        for stream in self.streams.values():
            stream.returned = stream.durable

    def copy(self) -> Facts:
        """Facts that go their own way from here."""
        return copy.deepcopy(self)


def tell(what: str, stream: str, value: int) -> None:
    """Put a fact into the log of the seam: `issued`, `returned`, `durable`, `remote`, `trims`,
    `trimmed`, `recovered`, or `objects`."""
    seamlog.mark(b"fact", json.dumps([what, stream, value]).encode())
