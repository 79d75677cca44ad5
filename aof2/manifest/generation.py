"""Which stream a name stands for in a bucket: the highest generation, or nobody after a tombstone.

A name's generations are objects that are created once. So of several roots that create a stream
of one name at the same time one wins, and the others join it.
"""

from __future__ import annotations

from aof2._core.checksum import crc64nvme
from aof2.errors import ManifestCorrupt, UploadFailed
from aof2.manifest.bucket import current_key, list_current, named_key
from aof2.manifest.notes import decode_current, encode_current, get_note, put_note
from aof2.objectstore import ObjectStore


def find_stream(store: ObjectStore, directory: str) -> tuple[int, bytes | None]:
    """Look a stream up by the name of its directory.

    Returns:
        `(generation, uuid)` of the newest. Generation 0: there never was one; uuid None: it was
        deleted. One listing; one more request where the uuid is not in a name as well.

    Raises:
        ManifestCorrupt: The object of that generation is damaged.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
    """
    generations = list_current(store, directory)
    if not generations:
        return 0, None
    newest = max(generations)
    named = generations[newest]
    if len(named) == 1:
        return newest, named[0]
    found, uuid = _read(store, directory, newest)
    if not found:
        raise ManifestCorrupt(
            "listed, but not there: the store is changing under us, or does not list what it has",
            path=current_key(directory, newest),
        )
    return newest, uuid


def create_stream(store: ObjectStore, directory: str, uuid: bytes, generation: int) -> bytes | None:
    """Make a generation of a name.

    Args:
        uuid: 16 bytes, random.
        generation: One more than `find_stream` found.

    Returns:
        The uuid that the generation has: `uuid`, or that of whoever was faster; None: a tombstone.
        Running it again ends the same.

    Raises:
        UploadFailed, FetchFailed, Tier2Auth, Tier2Unavailable: The store failed; run it again.
        ManifestCorrupt: The winner's object is damaged.
    """
    winner: bytes | None = uuid
    try:
        put_note(store, current_key(directory, generation), encode_current(uuid))
    except UploadFailed:
        found, winner = _read(store, directory, generation)
        if not found:
            raise
    if winner is not None:
        # Only after the object that decides; a crash in between costs every reader one request.
        name = named_key(directory, generation, winner)
        store.put(name, b"", crc64=crc64nvme(b""))
    return winner


def agree_on_uuid(store: ObjectStore, directory: str, uuid: bytes) -> bytes:
    """The uuid that a name stands for; ours, if it stood for none.

    Raises:
        As `find_stream` and `create_stream`.
    """
    while True:
        generation, found = find_stream(store, directory)
        if found is None:
            found = create_stream(store, directory, uuid, generation + 1)
        if found is not None:
            return found


def bury_stream(store: ObjectStore, directory: str, generation: int) -> None:
    """Say that the stream of a name was deleted, by a tombstone as its newest generation.

    Args:
        generation: One more than `find_stream` found.

    Raises:
        UploadFailed: Another root made this generation, or the store failed.
        Tier2Auth, Tier2Unavailable: The store failed.
    """
    put_note(store, current_key(directory, generation), encode_current(None))


def _read(store: ObjectStore, directory: str, generation: int) -> tuple[bool, bytes | None]:
    key = current_key(directory, generation)
    data = get_note(store, key)
    return (False, None) if data is None else (True, decode_current(data, key=key))
