"""What a root remembers of its manifest's publication: a hint that saves requests and keeps chunks.

`published.json` is written after each publication and never required: what it says was true when
it was written, and stays true.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from aof2._core.directory import Directory

REMEMBERED_NAME = "published.json"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What tier 2 has of a stream's manifest.

    Attributes:
        epoch: Epoch that published last.
        chunk_id: Newest published chunk.
        remote_offset: Offset below which every record is in objects that published chunks name.
    """

    epoch: int
    chunk_id: int
    remote_offset: int


def read_remembered(directory: Directory) -> Remembered | None:
    """The hint; None where there is none, or none that can be read."""
    try:
        fields = json.loads(directory.read(REMEMBERED_NAME, limit=4096))
        found = Remembered(
            int(fields["epoch"]), int(fields["chunk_id"]), int(fields["remote_offset"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        # Only a hint: the bucket is asked instead.
        return None
    return found if min(asdict(found).values()) >= 0 else None


def write_remembered(directory: Directory, remembered: Remembered) -> None:
    """Remember a publication."""
    directory.replace(REMEMBERED_NAME, json.dumps(asdict(remembered)).encode())
