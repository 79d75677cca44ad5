"""Epochs and their claims: who may publish, decided by objects that are created once.

Claims are numbered from 1 without a gap, because each is made right above one that exists, and none
is ever deleted. So one question, *is there a claim right above mine*, tells a replaced writer. Any
object under a claim's key takes the epoch, also a damaged one.
"""

from __future__ import annotations

from collections.abc import Iterable

from aof2.errors import Fenced, ManifestCorrupt, UploadFailed
from aof2.manifest.bucket import EPOCH_MAX, BucketKeys
from aof2.manifest.notes import Claim, get_note, put_note
from aof2.objectstore import ObjectStore
from aof2.types import StreamIdentity

_TRIES = 1000


def claim(
    store: ObjectStore, identity: StreamIdentity, *, hint: int, nonce: bytes, claimed_ns: int
) -> int:
    """Claim the next epoch.

    Args:
        identity: The stream; its `root_id` goes into the claim.
        hint: An epoch that is known to be claimed, best the highest; 0: none is known.
        nonce: 16 random bytes, drawn once for all tries of this open.
        claimed_ns: Time stamp, for people.

    Returns:
        The epoch. From now on everybody below is fenced. Two requests; two more for each claim
        above the hint. After a failure it may be called again, with the same nonce.

    Raises:
        UploadFailed, FetchFailed, Tier2Auth, Tier2Unavailable: The store failed.
    """
    keys = BucketKeys(identity)
    for epoch in range(hint + 1, min(hint + _TRIES, EPOCH_MAX) + 1):
        key = keys.claim(epoch)
        ours = Claim(epoch, nonce, identity.root_id, claimed_ns)
        failure = None
        try:
            put_note(store, key, ours.encode(identity.uuid))
        except UploadFailed as error:
            failure = error
        # Read back in any case: a reply may have been lost, and a store may be weaker than it says.
        holder = _nonce_of(store, key, identity)
        if holder == nonce:
            return epoch
        if holder is None:
            raise failure or UploadFailed(
                "the claim was stored, but is not there; the store does not keep its promises",
                path=key,
            )
    raise UploadFailed(f"no free epoch within {_TRIES} above {hint}", path=keys.claim(hint))


def highest_claim(store: ObjectStore, identity: StreamIdentity, *, hint: int) -> int:
    """The highest epoch that is claimed, 0 when none is.

    Args:
        hint: As for `claim`. One request for each claim above it, and one more.
    """
    keys = BucketKeys(identity)
    epoch = hint
    while _exists(store, keys.claim(epoch + 1)):
        epoch += 1
    return epoch


def assert_not_fenced(store: ObjectStore, identity: StreamIdentity, epoch: int) -> None:
    """Make sure that nobody has claimed an epoch above ours; one request.

    What was published before this call began, and only that, is in the stream for good.

    Raises:
        Fenced: Somebody has; `.epoch` is theirs.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed, and nothing is known.
    """
    key = BucketKeys(identity).claim(epoch + 1)
    if _exists(store, key):
        raise fenced(epoch + 1, key)


def check_claims_ours(store: ObjectStore, identity: StreamIdentity, epochs: Iterable[int]) -> None:
    """Make sure that only this root has claimed some epochs; one request for each.

    Raises:
        Fenced: Another root has claimed one, or its claim cannot be read.
        FetchFailed, Tier2Auth, Tier2Unavailable: The store failed, and nothing is known.
    """
    keys = BucketKeys(identity)
    for epoch in epochs:
        key = keys.claim(epoch)
        try:
            data = get_note(store, key)
            claimed = None if data is None else Claim.decode(data, uuid=identity.uuid, key=key)
        except ManifestCorrupt as error:
            raise fenced(epoch, key) from error
        if claimed is not None and claimed.root_id != identity.root_id:
            raise fenced(epoch, key)


def fenced(epoch: int, key: str) -> Fenced:
    """The error for a writer that another one has replaced."""
    return Fenced(
        f"another writer took the stream over with epoch {epoch}; nothing more is published from "
        "here. Stop this writer; to go on here, move the stream's directory aside and open the "
        "root again",
        epoch=epoch,
        path=key,
    )


def _exists(store: ObjectStore, key: str) -> bool:
    try:
        return get_note(store, key) is not None
    except ManifestCorrupt:
        return True


def _nonce_of(store: ObjectStore, key: str, identity: StreamIdentity) -> bytes | None:
    """Whose claim it is; empty when that is unreadable, None when there is none."""
    try:
        data = get_note(store, key)
        return None if data is None else Claim.decode(data, uuid=identity.uuid, key=key).nonce
    except ManifestCorrupt:
        return b""
